package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"coffer/backup/posix"
	"coffer/backup/store"
)

// pieceSpans is how many parts of a file are verified in one go.
const pieceSpans = 64

// piece is a part of a file that is to be verified.
type piece struct {
	f     *outFile
	spans []store.Span
}

// errKept is said of a file that no mode of overwriting but one replaces.
var errKept = errors.New("it was there already, with the size and time of the one in the snapshot: only replacing always restores it")

// verify reads what was restored of the batch again, and what was there already, on
// all cores.
func (x *restorer) verify(ctx context.Context) error {
	pieces := make(chan piece)
	var wg sync.WaitGroup
	for range x.st.Workers() {
		wg.Go(func() {
			hash, buf := x.st.Hasher(), make([]byte, x.st.Cutter().Params().Max)
			for p := range pieces {
				err := p.verify(buf, func(b []byte, s store.Span) bool { return hash.Sum(b) == s.ID })
				if err != nil && p.f.kept {
					err = fmt.Errorf("%w; %w", err, errKept)
				}
				if err != nil && !p.f.failed.Swap(true) {
					x.log.Failed(join(p.f.dir.path, p.f.e.Name), fmt.Errorf("verifying: %w", err))
				}
			}
		})
	}
	defer wg.Wait()
	defer close(pieces)
	for _, f := range x.batch {
		if err := ctx.Err(); err != nil {
			return err
		}
		if f.failed.Load() {
			continue
		}
		spans, err := x.st.Spans(ctx, f.e)
		if err != nil {
			return fmt.Errorf("verifying %s: %w", join(f.dir.path, f.e.Name), err)
		}
		for len(spans) > 0 {
			n := min(len(spans), pieceSpans)
			pieces <- piece{f, spans[:n]}
			spans = spans[n:]
		}
	}
	return nil
}

// verify reads the data of a piece into buf, which has room for the longest chunk.
func (p piece) verify(buf []byte, right func([]byte, store.Span) bool) error {
	return p.f.x.dirs.with(p.f.dir, func(dirfd int) error {
		fd, err := posix.OpenFile(dirfd, p.f.e.Name)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, s := range p.spans {
			if s.Hole {
				if err := verifyHole(fd, s, buf); err != nil {
					return err
				}
				continue
			}
			if _, err := unix.Seek(fd, s.Off, unix.SEEK_SET); err != nil {
				return err
			}
			b := buf[:s.Len]
			n, err := posix.Read(fd, b)
			if err != nil {
				return err
			}
			if n < len(b) || !right(b, s) {
				return differ(s)
			}
		}
		return nil
	})
}

func differ(s store.Span) error {
	return fmt.Errorf("bytes %d to %d are not what was backed up", s.Off, s.Off+s.Len)
}

// verifyHole reads what has been written in a hole, which must be zeros.
func verifyHole(fd int, s store.Span, buf []byte) error {
	for at, end := s.Off, s.Off+s.Len; at < end; {
		data, err := unix.Seek(fd, at, unix.SEEK_DATA)
		if err == unix.ENXIO || err == nil && data >= end { // nothing was written any more
			return nil
		}
		if err != nil {
			return err
		}
		b := buf[:min(int64(len(buf)), end-data)]
		n, err := posix.Read(fd, b)
		if err != nil {
			return err
		}
		if n < len(b) || len(bytes.TrimLeft(b, "\x00")) > 0 {
			return differ(s)
		}
		at = data + int64(n)
	}
	return nil
}
