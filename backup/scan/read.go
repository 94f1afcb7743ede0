package scan

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"coffer/backup/chunk"
	"coffer/backup/posix"
	"coffer/backup/store"
	"coffer/backup/tree"
)

const (
	readAttempts    = 3   // for a file that changes while it is read
	filesPerSegment = 512 // so that a file is not kept waiting for others
)

// reader reads files, cuts them into chunks, and makes jobs of them.
type reader struct {
	*run
	cut    *chunk.Cutter
	window []byte
	small  [2]*store.Job // segments of small files: those that compress, those that do not
}

func (n *run) newReader() *reader {
	cut := n.st.Cutter()
	return &reader{run: n, cut: cut, window: make([]byte, 0, cut.Params().Max*3/2)}
}

// loop reads what is asked for. After an error it only releases what it gets.
func (r *reader) loop(tasks <-chan task) error {
	var err error
	for t := range tasks {
		if err == nil {
			r.current.Store(t.n)
			err = r.file(t)
		}
		t.n.release()
	}
	for _, j := range r.small {
		if err == nil && j != nil {
			err = r.w.Submit(j)
		}
	}
	return err
}

// file reads one file; again if it changes meanwhile.
func (r *reader) file(t task) error {
	e := &t.n.entries[t.slot]
	path := join(t.n.path, e.Name)
	fd, err := posix.OpenFile(t.n.fd, e.Name)
	if err != nil {
		return r.unreadable(t, path, err)
	}
	defer unix.Close(fd)
	for attempt := 1; ; attempt++ {
		var before, after unix.Stat_t
		if err := unix.Fstat(fd, &before); err != nil {
			return r.unreadable(t, path, err)
		}
		if before.Mode&unix.S_IFMT != unix.S_IFREG {
			return r.unreadable(t, path, errors.New("is not a regular file any more"))
		}
		c, size, err := r.attempt(t, fd, &before)
		if fatal := (*stopError)(nil); errors.As(err, &fatal) {
			return fatal.err
		}
		if err != nil {
			return r.unreadable(t, path, err)
		}
		if err := unix.Fstat(fd, &after); err != nil {
			return r.unreadable(t, path, err)
		}
		changed := size != before.Size || before.Mtim != after.Mtim || before.Ctim != after.Ctim || before.Size != after.Size
		if changed && attempt < readAttempts {
			if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
				return r.unreadable(t, path, err)
			}
			continue
		}
		r.describe(e, &after, size)
		if e.Xattrs, err = posix.Xattrs(fd); err != nil {
			r.log.Warn(path, err)
		}
		if changed {
			e.Flags |= tree.Changed
			r.unstable.Store(true)
			r.log.Warn(path, errors.New("changed while it was read"))
		}
		c.valid = true
		return c.ChunkDone()
	}
}

// describe brings an entry to what was read, which may differ from what the
// scanner saw.
func (r *reader) describe(e *tree.Entry, st *unix.Stat_t, size int64) {
	name, device := e.Name, e.Device
	r.allBytes.Add(size - e.Size)
	*e = tree.Entry{Name: name, Device: device}
	posix.Fill(e, st)
	e.Size = size
	if e.Flags&tree.Linked == 0 {
		e.Device = 0
	}
	r.distrust(e, time.Now())
}

// unreadable keeps the entry of a file without its content, or drops one that
// has vanished.
func (r *reader) unreadable(t task, path string, err error) error {
	e := &t.n.entries[t.slot]
	r.allBytes.Add(-e.Size)
	if errors.Is(err, fs.ErrNotExist) {
		*e = tree.Entry{}
		r.files.Add(-1)
	} else {
		e.Flags |= tree.Missing
		e.Size = 0
		r.log.Failed(path, err)
	}
	r.allFiles.Add(-1)
	return t.n.childDone()
}

// stopError wraps an error that ends the run, to tell it from those of one file.
type stopError struct{ err error }

func (e *stopError) Error() string { return e.err.Error() }

// attempt reads the file once, up to the size it had before, and returns how
// many bytes it found.
func (r *reader) attempt(t task, fd int, st *unix.Stat_t) (*content, int64, error) {
	p := r.cut.Params()
	if st.Size <= int64(p.Min) {
		return r.readSmall(t, fd, st.Size)
	}
	var holes []tree.Hole
	if st.Blocks*512 < st.Size {
		var err error
		if holes, err = posix.Holes(fd, st.Size); err != nil {
			return nil, 0, err
		}
	}
	c := newContent(t, int(st.Size/int64(p.Min))+len(holes)+2)
	c.holes = holes
	at := int64(0)
	for i := 0; i <= len(holes); i++ {
		end := st.Size
		if i < len(holes) {
			end = holes[i].Off
		}
		if end > at {
			n, err := r.extent(c, fd, end-at)
			if err != nil || n < end-at {
				c.holes = holes[:i] // the file has become shorter
				return c, at + n, err
			}
		}
		if i < len(holes) {
			at = end + holes[i].Len
			if _, err := unix.Seek(fd, at, unix.SEEK_SET); err != nil {
				return nil, 0, fmt.Errorf("seeking: %w", err)
			}
		}
	}
	return c, st.Size, nil
}

// readSmall adds a file that is one chunk to a segment.
func (r *reader) readSmall(t task, fd int, size int64) (*content, int64, error) {
	c := newContent(t, 1)
	if size == 0 {
		return c, 0, nil
	}
	b := r.window[:size]
	n, err := posix.Read(fd, b)
	if err != nil || n == 0 {
		return c, 0, err
	}
	b = b[:n]
	r.read.Add(int64(n))
	kind := 0
	if r.o.NoCompress || chunk.Flat(b) {
		kind = 1
	}
	j := r.small[kind]
	if j != nil && (len(j.Raw)+n > r.st.Segment() || len(j.Chunks) >= filesPerSegment) {
		r.small[kind] = nil
		if err := r.w.Submit(j); err != nil {
			return nil, 0, &stopError{err}
		}
		j = nil
	}
	if j == nil {
		j = &store.Job{Raw: r.w.Buffer(max(r.st.Segment(), n)), Flat: kind == 1}
		r.small[kind] = j
	}
	j.Chunks = append(j.Chunks, store.Piece{Off: len(j.Raw), Len: n, Out: c.next(), Done: c})
	j.Raw = append(j.Raw, b...)
	return c, int64(n), nil
}

// extent reads n bytes and cuts them into chunks, and returns how many there were.
func (r *reader) extent(c *content, fd int, n int64) (int64, error) {
	var got int64 // read
	most := r.cut.Params().Max
	win, start := r.window[:0], 0
	for {
		if got < n && len(win)-start < most {
			kept := copy(win[:cap(win)], win[start:])
			start = 0
			room := int(min(int64(cap(win)-kept), n-got))
			win = win[:kept+room]
			k, err := posix.Read(fd, win[kept:])
			if err != nil {
				return got, err
			}
			win = win[:kept+k]
			got += int64(k)
			r.read.Add(int64(k))
			if k < room {
				n = got // shorter than it was
			}
		}
		if start == len(win) {
			return got, nil
		}
		k := r.cut.Cut(win[start:])
		data := win[start : start+k]
		j := &store.Job{Raw: append(r.w.Buffer(k), data...), Flat: r.o.NoCompress || chunk.Flat(data)}
		j.Chunks = []store.Piece{{Len: k, Out: c.next(), Done: c}}
		if err := r.w.Submit(j); err != nil {
			return got, &stopError{err}
		}
		start += k
	}
}
