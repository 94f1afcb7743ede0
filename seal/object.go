package seal

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
)

// Source fetches n bytes of a sealed object from off on. The reader it returns
// may end early with an error; what it yields is not trusted.
type Source func(ctx context.Context, off, n int64) (io.ReadCloser, error)

// wholeSize is up to which sealed size an object is fetched at once: one request
// instead of two or three.
const wholeSize = 128 << 10

// suffixSize is what is fetched first of the end of a larger object.
const suffixSize = 16 << 10

// Object is a sealed object whose header and footer are authentic, for reading
// at any place. It is safe for concurrent use.
type Object struct {
	key    *ObjectKey
	src    Source
	rec    Record
	parts  []Part  // an object of one part has one, numbered 0
	plain  []int64 // where each part begins in the plaintext
	sealed []int64 // and in the object; one more: the end of the last
}

// OpenObject fetches and checks header and footer of an object of sealedSize
// bytes. name is the name that it is bound to, empty if it is bound to none.
func OpenObject(ctx context.Context, src Source, sealedSize int64, k *Keys, name string) (*Object, error) {
	src, head, err := fetchHead(ctx, src, sealedSize)
	if err != nil {
		return nil, err
	}
	h, err := parseHeader(head)
	if err != nil {
		return nil, err
	}
	key, err := openObjectKey(k, h, name)
	if err != nil {
		return nil, err
	}
	return key.open(ctx, src, sealedSize, h)
}

// OpenObject is like the function, for a caller that has the object key from the
// envelope. The header in the object must commit to the same data key.
func (o *ObjectKey) OpenObject(ctx context.Context, src Source, sealedSize int64) (*Object, error) {
	src, head, err := fetchHead(ctx, src, sealedSize)
	if err != nil {
		return nil, err
	}
	h, err := parseHeader(head)
	if err != nil {
		return nil, err
	}
	if !o.holds(&h) {
		return nil, fmt.Errorf("object %v is not %v: %w", h.id, o.h.id, ErrCorrupt)
	}
	return o.open(ctx, src, sealedSize, h)
}

// Object is an object whose parts and record are known already, from an index
// that is trusted: nothing is fetched. An object of one part has the one row that
// [Object.Parts] or [Writer.Part] gave.
func (o *ObjectKey) Object(src Source, parts []Part, rec Record) (*Object, error) {
	b := &Object{key: o, src: src, rec: rec.clone(), parts: slices.Clone(parts)}
	if len(parts) == 0 || (o.h.flags&flagMultipart == 0) != (len(parts) == 1 && parts[0].Number == 0) {
		return nil, fmt.Errorf("%d parts: %w", len(parts), ErrCorrupt)
	}
	var plain, sealed int64
	for _, p := range parts {
		if p.Size < 0 || p.Size > maxSize-plain {
			return nil, fmt.Errorf("part %d: size %d: %w", p.Number, p.Size, ErrCorrupt)
		}
		b.plain, b.sealed = append(b.plain, plain), append(b.sealed, sealed)
		plain += p.Size
		sealed += p.Sealed()
	}
	b.sealed = append(b.sealed, sealed)
	b.rec.Size = plain
	return b, nil
}

// fetchHead fetches the header, or the whole of a small object, of which the
// Source it returns then holds the bytes.
func fetchHead(ctx context.Context, src Source, size int64) (Source, []byte, error) {
	if size < headerSize+tagSize {
		return nil, nil, fmt.Errorf("%d bytes are no sealed object: %w", size, ErrCorrupt)
	}
	if size > wholeSize {
		head, err := fetch(ctx, src, 0, headerSize)
		return src, head, err
	}
	whole, err := fetch(ctx, src, 0, size)
	return func(_ context.Context, off, n int64) (io.ReadCloser, error) { return hold(whole[off : off+n]), nil }, whole, err
}

// held is a part of an object that is in memory.
type held struct {
	bytes.Reader
	b []byte
}

func hold(b []byte) *held {
	h := &held{b: b}
	h.Reset(b)
	return h
}

func (*held) Close() error { return nil }

// fetch reads exactly n bytes, which the caller does not change.
func fetch(ctx context.Context, src Source, off, n int64) ([]byte, error) {
	r, err := src(ctx, off, n)
	if err != nil {
		return nil, err
	}
	if h, ok := r.(*held); ok {
		return h.b, nil
	}
	defer r.Close()
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("fetching %d bytes at %d: %w", n, off, noEOF(err))
	}
	return b, nil
}

// noEOF: a source that ends early is not the end of the object.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// open finds the parts: by the footer if there is one, and by the size.
func (o *ObjectKey) open(ctx context.Context, src Source, size int64, h header) (*Object, error) {
	var rec Record
	if o.h.flags&flagFooter != 0 {
		footer, err := o.fetchFooter(ctx, src, size)
		if err != nil {
			return nil, err
		}
		if rec, err = o.openFooter(footer, h.partSalt); err != nil {
			return nil, err
		}
		size -= int64(len(footer))
	}
	parts := rec.Parts
	if o.h.flags&flagMultipart == 0 {
		plain, err := PlainSize(size)
		if err != nil {
			return nil, err
		}
		if o.h.flags&flagFooter != 0 && rec.Size != plain {
			return nil, fmt.Errorf("footer tells %d bytes, not %d: %w", rec.Size, plain, ErrCorrupt)
		}
		parts = []Part{{Size: plain, Salt: h.partSalt}}
	} else if parts[0].Salt != h.partSalt || parts[0].Number != int(h.number) {
		return nil, fmt.Errorf("first part is not that of the footer: %w", ErrCorrupt)
	}
	b, err := o.Object(src, parts, rec)
	if err != nil {
		return nil, err
	}
	if end := b.sealed[len(parts)]; end != size {
		return nil, fmt.Errorf("parts of %d bytes, not %d: %w", size, end, ErrCorrupt)
	}
	return b, nil
}

// fetchFooter fetches the footer: mostly in one request, else in two.
func (o *ObjectKey) fetchFooter(ctx context.Context, src Source, size int64) ([]byte, error) {
	n := min(suffixSize, size-headerSize)
	b, err := fetch(ctx, src, size-n, n)
	if err != nil {
		return nil, err
	}
	want, _, err := parseTail(b, o.maxFooter())
	if err != nil {
		return nil, err
	}
	if int64(want) > size-headerSize {
		return nil, fmt.Errorf("footer of %d bytes: %w", want, ErrCorrupt)
	}
	if int64(want) <= n {
		return b[n-int64(want):], nil
	}
	return fetch(ctx, src, size-int64(want), int64(want))
}

// Key is the key of the object.
func (b *Object) Key() *ObjectKey { return b.key }

// Size is the size of the plaintext, in bytes.
func (b *Object) Size() int64 { return b.rec.Size }

// Record is what the footer holds; of an object without footer it holds the size only.
func (b *Object) Record() Record { return b.rec.clone() }

// Parts are the rows that [ObjectKey.Object] takes, to be kept in an index.
func (b *Object) Parts() []Part { return slices.Clone(b.parts) }
