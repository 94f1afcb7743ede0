package faulty

import (
	"context"
	"errors"
	"io"

	"coffer/upstream"
)

// Get implements [upstream.Bucket].
func (b *Bucket) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, upstream.Info, error) {
	f, err := b.begin(ctx, Get, name)
	if err != nil {
		return nil, upstream.Info{}, err
	}
	asked := name
	if f.Other != "" {
		name = f.Other
	}
	r, info, err := b.inner.Get(ctx, name, off, n)
	if err != nil {
		return nil, upstream.Info{}, err
	}
	if err := f.lost(nil); err != nil {
		return nil, upstream.Info{}, errors.Join(err, r.Close())
	}
	info.Name = asked
	if f.Cut || f.Short || f.Flip {
		r = newBody(r, f, off, info.Size)
	}
	return r, info, nil
}

// body alters what it reads.
type body struct {
	io.ReadCloser
	pos  int64 // of the next byte in the answer
	flip int64 // position of the byte to alter; negative: none
	cut  int64 // position of the end; negative: none
	end  error // at cut
}

func newBody(r io.ReadCloser, f Fault, off, size int64) *body {
	if off < 0 {
		off = max(size+off, 0)
	}
	b := &body{ReadCloser: r, flip: -1, cut: -1, end: io.ErrUnexpectedEOF}
	if f.Flip {
		at := f.FlipAt
		if at < 0 {
			at += size
		}
		b.flip = at - off
	}
	if f.Cut || f.Short {
		b.cut = f.CutAt
	}
	if f.Short {
		b.end = io.EOF
	}
	return b
}

func (b *body) Read(p []byte) (int, error) {
	if b.cut >= 0 {
		if b.pos == b.cut {
			return 0, b.end
		}
		p = p[:min(int64(len(p)), b.cut-b.pos)]
	}
	n, err := b.ReadCloser.Read(p)
	if i := b.flip - b.pos; b.flip >= 0 && i >= 0 && i < int64(n) {
		p[i] ^= 1
	}
	b.pos += int64(n)
	return n, err
}
