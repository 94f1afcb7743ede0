package seal

import (
	"errors"
	"fmt"
	"io"
)

// errStream is no fault of the object: [OpenObject] reads it.
var errStream = errors.New("a multipart object is not read as a stream: the order of its parts is known at its end only")

// Reader opens an object of one part from a stream, without knowing its size. It
// releases a chunk only when it is authentic, so after an error all that was
// read is a true beginning of the object; only io.EOF says that it is whole.
type Reader struct {
	r     io.Reader
	key   *ObjectKey
	salt  [32]byte
	chunk *chunker
	pool  *[bufferSize]byte // what buf is in, when it came from the pool
	buf   []byte            // sealed bytes read ahead: a chunk and what may follow the last
	lo    int               // buf[lo:hi] is not yet opened
	hi    int
	ended bool   // r is at its end, and hi excludes the footer
	plain []byte // opened, not yet released; lies in buf
	size  int64
	rec   Record
	err   error // sticky; io.EOF after the last chunk
}

// NewReader reads the header of an object from r. name is the name that the
// object is bound to, empty if it is bound to none.
func NewReader(r io.Reader, k *Keys, name string) (*Reader, error) {
	raw := make([]byte, headerSize)
	if n, err := io.ReadFull(r, raw); err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil, fmt.Errorf("%d bytes are no sealed object: %w", n, ErrCorrupt)
	} else if err != nil {
		return nil, fmt.Errorf("reading header: %w", err)
	}
	h, err := parseHeader(raw)
	if err != nil {
		return nil, err
	}
	key, err := openObjectKey(k, h, name)
	if err != nil {
		return nil, err
	}
	if h.flags&flagMultipart != 0 {
		return nil, errStream
	}
	s := &Reader{r: r, key: key, salt: h.partSalt, chunk: newChunker(key.partCipher(h.partSalt, 0))}
	if h.flags&flagFooter != 0 {
		s.buf = make([]byte, chunkSealed+maxFooter+1)
	} else {
		s.pool = getBuffer()
		s.buf = s.pool[:]
	}
	return s, nil
}

// Read releases authentic plaintext.
func (s *Reader) Read(p []byte) (int, error) {
	for len(s.plain) == 0 && s.err == nil {
		s.advance()
	}
	if len(s.plain) == 0 {
		return 0, s.err
	}
	n := copy(p, s.plain)
	s.plain = s.plain[n:]
	return n, nil
}

// WriteTo spares io.Copy a buffer.
func (s *Reader) WriteTo(w io.Writer) (int64, error) { return writeChunks(w, s.take) }

// take returns what is opened and not yet released.
func (s *Reader) take() ([]byte, error) {
	for len(s.plain) == 0 && s.err == nil {
		s.advance()
	}
	plain := s.plain
	s.plain = nil
	if len(plain) == 0 {
		return nil, s.err
	}
	return plain, nil
}

// writeChunks writes what take yields until its error; io.EOF is none.
func writeChunks(w io.Writer, take func() ([]byte, error)) (int64, error) {
	var total int64
	for {
		plain, err := take()
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		n, err := w.Write(plain)
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
}

// advance opens the next chunk.
func (s *Reader) advance() {
	if s.err = s.fill(); s.err != nil {
		return
	}
	last := s.ended && s.hi-s.lo <= chunkSealed
	n := chunkSealed
	if last {
		n = s.hi - s.lo
	}
	sealed := s.buf[s.lo : s.lo+n]
	plain, err := s.chunk.open(sealed, sealed, last)
	if err == nil && len(plain) == 0 && s.chunk.next > 1 {
		err = fmt.Errorf("empty last chunk: %w", ErrCorrupt)
	}
	if err != nil {
		s.err = err
		return
	}
	s.lo += n
	s.plain = plain
	s.size += int64(len(plain))
	if !last {
		return
	}
	if s.err = io.EOF; s.key.h.flags&flagFooter != 0 && s.rec.Size != s.size {
		s.plain, s.err = nil, fmt.Errorf("footer tells %d bytes, not %d: %w", s.rec.Size, s.size, ErrCorrupt)
	}
}

// fill reads ahead until a chunk and the longest thing that may follow the last
// chunk are there: only then is it known whether the chunk is the last.
func (s *Reader) fill() error {
	if s.ended {
		return nil
	}
	s.hi = copy(s.buf, s.buf[s.lo:s.hi])
	s.lo = 0
	n, err := io.ReadFull(s.r, s.buf[s.hi:])
	s.hi += n
	if err == nil {
		return nil
	}
	if err != io.EOF && err != io.ErrUnexpectedEOF {
		return fmt.Errorf("reading after %d bytes of plaintext: %w", s.size, err)
	}
	s.ended = true
	if s.key.h.flags&flagFooter == 0 {
		return nil
	}
	size, _, err := parseTail(s.buf[:s.hi], maxFooter)
	if err != nil {
		return err
	}
	if size > s.hi {
		return fmt.Errorf("footer is cut: %w", ErrCorrupt)
	}
	if s.rec, err = s.key.openFooter(s.buf[s.hi-size:s.hi], s.salt); err != nil {
		return err
	}
	s.hi -= size
	return nil
}

// ObjectKey is the key of the object being read.
func (s *Reader) ObjectKey() *ObjectKey { return s.key }

// Record is what the footer holds, once Read has returned io.EOF; of an object
// without footer it holds the size only.
func (s *Reader) Record() Record {
	if s.key.h.flags&flagFooter == 0 {
		return Record{Size: s.size}
	}
	return s.rec.clone()
}

// Close frees the buffer. It does not close the reader beneath.
func (s *Reader) Close() error {
	if s.pool != nil {
		putBuffer(s.pool)
	}
	s.pool, s.buf, s.plain, s.err = nil, nil, nil, errors.New("reader is closed")
	return nil
}
