package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// errLong is a body with more bytes than its size said.
var errLong = errors.New("body is longer than its size")

// cutRange turns the range of a Get into one within an object of size bytes.
func cutRange(off, n, size int64) (int64, int64) {
	if off < 0 {
		off = max(size+off, 0)
	}
	off = min(off, size)
	if n < 0 || n > size-off {
		n = size - off
	}
	return off, n
}

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// copyBody writes size bytes of body, or all if size is -1, to w.
func copyBody(ctx context.Context, w io.Writer, body io.Reader, size int64) (int64, error) {
	if b, ok := body.(*bytes.Reader); ok && (size < 0 || size == int64(b.Len())) {
		return b.WriteTo(w) // one call, no copy
	}
	if body == nil {
		body = bytes.NewReader(nil)
	}
	if size == 0 {
		return 0, atEnd(body, nil)
	}
	if size > 0 {
		body = &exactReader{r: body, left: size}
	}
	buffer := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buffer)
	var total int64
	for {
		if err := ctx.Err(); err != nil {
			return total, err
		}
		n, end, err := fill(body, *buffer)
		if err != nil {
			return total, fmt.Errorf("reading the body: %w", err)
		}
		if _, err := w.Write((*buffer)[:n]); err != nil {
			return total, err
		}
		if total += int64(n); end {
			return total, nil
		}
	}
}

// fill reads until buffer is full or r ends. Unlike io.ReadFull it tells the end
// from a reader that fails with io.ErrUnexpectedEOF, as a cut HTTP body does.
func fill(r io.Reader, buffer []byte) (n int, end bool, err error) {
	for idle := 0; n < len(buffer); idle++ {
		m, err := r.Read(buffer[n:])
		n += m
		switch {
		case err == io.EOF:
			return n, true, nil
		case err != nil:
			return n, false, err
		case m > 0:
			idle = 0
		case idle > 100:
			return n, false, io.ErrNoProgress
		}
	}
	return n, false, nil
}

// copyRange writes the first size bytes of src to w; the file system may share
// them instead.
func copyRange(ctx context.Context, w *os.File, src *os.File, size int64) error {
	const step = 64 << 20 // so that ctx is looked at
	for off := int64(0); off < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := src.Seek(off, io.SeekStart); err != nil {
			return err
		}
		n, err := w.ReadFrom(io.LimitReader(src, min(step, size-off)))
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		off += n
	}
	return nil
}

// errShort is a body with fewer bytes than its size said. It is also
// io.ErrUnexpectedEOF.
var errShort = fmt.Errorf("body is shorter than its size: %w", io.ErrUnexpectedEOF)

// exactReader gives exactly left bytes of r, then io.EOF. When r has fewer or
// more, it fails before the last byte is given, so that a receiver who counts
// never has a whole body.
type exactReader struct {
	r    io.Reader
	left int64
	err  error // of r, or errShort or errLong; io.EOF aside
}

func (e *exactReader) Read(p []byte) (int, error) {
	if e.err != nil {
		return 0, e.err
	}
	if e.left == 0 {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := e.r.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	if e.left == 0 {
		if e.err = atEnd(e.r, err); e.err != nil {
			return 0, e.err
		}
		return n, nil
	}
	if err == io.EOF {
		err = errShort
	}
	e.err = err
	return n, err
}

// atEnd makes sure that r, whose last Read returned err, has no more bytes.
func atEnd(r io.Reader, err error) error {
	var b [1]byte
	for tries := 0; err == nil; tries++ {
		var n int
		n, err = r.Read(b[:])
		if n > 0 {
			return errLong
		}
		if tries == 100 {
			return io.ErrNoProgress
		}
	}
	if err != io.EOF {
		return err
	}
	return nil
}
