package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"coffer/backup/chunk"
	"coffer/backup/pack"
	"coffer/backup/posix"
	"coffer/backup/store"
	"coffer/backup/table"
	"coffer/backup/tree"
	"coffer/upstream"
)

// outFile is a file that is written as its chunks come, in any order.
type outFile struct {
	x    *restorer
	dir  *outDir
	e    *tree.Entry
	kept bool // it was there already

	left   atomic.Int32 // chunks to come
	failed atomic.Bool
	mu     sync.Mutex
	fd     int // -1: not open
	made   bool
}

// write puts one chunk in its place. The last one completes the file.
func (f *outFile) write(off int64, data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := f.left.Add(-1) == 0
	if f.failed.Load() {
		return
	}
	err := f.x.dirs.with(f.dir, func(dirfd int) error {
		if err := f.open(dirfd); err != nil {
			return err
		}
		if err := posix.WriteAt(f.fd, data, off); err != nil {
			return err
		}
		if !last {
			return nil
		}
		if len(f.e.Holes) > 0 {
			if err := unix.Ftruncate(f.fd, f.e.Size); err != nil {
				return fmt.Errorf("setting the size: %w", err)
			}
		}
		apply := posix.Apply
		if f.dir.ours {
			apply = posix.ApplyNew
		}
		if err := apply(f.fd, f.e); err != nil {
			f.x.log.Warn(join(f.dir.path, f.e.Name), err)
		}
		return nil
	})
	if err != nil {
		f.giveUp(err)
		return
	}
	f.x.doneBytes.Add(int64(len(data)))
	if last {
		f.x.doneFiles.Add(1)
	}
	if last || f.x.openFiles.Load() > maxOpenFiles {
		f.close()
	}
}

// maxOpenFiles is how many unfinished files are kept open.
const maxOpenFiles = 200

func (f *outFile) open(dirfd int) (err error) {
	switch {
	case f.fd >= 0:
		return nil
	case f.made:
		f.fd, err = posix.Reopen(dirfd, f.e.Name)
	default:
		f.fd, err = posix.Create(dirfd, f.e.Name)
	}
	if err != nil {
		f.fd = -1
		return fmt.Errorf("opening: %w", err)
	}
	f.made = true
	f.x.openFiles.Add(1)
	return nil
}

func (f *outFile) close() {
	if f.fd >= 0 {
		unix.Close(f.fd)
		f.fd = -1
		f.x.openFiles.Add(-1)
	}
}

// giveUp reports a file that cannot be restored and removes what there is of it:
// half a file that looks whole is worse than none. f.mu is held.
func (f *outFile) giveUp(err error) {
	if f.failed.Swap(true) {
		return
	}
	f.close()
	if f.made {
		err = errors.Join(err, f.x.dirs.with(f.dir, func(fd int) error { return posix.Remove(fd, f.e.Name, false) }))
	}
	f.x.log.Failed(join(f.dir.path, f.e.Name), err)
}

// fetcher reads packs and gives files their chunks. It serves one goroutine.
type fetcher struct {
	x      *restorer
	z      *pack.Decompressor
	hash   *chunk.Hasher
	stored []byte
	plain  []byte
}

func (x *restorer) newFetcher() *fetcher {
	return &fetcher{x: x, z: pack.NewDecompressor(), hash: x.st.Hasher()}
}

// packAttempts is how often a pack is asked for whose stream breaks off.
const packAttempts = 3

// pack serves all wants of a pack, which are sorted by segment. An error ends the
// restore; what is wrong with this pack alone is reported for each file.
func (f *fetcher) pack(ctx context.Context, n pack.Name, wants []want) error {
	info, err := f.x.st.Pack(n)
	if err != nil {
		return err
	}
	for attempt := 1; len(wants) > 0; attempt++ {
		rest, err := f.stream(ctx, info, wants)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if len(rest) < len(wants) {
			attempt = 1
		}
		wants = rest
		if errors.Is(err, upstream.ErrUnavailable) && attempt < packAttempts {
			continue
		}
		if errors.Is(err, upstream.ErrUnavailable) {
			return store.Damaged(store.PackName(info.Name), err)
		}
		wants = f.spoilt(info, wants, err)
	}
	return nil
}

