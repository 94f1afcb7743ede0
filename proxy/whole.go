package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"coffer/seal"
)

// smallSealed is up to which sealed size a whole object is fetched and checked,
// footer and all, before its first byte is sent.
const smallSealed = 128 << 10

// openSpan opens the bytes that s means. A range costs its own chunks; a whole
// object is read to the end of its footer, so that any changed byte is found.
func (p *Proxy) openSpan(ctx context.Context, ix *index, f *found, s span) (io.ReadCloser, error) {
	object, err := p.openRow(ix, f.at, f.row)
	if err != nil {
		return nil, err
	}
	if s.n < f.row.Size {
		return object.NewReader(ctx, s.off, s.n)
	}
	if f.row.Sealed <= smallSealed {
		if object, err = object.Key().OpenObject(ctx, p.source(ix, f.at, f.row), f.row.Sealed); err != nil {
			return nil, err
		}
		if err := f.row.matches(object); err != nil {
			return nil, err
		}
		return object.NewReader(ctx, 0, -1)
	}
	return p.openWhole(ctx, ix, f)
}

// matches holds what the footer tells against the row.
func (r *row) matches(object *seal.Object) error {
	if object.Size() != r.Size || object.Record().ETag != r.ETag {
		return fmt.Errorf("footer and index disagree: %w", seal.ErrCorrupt)
	}
	return nil
}

// wholeReader reads a whole object in one request: its plaintext, and behind it
// the footer. It reads a chunk ahead, so the last one is withheld until the
// footer has proved true.
type wholeReader struct {
	plain  io.ReadCloser
	raw    *recorder
	footer int64 // size
	check  func(head, footer []byte) error
	now    []byte // being released
	next   []byte // read ahead; empty: now is the last
	spare  []byte
	err    error
}

// openWhole opens the object of f from its first to its last byte.
func (p *Proxy) openWhole(ctx context.Context, ix *index, f *found) (io.ReadCloser, error) {
	parts, err := ix.parts(f.at.bucket, f.at.key, f.row)
	if err != nil {
		return nil, err
	}
	key, err := seal.OpenObjectKey(ix.keys, f.row.Header, "")
	if err != nil {
		return nil, err
	}
	raw := &recorder{}
	fetch := p.source(ix, f.at, f.row)
	object, err := key.Object(func(ctx context.Context, _, _ int64) (io.ReadCloser, error) {
		var err error
		raw.ReadCloser, err = fetch(ctx, 0, f.row.Sealed)
		return raw, err
	}, parts, seal.Record{})
	if err != nil {
		return nil, err
	}
	plain, err := object.NewReader(ctx, 0, -1)
	if err != nil {
		return nil, err
	}
	w := &wholeReader{plain: plain, raw: raw, footer: f.row.Sealed}
	for _, part := range parts {
		w.footer -= part.Sealed()
	}
	w.check = func(head, footer []byte) error {
		object, err := key.OpenObject(ctx, pieces(head, footer, f.row.Sealed), f.row.Sealed)
		if err != nil {
			return fmt.Errorf("footer: %w", err)
		}
		return f.row.matches(object)
	}
	return w, nil
}

// pieces is a Source of an object of which only the ends are at hand.
func pieces(head, footer []byte, size int64) seal.Source {
	return func(_ context.Context, off, n int64) (io.ReadCloser, error) {
		at := size - int64(len(footer))
		switch {
		case off+n <= int64(len(head)):
			return io.NopCloser(bytes.NewReader(head[off : off+n])), nil
		case off >= at:
			return io.NopCloser(bytes.NewReader(footer[off-at:][:n])), nil
		case off+n == size: // the longest footer is looked for, this one is shorter
			return io.NopCloser(io.MultiReader(bytes.NewReader(make([]byte, at-off)), bytes.NewReader(footer))), nil
		}
		return nil, fmt.Errorf("bytes %d to %d are not at hand: %w", off, off+n, seal.ErrCorrupt)
	}
}

func (w *wholeReader) Read(b []byte) (int, error) {
	for len(w.now) == 0 && w.err == nil {
		w.err = w.advance()
	}
	if len(w.now) == 0 {
		return 0, w.err
	}
	n := copy(b, w.now)
	w.now = w.now[n:]
	return n, nil
}

// WriteTo writes the rest chunk by chunk, without a copy.
func (w *wholeReader) WriteTo(to io.Writer) (total int64, err error) {
	for {
		n, err := to.Write(w.now)
		total += int64(n)
		w.now = w.now[n:]
		if err != nil {
			return total, err
		}
		if w.err == nil {
			w.err = w.advance()
		}
		if w.err != nil && len(w.now) == 0 {
			if w.err == io.EOF {
				return total, nil
			}
			return total, w.err
		}
	}
}

// advance moves what was read ahead to now.
func (w *wholeReader) advance() error {
	if w.spare == nil {
		w.spare, w.next = make([]byte, seal.ChunkSize), make([]byte, seal.ChunkSize)
		if err := w.ahead(); err != nil {
			return err
		}
	} else if len(w.next) == 0 {
		return io.EOF
	}
	now := w.next
	w.next, w.spare = w.spare[:seal.ChunkSize], now[:seal.ChunkSize]
	if err := w.ahead(); err != nil {
		return err
	}
	w.now = now
	return nil
}

// ahead fills next, or checks the footer if nothing is left to read.
func (w *wholeReader) ahead() error {
	n, err := io.ReadFull(w.plain, w.next)
	w.next = w.next[:n]
	switch {
	case err == nil || errors.Is(err, io.ErrUnexpectedEOF) && n > 0:
		return nil
	case err != io.EOF:
		return err
	}
	footer := make([]byte, w.footer)
	if _, err := io.ReadFull(w.raw.ReadCloser, footer); err != nil {
		return fmt.Errorf("reading the footer: %w", err)
	}
	return w.check(w.raw.head, footer)
}

func (w *wholeReader) Close() error { return w.plain.Close() }

// recorder keeps the first bytes that are read through it.
type recorder struct {
	io.ReadCloser
	head []byte
}

const headSize = 192 // a part header

func (r *recorder) Read(b []byte) (int, error) {
	n, err := r.ReadCloser.Read(b)
	if missing := headSize - len(r.head); missing > 0 {
		r.head = append(r.head, b[:min(n, missing)]...)
	}
	return n, err
}
