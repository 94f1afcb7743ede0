package upstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
)

// fanOut gives the bytes of body to fn for each mirror to write to. A body in
// memory or in a file is given to each as a reader that can begin again; of any
// other one, every mirror gets each piece before the next is read, so that the
// slowest sets the pace, and one that fails drops out.
func (m *Mirror) fanOut(ctx context.Context, body io.Reader, size int64, fn func(i int, r io.Reader) error) []error {
	if body == nil {
		body = bytes.NewReader(nil)
	}
	if at, start, ok := seekable(body); ok && size >= 0 {
		return m.each(func(i int) error { // one byte more, so that a body too long is seen
			return fn(i, io.NewSectionReader(at, start, size+1))
		})
	}
	use := m.targets()
	errs := make([]error, len(use))
	pipes := make([]*io.PipeWriter, len(use))
	var wg sync.WaitGroup
	for i := range use {
		if !use[i] {
			errs[i] = errSkipped
			continue
		}
		r, w := io.Pipe()
		pipes[i] = w
		wg.Go(func() {
			errs[i] = fn(i, onlyReader{r})
			// A mirror that has failed takes no more; one that is done has read all.
			_ = r.CloseWithError(errDropped) // never fails
		})
	}
	err := pump(ctx, body, pipes)
	for _, w := range pipes {
		if w != nil {
			_ = w.CloseWithError(err) // nil is the end; never fails
		}
	}
	wg.Wait()
	return errs
}

var errDropped = errors.New("mirror takes no more")

// seekable returns body as an io.ReaderAt and where it stands, if it is one.
func seekable(body io.Reader) (io.ReaderAt, int64, bool) {
	at, ok := body.(io.ReaderAt)
	seeker, ok2 := body.(io.Seeker)
	if !ok || !ok2 {
		return nil, 0, false
	}
	start, err := seeker.Seek(0, io.SeekCurrent)
	return at, start, err == nil
}

// pump copies body into all pipes until it ends or nobody reads any more. Its
// error is that of the body.
func pump(ctx context.Context, body io.Reader, pipes []*io.PipeWriter) error {
	buffer := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buffer)
	open := make([]bool, len(pipes))
	for {
		n, end, err := fill(body, *buffer)
		if err != nil {
			return err
		}
		left := 0
		var wg sync.WaitGroup
		for i, w := range pipes {
			if w == nil || n == 0 { // a pipe waits even for a reader of nothing
				continue
			}
			wg.Go(func() {
				_, err := w.Write((*buffer)[:n])
				open[i] = err == nil
			})
		}
		wg.Wait()
		for _, o := range open {
			if o {
				left++
			}
		}
		if end || left == 0 {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}
