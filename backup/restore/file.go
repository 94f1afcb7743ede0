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

// outFile is a file that is written as its chunks come, in any order and several at
// a time.
type outFile struct {
	x   *restorer
	dir *outDir
	e   *tree.Entry

	left   atomic.Int32 // chunks to come
	failed atomic.Bool
	kept   bool // it was there and stays: only verified
	over   bool // it is written under its tempName, and renamed over what is there
	mu     sync.Mutex
	fd     int // -1: not open
	users  int // of fd
	made   bool
	ino    uint64 // of what was made under its tempName
}

// write puts one chunk in its place. The last one completes the file.
func (f *outFile) write(off int64, data []byte) {
	fd, err := f.acquire()
	if err == nil {
		err = posix.WriteAt(fd, data, off)
	}
	if err != nil {
		f.giveUp(err)
	} else {
		f.x.doneBytes.Add(int64(len(data)))
	}
	last := f.left.Add(-1) == 0
	if last && !f.failed.Load() {
		f.complete(fd)
	}
	if fd >= 0 {
		f.release(last)
	}
}

// complete gives a file of which all is written its size and metadata.
func (f *outFile) complete(fd int) {
	if len(f.e.Holes) > 0 {
		if err := unix.Ftruncate(fd, f.e.Size); err != nil {
			f.giveUp(fmt.Errorf("setting the size: %w", err))
			return
		}
	}
	apply := posix.Apply
	if f.dir.ours {
		apply = posix.ApplyNew
	}
	if err := apply(fd, f.e); err != nil {
		f.x.log.Warn(join(f.dir.path, f.e.Name), err)
	}
	if f.over {
		if err := f.x.dirs.with(f.dir, func(dirfd int) error { return f.replace(dirfd) }); err != nil {
			f.giveUp(fmt.Errorf("replacing what is there: %w", err))
			return
		}
	}
	f.x.doneFiles.Add(1)
}

// maxOpenFiles is how many unfinished files are kept open.
const maxOpenFiles = 200

// errGivenUp is that of a file which was reported already.
var errGivenUp = errors.New("the file was given up")

// acquire opens the file and counts a use; without one fd is -1.
func (f *outFile) acquire() (fd int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed.Load() {
		return -1, errGivenUp
	}
	if f.fd < 0 {
		err = f.x.dirs.with(f.dir, func(dirfd int) (err error) { f.fd, err = f.open(dirfd); return err })
		if err != nil {
			f.fd = -1
			return -1, fmt.Errorf("opening: %w", err)
		}
		f.made = true
		f.x.openFiles.Add(1)
	}
	f.users++
	return f.fd, nil
}

func (f *outFile) open(dirfd int) (fd int, err error) {
	switch {
	case f.over:
		return f.openTemp(dirfd)
	case f.made:
		return posix.Reopen(dirfd, f.e.Name)
	}
	return posix.Create(dirfd, f.e.Name)
}

func (f *outFile) release(last bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.users--; f.users == 0 && (last || f.failed.Load() || f.x.openFiles.Load() > maxOpenFiles) {
		f.close()
	}
}

// close closes the file, if it is open. f.mu is held.
func (f *outFile) close() {
	if f.fd >= 0 {
		unix.Close(f.fd)
		f.fd = -1
		f.x.openFiles.Add(-1)
	}
}

// abandon closes what a restore that ends early leaves unfinished, and removes what
// was to replace something. Nothing writes any more.
func (x *restorer) abandon() {
	for _, f := range x.batch {
		f.mu.Lock()
		f.close()
		if f.over && f.made && f.left.Load() > 0 && !f.failed.Load() {
			if err := f.remove(); err != nil {
				x.log.Warn(join(f.dir.path, f.name()), err)
			}
		}
		f.mu.Unlock()
	}
}

// giveUp reports a file that cannot be restored and removes what there is of it:
// half a file that looks whole is worse than none.
func (f *outFile) giveUp(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed.Swap(true) {
		return
	}
	if f.users == 0 {
		f.close()
	}
	if f.made {
		err = errors.Join(err, f.remove())
	}
	f.x.log.Failed(join(f.dir.path, f.e.Name), err)
}

// remove removes what there is of an unfinished file.
func (f *outFile) remove() error {
	return f.x.dirs.with(f.dir, func(fd int) error { return posix.Remove(fd, f.name(), false) })
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
	bad := wants[0].seg
	for len(wants) > 0 && (wants[0].seg == bad || errors.Is(err, store.ErrNotExist)) {
		wants[0].f.giveUp(err)
		wants = wants[1:]
	}
	return wants
}

// stream reads the segments that are wanted in one go and returns the wants that
// were not served.
func (f *fetcher) stream(ctx context.Context, info table.Info, wants []want) ([]want, error) {
	first, last := info.Segments[wants[0].seg], info.Segments[wants[len(wants)-1].seg]
	at := int64(first.Off)
	body, err := f.x.st.OpenRange(ctx, info.Name, info.Size, at, int64(last.Off)+int64(last.Stored))
	if err != nil {
		return wants, err
	}
	defer body.Close()
	for len(wants) > 0 {
		seg := wants[0].seg
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
		for len(wants) > 0 && wants[0].seg == seg {
			w := wants[0]
			part := data[w.at : w.at+w.len]
			if f.hash.Sum(part) != w.id {
				return wants, fmt.Errorf("chunk %s: %w", w.id, store.ErrCorrupt)
			}
			w.f.write(w.off, part)
			wants = wants[1:]
		}
	}
	return nil, nil
}
