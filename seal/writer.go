package seal

import (
	"errors"
	"fmt"
	"io"
)

// Writer seals one object of one part. It holds at most one chunk and withholds
// the last one until [Writer.Close]: what was not closed does not open, so a
// caller that finds a bad checksum just drops the Writer.
type Writer struct {
	part *PartWriter
	rec  Record
}

// NewWriter seals a new object into w. Nothing is written before the first
// chunk is full.
func NewWriter(w io.Writer, k *Keys, o Options) (*Writer, error) {
	key, err := NewObjectKey(k, o)
	if err != nil {
		return nil, err
	}
	return key.NewWriter(w)
}

// NewWriter seals the one part of an object that is not multipart into w, and a
// footer if the object has one. It may be called again for another attempt.
func (o *ObjectKey) NewWriter(w io.Writer) (*Writer, error) {
	if o.h.flags&flagMultipart != 0 {
		return nil, errors.New("sealing a multipart object as one stream")
	}
	p, err := o.newPartWriter(w, 0)
	if err != nil {
		return nil, err
	}
	return &Writer{part: p}, nil
}

// ObjectKey is the key of the object being written.
func (w *Writer) ObjectKey() *ObjectKey { return w.part.key }

// SetRecord sets the attributes of the footer, before Close. Size and Parts of r
// are filled in by the Writer.
func (w *Writer) SetRecord(r Record) { w.rec = r }

// Write seals what it completes.
func (w *Writer) Write(p []byte) (int, error) { return w.part.Write(p) }

// Size is the plaintext written so far, in bytes.
func (w *Writer) Size() int64 { return w.part.size }

// Close writes the last chunk and the footer. It does not close the writer beneath.
func (w *Writer) Close() error {
	key := w.part.key
	if key.h.flags&flagFooter == 0 {
		return w.part.Close()
	}
	// The footer is made first: a record that is too large must not leave an
	// object that looks whole but for its footer.
	w.rec.Size, w.rec.Parts = w.part.size, nil
	footer, err := key.sealFooter(w.rec, w.part.salt[:])
	if err != nil {
		return err
	}
	if err := w.part.Close(); err != nil {
		return err
	}
	if _, err := w.part.w.Write(footer); err != nil {
		return fmt.Errorf("writing footer: %w", err)
	}
	return nil
}

// PartWriter seals one part of a multipart object. Parts may be sealed in any
// order, at the same time, and again: each attempt has its own random salt and
// so its own key.
type PartWriter struct {
	w      io.Writer
	key    *ObjectKey
	salt   [32]byte
	number uint16
	chunk  *chunker
	buf    *[bufferSize]byte
	n      int   // plaintext in buf, at most ChunkSize
	size   int64 // plaintext taken
	headed bool  // the header is written
	err    error // sticky
}

var errClosed = errors.New("writer is closed")

// NewPartWriter seals part number (1 to [MaxParts]) into w.
func (o *ObjectKey) NewPartWriter(w io.Writer, number int) (*PartWriter, error) {
	if o.h.flags&flagMultipart == 0 {
		return nil, errors.New("sealing a part of an object that is not multipart")
	}
	if number < 1 || number > MaxParts {
		return nil, fmt.Errorf("part number %d is not in 1 to %d", number, MaxParts)
	}
	return o.newPartWriter(w, uint16(number))
}

func (o *ObjectKey) newPartWriter(w io.Writer, number uint16) (*PartWriter, error) {
	p := &PartWriter{w: w, key: o, number: number}
	if _, err := io.ReadFull(o.rnd, p.salt[:]); err != nil {
		return nil, fmt.Errorf("drawing a part salt: %w", err)
	}
	p.chunk = newChunker(o.partCipher(p.salt, number))
	return p, nil
}

// Write seals every chunk that more plaintext follows.
func (p *PartWriter) Write(b []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	if p.buf == nil {
		p.buf = getBuffer()
	}
	total := len(b)
	for len(b) > 0 {
		if p.n == 0 && len(b) > ChunkSize { // whole chunks need no copy
			if err := p.flush(b[:ChunkSize], false); err != nil {
				return total - len(b), err
			}
			p.size += ChunkSize
			b = b[ChunkSize:]
			continue
		}
		if p.n == ChunkSize {
			if err := p.flush(p.buf[:ChunkSize], false); err != nil {
				return total - len(b), err
			}
			p.n = 0
		}
		n := copy(p.buf[p.n:ChunkSize], b)
		p.n += n
		p.size += int64(n)
		b = b[n:]
	}
	return total, nil
}

// flush seals one chunk into buf, which may hold it, and writes it.
func (p *PartWriter) flush(plain []byte, last bool) error {
	if !p.headed {
		h := p.key.h
		h.partSalt, h.number = p.salt, p.number
		if _, err := p.w.Write(h.append(make([]byte, 0, headerSize))); err != nil {
			return p.fail(fmt.Errorf("writing header: %w", err))
		}
		p.headed = true
	}
	if _, err := p.w.Write(p.chunk.seal(p.buf[:], plain, last)); err != nil {
		return p.fail(fmt.Errorf("writing chunk %d: %w", p.chunk.next-1, err))
	}
	return nil
}

// fail keeps err: after a failed write the nonce is spent and the stream cut.
func (p *PartWriter) fail(err error) error {
	p.err = err
	if p.buf != nil {
		putBuffer(p.buf)
		p.buf = nil
	}
	return err
}

// Close seals and writes the last chunk.
func (p *PartWriter) Close() error {
	if p.err != nil {
		return p.err
	}
	if p.buf == nil {
		p.buf = getBuffer()
	}
	if err := p.flush(p.buf[:p.n], true); err != nil {
		return err
	}
	p.fail(errClosed)
	return nil
}

// Part is the row for the footer; MD5 and Checksum are the caller's to fill.
// It is valid after Close.
func (p *PartWriter) Part() Part {
	return Part{Number: int(p.number), Size: p.size, Salt: p.salt}
}

// Part is the row that [ObjectKey.Object] takes for an object of one part. It is
// valid after Close.
func (w *Writer) Part() Part { return w.part.Part() }
