package backup

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"

	"coffer/backup/store"
	"coffer/backup/tree"
)

// CopyInto brings the snapshots of r into another repository, of any key: all is
// read, cut and sealed anew, so that the two have nothing in common that storage
// could see. What was brought before is not brought again. [Copy] is for a place
// that is to hold the same repository.
func (r *Repo) CopyInto(ctx context.Context, to *Repo, progress func(Progress)) (BringReport, error) {
	if err := r.st.Refresh(ctx); err != nil {
		return BringReport{}, fmt.Errorf("copying: %w", err)
	}
	rep, err := to.bring(ctx, &fromRepo{r}, progress)
	if err != nil {
		return rep, fmt.Errorf("copying: %w", err)
	}
	return rep, nil
}

// fromRepo is a repository as snapshots are brought from it.
type fromRepo struct{ r *Repo }

func (f *fromRepo) snapshots(ctx context.Context) ([]*foreignSnapshot, error) {
	all, err := f.r.Snapshots(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]*foreignSnapshot, len(all))
	for i, s := range all {
		x := *s
		x.ID, x.Parent, x.generation, x.replaced = "", "", 0, nil
		x.Origin = cmp.Or(s.Origin, "coffer:"+s.first.String())
		out[i] = &foreignSnapshot{x, f.entry(&s.root)}
	}
	return out, nil
}

// entry is e without what says where its content lies there.
func (f *fromRepo) entry(e *tree.Entry) foreignEntry {
	out := foreignEntry{Entry: *e, from: e}
	out.Content, out.Subtree = nil, [32]byte{}
	out.Flags &^= tree.Indirect
	switch e.Type {
	case tree.Dir:
		out.key = e.Subtree.String()
	case tree.File:
		h := sha256.New()
		for i := range e.Content {
			h.Write(e.Content[i][:])
		}
		var b []byte
		for _, x := range e.Holes { // chunks end at holes, so they are part of what is compared
			b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(x.Off)), uint64(x.Len))
		}
		h.Write(b)
		out.key = hex.EncodeToString(h.Sum(nil))
	}
	return out
}

func (f *fromRepo) dir(ctx context.Context, e *foreignEntry) ([]foreignEntry, error) {
	entries, err := f.r.st.Dir(ctx, e.from.(*tree.Entry).Subtree)
	if err != nil {
		return nil, err
	}
	out := make([]foreignEntry, len(entries))
	for i := range entries {
		out[i] = f.entry(&entries[i])
	}
	return out, nil
}

func (f *fromRepo) open(ctx context.Context, e *foreignEntry) io.Reader {
	spans, err := f.r.st.Spans(ctx, e.from.(*tree.Entry))
	return &dataReader{ctx: ctx, st: f.r.st, spans: spans, err: err}
}

// dataReader reads the chunks of a file, not its holes.
type dataReader struct {
	ctx   context.Context
	st    *store.Store
	spans []store.Span
	rest  []byte
	err   error
}

// Read implements [io.Reader].
func (d *dataReader) Read(p []byte) (int, error) {
	for len(d.rest) == 0 && d.err == nil {
		switch {
		case len(d.spans) == 0:
			return 0, io.EOF
		case !d.spans[0].Hole:
			d.rest, d.err = d.st.Chunk(d.ctx, d.spans[0].ID, true)
		}
		d.spans = d.spans[1:]
	}
	if d.err != nil {
		return 0, d.err
	}
	n := copy(p, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}
