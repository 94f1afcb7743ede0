package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
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
	held := func(_ context.Context, off, n int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(whole[off : off+n])), nil
	}
	return held, whole, err
}

// fetch reads exactly n bytes.
func fetch(ctx context.Context, src Source, off, n int64) ([]byte, error) {
	r, err := src(ctx, off, n)
	if err != nil {
		return nil, err
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

// NewReader opens n bytes of the plaintext from off on; n < 0 means to the end. It
// fetches the chunks that the range touches, in one request, and no more. After
// an error of Read all that was read is true; only io.EOF says that the range is whole.
func (b *Object) NewReader(ctx context.Context, off, n int64) (*ObjectReader, error) {
	if off < 0 || off > b.rec.Size {
		return nil, fmt.Errorf("offset %d in an object of %d bytes", off, b.rec.Size)
	}
	if n < 0 || n > b.rec.Size-off {
		n = b.rec.Size - off
	}
	if n == 0 && b.rec.Size > 0 {
		return &ObjectReader{err: io.EOF}, nil
	}
	r := &ObjectReader{o: b, left: n, end: len(b.parts) - 1}
	if off > 0 { // from the beginning, every part is read: also empty ones
		r.part = sort.Search(len(b.parts), func(i int) bool { return b.plain[i]+b.parts[i].Size > off })
	}
	if off+n < b.rec.Size {
		r.end = sort.Search(len(b.parts), func(i int) bool { return b.plain[i]+b.parts[i].Size >= off+n })
		r.endChunk = (off + n - b.plain[r.end] - 1) / ChunkSize
	} else {
		r.endChunk = chunks(b.parts[r.end].Size) - 1
	}
	first := (off - b.plain[r.part]) / ChunkSize
	r.skip = off - b.plain[r.part] - first*ChunkSize
	r.headless = first > 0
	r.begin(uint64(first))
	from, to := b.sealed[r.part], min(b.sealed[r.end]+headerSize+(r.endChunk+1)*chunkSealed, b.sealed[r.end+1])
	if r.headless {
		from += headerSize + first*chunkSealed
	}
	body, err := b.src(ctx, from, to-from)
	if err != nil {
		return nil, err
	}
	r.body, r.buf = body, getBuffer()
	return r, nil
}

// ObjectReader opens the chunks of one range. It is not for concurrent use.
type ObjectReader struct {
	o        *Object
	body     io.ReadCloser
	buf      *[bufferSize]byte
	part     int  // index of the part being read
	headless bool // its header is behind
	chunk    *chunker
	end      int // index of the part with the last chunk of the range
	endChunk int64
	skip     int64 // plaintext of the first chunk before the range
	left     int64 // plaintext of the range not yet in plain
	plain    []byte
	err      error
}

// begin prepares for the chunks of the current part.
func (r *ObjectReader) begin(first uint64) {
	p := r.o.parts[r.part]
	r.chunk = newChunker(r.o.key.partCipher(p.Salt, uint16(p.Number)))
	r.chunk.next = first
}

// checkHeader reads the header of the current part: its bytes are not needed, but
// a part with a foreign or damaged header is not what was written.
func (r *ObjectReader) checkHeader() error {
	if _, err := io.ReadFull(r.body, r.buf[:headerSize]); err != nil {
		return fmt.Errorf("reading header: %w", noEOF(err))
	}
	h, err := parseHeader(r.buf[:headerSize])
	if err != nil {
		return err
	}
	p := r.o.parts[r.part]
	if h.partSalt != p.Salt || int(h.number) != p.Number || !r.o.key.holds(&h) {
		return fmt.Errorf("header of part %d: %w", p.Number, ErrCorrupt)
	}
	return nil
}

// advance opens the next chunk.
func (r *ObjectReader) advance() error {
	if r.part > r.end {
		return io.EOF
	}
	if !r.headless {
		if err := r.checkHeader(); err != nil {
			return err
		}
		r.headless = true
	}
	p := r.o.parts[r.part]
	number := int64(r.chunk.next)
	last := number == chunks(p.Size)-1
	n := chunkSealed
	if last {
		n = int(p.Size-number*ChunkSize) + tagSize
	}
	if _, err := io.ReadFull(r.body, r.buf[:n]); err != nil {
		return fmt.Errorf("reading chunk %d: %w", number, noEOF(err))
	}
	plain, err := r.chunk.open(r.buf[:n], last)
	if err != nil {
		return fmt.Errorf("part %d: %w", p.Number, err)
	}
	plain = plain[min(r.skip, int64(len(plain))):]
	r.skip = 0
	r.plain = plain[:min(r.left, int64(len(plain)))]
	r.left -= int64(len(r.plain))
	if r.part == r.end && number == r.endChunk {
		r.part = r.end + 1
	} else if last {
		r.part++
		r.headless = false
		r.begin(0)
	}
	return nil
}

// Read releases authentic plaintext.
func (r *ObjectReader) Read(p []byte) (int, error) {
	for len(r.plain) == 0 && r.err == nil {
		r.err = r.advance()
	}
	if len(r.plain) == 0 {
		return 0, r.err
	}
	n := copy(p, r.plain)
	r.plain = r.plain[n:]
	return n, nil
}

// Next returns what follows, without a copy: the rest of a chunk, authentic,
// which is the caller's until the next call. It is never empty without an error.
func (r *ObjectReader) Next() ([]byte, error) {
	for len(r.plain) == 0 && r.err == nil {
		r.err = r.advance()
	}
	plain := r.plain
	r.plain = nil
	if len(plain) == 0 {
		return nil, r.err
	}
	return plain, nil
}

// WriteTo spares io.Copy a buffer.
func (r *ObjectReader) WriteTo(w io.Writer) (int64, error) { return writeChunks(w, r.Next) }

// Close ends the reading.
func (r *ObjectReader) Close() error {
	if r.buf == nil {
		return nil // closed before, or nothing was fetched
	}
	putBuffer(r.buf)
	r.buf, r.plain, r.err = nil, nil, errors.New("reader is closed")
	return r.body.Close()
}
