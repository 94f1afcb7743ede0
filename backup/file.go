package backup

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	"coffer/backup/store"
	"coffer/backup/tree"
)

// File is a file of a snapshot, for reading at any place. What it yields is
// verified. It is safe for concurrent use.
type File struct {
	r     *Repo
	name  string
	size  int64
	spans []store.Span

	mu   sync.Mutex
	at   int    // span whose data follows
	data []byte // the chunk that was read last: neighbouring reads are of the same one
}

func (r *Repo) open(ctx context.Context, s *Snapshot, name string, e *tree.Entry) (*File, error) {
	if e.Type != tree.File {
		return nil, fmt.Errorf("%q in snapshot %.8s is a %s, not a file", name, s.ID, typeNames[e.Type])
	}
	if e.Flags&tree.Missing != 0 {
		return nil, fmt.Errorf("%q in snapshot %.8s could not be read when it was backed up: %w", name, s.ID, ErrNotExist)
	}
	spans, err := r.st.Spans(ctx, e)
	if err != nil {
		return nil, fmt.Errorf("%q in snapshot %.8s: %w", name, s.ID, err)
	}
	return &File{r: r, name: name, size: e.Size, spans: spans, at: -1}, nil
}

// Size is the length of the file.
func (f *File) Size() int64 { return f.size }

// Extent returns the end of the data, or of the hole, that off lies in, and which it
// is. off must lie in the file.
func (f *File) Extent(off int64) (end int64, hole bool) {
	i := f.span(off)
	hole = f.spans[i].Hole
	for ; i < len(f.spans) && f.spans[i].Hole == hole; i++ {
		end = f.spans[i].Off + f.spans[i].Len
	}
	return end, hole
}

// span is the number of the span that off lies in.
func (f *File) span(off int64) int {
	i, found := slices.BinarySearchFunc(f.spans, off, func(s store.Span, off int64) int {
		switch {
		case s.Off > off:
			return 1
		case s.Off+s.Len <= off:
			return -1
		}
		return 0
	})
	if !found {
		return len(f.spans)
	}
	return i
}

// ReadAt reads up to len(p) bytes from off on; fewer, with io.EOF, at the end.
func (f *File) ReadAt(ctx context.Context, p []byte, off int64) (n int, err error) {
	for n < len(p) {
		i := f.span(off)
		if i == len(f.spans) {
			return n, io.EOF
		}
		s := f.spans[i]
		part := p[n:min(int64(len(p)), int64(n)+s.Off+s.Len-off)]
		if s.Hole {
			clear(part)
		} else {
			data, err := f.chunk(ctx, i)
			if err != nil {
				return n, fmt.Errorf("%q: %w", f.name, err)
			}
			copy(part, data[off-s.Off:])
		}
		n += len(part)
		off += int64(len(part))
	}
	return n, nil
}

// chunk returns the data of a span. With the one before read last, those that
// follow are fetched with it.
func (f *File) chunk(ctx context.Context, i int) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at == i {
		return f.data, nil
	}
	data, err := f.r.st.Chunk(ctx, f.spans[i].ID, i > 0 && f.at == i-1)
	if err == nil {
		f.at, f.data = i, data
	}
	return data, err
}

// Child is an entry of a snapshot that knows where it is: what a file system holds
// in place of a path, which it would have to walk again and again.
type Child struct {
	Entry
	r *Repo
	s *Snapshot
	e tree.Entry
}

// Top is the directory at the top of a snapshot.
func (r *Repo) Top(s *Snapshot) *Child { return r.child(s, &s.root) }

func (r *Repo) child(s *Snapshot, e *tree.Entry) *Child { return &Child{entryOf(e), r, s, *e} }

// Children lists a directory in the byte order of the names. One that could not
// be read when it was backed up is ErrNotExist.
func (c *Child) Children(ctx context.Context) ([]*Child, error) {
	if err := c.directory(); err != nil {
		return nil, err
	}
	entries, err := c.r.st.Dir(ctx, c.e.Subtree)
	if err != nil {
		return nil, fmt.Errorf("%q in snapshot %.8s: %w", c.Name, c.s.ID, err)
	}
	all := make([]*Child, len(entries))
	for i := range entries {
		all[i] = c.r.child(c.s, &entries[i])
	}
	return all, nil
}

// Child finds a name in a directory.
func (c *Child) Child(ctx context.Context, name string) (*Child, error) {
	if err := c.directory(); err != nil {
		return nil, err
	}
	e, err := c.r.st.Child(ctx, c.e.Subtree, name)
	if err != nil {
		return nil, fmt.Errorf("%q in snapshot %.8s: %w", name, c.s.ID, err)
	}
	return c.r.child(c.s, &e), nil
}

func (c *Child) directory() error {
	switch {
	case c.e.Type != tree.Dir:
		return fmt.Errorf("%q in snapshot %.8s is a %s, not a directory", c.Name, c.s.ID, c.Type)
	case c.e.Flags&tree.Missing != 0:
		return fmt.Errorf("%q in snapshot %.8s could not be read when it was backed up: %w", c.Name, c.s.ID, ErrNotExist)
	}
	return nil
}

// Stored is how many bytes of a file lie outside its holes.
func (c *Child) Stored() int64 {
	n := c.e.Size
	for _, h := range c.e.Holes {
		n -= h.Len
	}
	return n
}

// Open opens a file for reading.
func (c *Child) Open(ctx context.Context) (*File, error) {
	return c.r.open(ctx, c.s, c.Name, &c.e)
}
