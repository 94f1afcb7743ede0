package proxy

import (
	"bytes"
	"cmp"
	"context"
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
	if s.n < f.row.Size {
		object, err := p.openRow(ix, f.at, f.row)
		if err != nil {
			return nil, err
		}
		return object.NewReader(ctx, s.off, s.n)
	}
	key, err := seal.OpenObjectKey(ix.keys, f.row.Header, "")
	if err != nil {
		return nil, err
	}
	if f.row.Sealed > smallSealed {
		return p.openWhole(ctx, ix, f, key)
	}
	object, err := key.OpenObject(ctx, p.source(ix, f.at, f.row), f.row.Sealed)
	if err != nil {
		return nil, err
	}
	if err := f.row.matches(object); err != nil {
		return nil, err
	}
	return object.NewReader(ctx, 0, -1)
}

// matches holds what the footer tells against the row.
func (r *row) matches(object *seal.Object) error {
	if object.Size() != r.Size || object.Record().ETag != r.ETag {
		return fmt.Errorf("footer and index disagree: %w", seal.ErrCorrupt)
	}
	return nil
}

// wholeReader reads a whole object in one request: its plaintext, and behind it
// the footer. The last chunks are withheld until the footer has proved true.
type wholeReader struct {
	object *seal.ObjectReader
	raw    *recorder
	footer int64 // its size
	check  func(head, footer []byte) error
	left   int64  // plaintext that has not come yet
	plain  []byte // to be released next
	done   bool   // the footer was checked
}

// openWhole opens the object of f from its first to its last byte.
func (p *Proxy) openWhole(ctx context.Context, ix *index, f *found, key *seal.ObjectKey) (io.ReadCloser, error) {
	parts, err := ix.parts(f.at.bucket, f.at.key, f.row)
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
	w := &wholeReader{object: plain, raw: raw, footer: f.row.Sealed, left: f.row.Size}
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
	if len(w.plain) == 0 {
		var err error
		if w.plain, err = w.next(); err != nil {
			return 0, err
		}
	}
	n := copy(b, w.plain)
	w.plain = w.plain[n:]
	return n, nil
}

// WriteTo writes the rest chunk by chunk, without a copy.
func (w *wholeReader) WriteTo(to io.Writer) (total int64, err error) {
	for {
		plain := w.plain
		if w.plain = nil; len(plain) == 0 {
			if plain, err = w.next(); err == io.EOF {
				return total, nil
			} else if err != nil {
				return total, err
			}
		}
		n, err := to.Write(plain)
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
}

// next returns the next chunks, the last ones only with the proof that there is
// nothing else and that the footer is true.
func (w *wholeReader) next() ([]byte, error) {
	var last []byte
	if w.left > 0 {
		chunk, err := w.object.Next()
		if err == nil && int64(len(chunk)) < w.left {
			w.left -= int64(len(chunk))
			return chunk, nil
		}
		if err == io.EOF || err == nil && int64(len(chunk)) > w.left {
			err = fmt.Errorf("%d bytes before the end: %w", w.left, seal.ErrCorrupt)
		}
		if err != nil {
			return nil, err
		}
		last, w.left = chunk, 0 // finish reads no more plaintext, so it stays as it is
	}
	if w.done {
		return nil, io.EOF
	}
	if err := w.finish(); err != nil {
		return nil, err
	}
	if w.done = true; len(last) == 0 {
		return nil, io.EOF
	}
	return last, nil
}

// finish reads what follows the plaintext: empty parts, perhaps, and the footer.
func (w *wholeReader) finish() error {
	if more, err := w.object.Next(); err != io.EOF {
		return cmp.Or(err, fmt.Errorf("%d bytes too many: %w", len(more), seal.ErrCorrupt))
	}
	footer := make([]byte, w.footer)
	if _, err := io.ReadFull(w.raw.ReadCloser, footer); err != nil {
		return fmt.Errorf("reading the footer: %w", err)
	}
	return w.check(w.raw.head, footer)
}

func (w *wholeReader) Close() error { return w.object.Close() }

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
