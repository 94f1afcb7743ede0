package scan

import (
	"context"
	"errors"
	"fmt"
	"io"

	"coffer/backup/chunk"
	"coffer/backup/store"
	"coffer/backup/tree"
)

// Intake stores files that come from elsewhere than the file system: a stream, or
// another repository. It serves one goroutine; workers compress and seal beside it.
// Finish must be called once.
type Intake struct {
	st     *store.Store
	w      *store.Writer
	cut    *chunk.Cutter
	window []byte
	small  [2]*store.Job // segments of small files: those that compress, those that do not
	plain  bool          // nothing is compressed
}

// NewIntake begins; with noCompress, nothing is compressed.
func NewIntake(ctx context.Context, st *store.Store, noCompress bool) *Intake {
	cut := st.Cutter()
	return &Intake{st: st, w: st.NewWriter(ctx, false, nil), cut: cut, window: make([]byte, 0, cut.Params().Max*3/2), plain: noCompress}
}

// Context ends when storing fails.
func (n *Intake) Context() context.Context { return n.w.Context() }

// Fail makes Finish return err.
func (n *Intake) Fail(err error) { n.w.Fail(err) }

// File stores a file: what body gives is its data between the holes of e. A
// negative size of e means all up to the end, and becomes what there was; with
// another one, any other amount of data is an error.
func (n *Intake) File(e *tree.Entry, body io.Reader) error {
	var ids []chunk.ID
	size, at := e.Size, int64(0)
	if size < 0 {
		got, err := n.extent(body, &ids)
		if err != nil {
			return err
		}
		e.Size = got
		return n.content(e, ids)
	}
	for i := 0; i <= len(e.Holes); i++ {
		end := size
		if i < len(e.Holes) {
			end = e.Holes[i].Off
		}
		got, err := n.extent(io.LimitReader(body, end-at), &ids)
		if err == nil && got != end-at {
			err = fmt.Errorf("%q ends after %d bytes, its size is %d: %w", e.Name, at+got, size, io.ErrUnexpectedEOF)
		}
		if err != nil {
			return err
		}
		if at = end; i < len(e.Holes) {
			at += e.Holes[i].Len
		}
	}
	if extra, err := io.ReadFull(body, make([]byte, 1)); extra > 0 {
		return fmt.Errorf("%q has more than the %d bytes of its size", e.Name, size)
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	return n.content(e, ids)
}

// content gives e its ids, by way of lists if they are many.
func (n *Intake) content(e *tree.Entry, ids []chunk.ID) (err error) {
	if e.Content = ids; len(ids) > tree.DirectIDs {
		e.Content, err = tree.Lists(ids, n.node)
		e.Flags |= tree.Indirect
	}
	return err
}

// extent stores what body gives and returns how much that was.
func (n *Intake) extent(body io.Reader, ids *[]chunk.ID) (got int64, err error) {
	win, start, ended := n.window[:0], 0, false
	for {
		if !ended && len(win)-start < n.cut.Params().Max {
			win = win[:copy(win[:cap(win)], win[start:])]
			start = 0
			k, err := io.ReadFull(body, win[len(win):cap(win)])
			win = win[:len(win)+k]
			got += int64(k)
			ended = errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
			if err != nil && !ended {
				return got, err
			}
		}
		if start == len(win) {
			return got, nil
		}
		data := win[start : start+n.cut.Cut(win[start:])]
		start += len(data)
		*ids = append(*ids, n.st.Sum(data))
		if err := n.keep(data, got <= int64(n.cut.Params().Min)); err != nil {
			return got, err
		}
	}
}

// keep hands a chunk to the workers: that of a small file together with others.
func (n *Intake) keep(data []byte, small bool) error {
	flat := n.plain || chunk.Flat(data)
	if !small {
		return n.w.Submit(&store.Job{Raw: append(n.w.Buffer(len(data)), data...), Flat: flat, Chunks: []store.Piece{piece(0, len(data))}})
	}
	kind := 0
	if flat {
		kind = 1
	}
	j := n.small[kind]
	if j != nil && (len(j.Raw)+len(data) > n.st.Segment() || len(j.Chunks) >= filesPerSegment) {
		if err := n.w.Submit(j); err != nil {
			return err
		}
		j = nil
	}
	if j == nil {
		j = &store.Job{Raw: n.w.Buffer(max(n.st.Segment(), len(data))), Flat: flat}
	}
	j.Chunks = append(j.Chunks, piece(len(j.Raw), len(data)))
	j.Raw = append(j.Raw, data...)
	n.small[kind] = j
	return nil
}

// piece is a chunk whose id is known already.
func piece(off, size int) store.Piece {
	return store.Piece{Off: off, Len: size, Out: new(chunk.ID), Done: nobody{}}
}

// nobody waits for the chunks of an Intake.
type nobody struct{}

// ChunkDone does nothing.
func (nobody) ChunkDone() error { return nil }

// Dir stores a directory whose entries ascend by name, and gives e its id and sums.
func (n *Intake) Dir(e *tree.Entry, entries []tree.Entry) (err error) {
	e.Size, e.Count = 0, uint64(len(entries))
	for i := range entries {
		switch c := &entries[i]; c.Type {
		case tree.File:
			e.Size += c.Size
		case tree.Dir:
			e.Size += c.Size
			e.Count += c.Count
		}
	}
	e.Subtree, err = tree.Encode(entries, n.node)
	return err
}

func (n *Intake) node(b []byte) (chunk.ID, error) {
	id := n.st.Sum(b)
	return id, n.w.Tree(id, b)
}

// Added counts bytes of new chunks, Uploaded those sent, Packs the packs.
func (n *Intake) Added() int64 { return n.w.Added() }

// Uploaded counts bytes sent.
func (n *Intake) Uploaded() int64 { return n.w.Uploaded() }

// Packs counts packs sent.
func (n *Intake) Packs() int64 { return n.w.Packs() }

// Finish waits until all is durable and known to an index object.
func (n *Intake) Finish() error {
	for _, j := range n.small {
		if j != nil && n.w.Context().Err() == nil {
			n.w.Fail(n.w.Submit(j))
		}
	}
	return n.w.Finish()
}
