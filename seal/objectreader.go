package seal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"sync"
)

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
	r.body = body
	r.buffer(to - from)
	return r, nil
}

// windowChunks is how many chunks a reader fetches, opens and releases at a time.
// Beneath and above it are mostly sockets: the fewer calls of the kernel the
// better, up to what its caches hold.
const windowChunks = 4

// window is the memory of a reader of several chunks.
type window struct {
	in  [windowChunks * chunkSealed]byte
	out [windowChunks * ChunkSize]byte
}

var windows = sync.Pool{New: func() any { return new(window) }}

// ObjectReader opens the chunks of one range. It is not for concurrent use.
type ObjectReader struct {
	o        *Object
	body     io.ReadCloser
	in       []byte // for sealed chunks
	out      []byte // for the same, opened: in itself where there is room for one only
	free     func() // wipes what may hold plaintext, and gives in and out back
	part     int    // index of the part being read
	headless bool   // its header is behind
	chunk    *chunker
	end      int // index of the part with the last chunk of the range
	endChunk int64
	skip     int64 // plaintext of the first chunk before the range
	left     int64 // plaintext of the range not yet in plain
	plain    []byte
	err      error
}

// buffer takes memory for a range of sealed bytes.
func (r *ObjectReader) buffer(sealed int64) {
	if r.part == r.end && sealed <= headerSize+chunkSealed {
		b := getBuffer()
		r.in, r.out, r.free = b[:chunkSealed], b[:ChunkSize], func() { putBuffer(b) }
		return
	}
	w := windows.Get().(*window)
	r.in, r.out = w.in[:], w.out[:]
	r.free = func() {
		clear(w.out[:])
		windows.Put(w)
	}
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
	if _, err := io.ReadFull(r.body, r.in[:headerSize]); err != nil {
		return fmt.Errorf("reading header: %w", noEOF(err))
	}
	h, err := parseHeader(r.in[:headerSize])
	if err != nil {
		return err
	}
	p := r.o.parts[r.part]
	if h.partSalt != p.Salt || int(h.number) != p.Number || !r.o.key.holds(&h) {
		return fmt.Errorf("header of part %d: %w", p.Number, ErrCorrupt)
	}
	return nil
}

// advance opens the next chunks, of one part.
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
	count := chunks(p.Size)
	stop := count
	if r.part == r.end {
		stop = r.endChunk + 1
	}
	first := int64(r.chunk.next)
	next := min(stop, first+int64(len(r.out)/ChunkSize))
	sealed := r.in[:min(next*ChunkSize, p.Size)-first*ChunkSize+(next-first)*tagSize]
	if _, err := io.ReadFull(r.body, sealed); err != nil {
		return fmt.Errorf("reading chunk %d: %w", first, noEOF(err))
	}
	n := 0
	for i := first; i < next; i++ {
		plain, err := r.chunk.open(r.out[n:], sealed[:min(chunkSealed, len(sealed))], i == count-1)
		if err != nil {
			return fmt.Errorf("part %d: %w", p.Number, err)
		}
		n += len(plain)
		sealed = sealed[len(plain)+tagSize:]
	}
	plain := r.out[min(r.skip, int64(n)):n]
	r.skip = 0
	r.plain = plain[:min(r.left, int64(len(plain)))]
	r.left -= int64(len(r.plain))
	if r.part == r.end && next == stop {
		r.part = r.end + 1
	} else if next == count {
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

// Next returns what follows, without a copy: authentic, and the caller's until a
// call returns more. It is never empty without an error.
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
	if r.free == nil {
		return nil // closed before, or nothing was fetched
	}
	r.free()
	r.in, r.out, r.free, r.plain, r.err = nil, nil, nil, nil, errors.New("reader is closed")
	return r.body.Close()
}