// spoilt reports the files that need a segment which cannot be had, and returns
// the wants of the segments after it. If the pack is gone as a whole, it gives up
// all of them.
func (f *fetcher) spoilt(info table.Info, wants []want, err error) []want {
	err = store.Damaged(store.PackName(info.Name), err)
	bad := wants[0].loc.Segment
	for len(wants) > 0 && (wants[0].loc.Segment == bad || errors.Is(err, store.ErrNotExist)) {
		w := wants[0].f
		w.mu.Lock()
		w.giveUp(err)
		w.mu.Unlock()
		wants = wants[1:]
	}
	return wants
}

// stream reads the segments that are wanted in one go and returns the wants that
// were not served.
func (f *fetcher) stream(ctx context.Context, info table.Info, wants []want) ([]want, error) {
	first, last := info.Segments[wants[0].loc.Segment], info.Segments[wants[len(wants)-1].loc.Segment]
	body, at, err := f.x.st.OpenRange(ctx, info.Name, info.Size, int64(first.Off), int64(last.Off)+int64(last.Stored))
	if err != nil {
		return wants, err
	}
	defer body.Close()
	for len(wants) > 0 {
		seg := wants[0].loc.Segment
		place := info.Segments[seg]
		if _, err := io.CopyN(io.Discard, body, int64(place.Off)-at); err != nil {
			return wants, store.NoEOF(err)
		}
		if cap(f.stored) < int(place.Stored) {
			f.stored = make([]byte, place.Stored)
		}
		f.stored = f.stored[:place.Stored]
		if _, err := io.ReadFull(body, f.stored); err != nil {
			return wants, store.NoEOF(err)
		}
		at = int64(place.Off) + int64(place.Stored)
		f.x.received.Add(int64(place.Stored))
		data := f.stored
		if place.Compressed {
			if f.plain, err = f.z.Decompress(f.plain[:0], f.stored, int(place.Plain)); err != nil {
				return wants, err
			}
			data = f.plain
		}
		for len(wants) > 0 && wants[0].loc.Segment == seg {
			w := wants[0]
			part := data[w.loc.Off : w.loc.Off+w.loc.Len]
			if f.hash.Sum(part) != w.id {
				return wants, fmt.Errorf("chunk %s: %w", w.id, store.ErrCorrupt)
			}
			w.f.write(w.off, part)
			wants = wants[1:]
		}
	}
	return nil, nil
}

// verify reads everything that was restored again.
func (x *restorer) verify(ctx context.Context) error {
	buf := make([]byte, 0, x.st.Cutter().Params().Max)
	for _, f := range x.files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if f.failed.Load() {
			continue
		}
		if err := x.verifyFile(ctx, f, buf); err != nil {
			x.log.Failed(join(f.dir.path, f.e.Name), fmt.Errorf("verifying: %w", err))
		}
	}
	return nil
}

func (x *restorer) verifyFile(ctx context.Context, f *outFile, buf []byte) error {
	spans, err := x.st.Spans(ctx, f.e)
	if err != nil {
		return err
	}
	return x.dirs.with(f.dir, func(dirfd int) error {
		fd, err := posix.OpenFile(dirfd, f.e.Name)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, s := range spans {
			if s.Hole {
				if _, err := unix.Seek(fd, s.Off+s.Len, unix.SEEK_SET); err != nil {
					return err
				}
				continue
			}
			b := buf[:0]
			if int(s.Len) > cap(b) {
				b = make([]byte, s.Len)
			}
			b = b[:s.Len]
			if n, err := posix.Read(fd, b); err != nil || n < len(b) || x.st.Sum(b) != s.ID {
				return fmt.Errorf("bytes %d to %d are not what was backed up (%v)", s.Off, s.Off+s.Len, err)
			}
		}
		return nil
	})
}
