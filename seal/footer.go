package seal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

const (
	footerMagic = "\x89footer\n"
	footerUnit  = 512 // salt, sealed record and tag are a multiple of this
	tailSize    = 32

	// A reader of a stream must look ahead over the longest footer.
	maxFooter      = 128*footerUnit + tailSize  // one part: 64 KiB
	maxFooterParts = 4096*footerUnit + tailSize // with a table of parts: 2 MiB
)

// ErrTooLarge means that attributes do not fit into a footer or an envelope.
var ErrTooLarge = errors.New("attributes are too large")

// footerFor is the size of a footer around a record of n bytes.
func footerFor(n int) int {
	return (32+n+tagSize+footerUnit-1)/footerUnit*footerUnit + tailSize
}

// FooterSize is the size of the footer that holds r, in bytes.
func FooterSize(r Record) (int, error) {
	b, err := r.encode()
	if err != nil {
		return 0, err
	}
	return footerFor(len(b)), nil
}

// Footer seals the footer of a multipart object whose parts lie in the order of
// parts, which is that of their numbers. Each call has its own salt and key, so
// the footer may be made again with other parts. Size and Parts of r are filled in.
func (o *ObjectKey) Footer(parts []Part, r Record) ([]byte, error) {
	if o.h.flags&flagMultipart == 0 || len(parts) == 0 {
		return nil, fmt.Errorf("footer over %d parts of an object that is not multipart or has none", len(parts))
	}
	r.Parts, r.Size = parts, 0
	for _, p := range parts {
		r.Size += p.Size
	}
	return o.sealFooter(r, nil)
}

// sealFooter binds the footer to partSalt, the salt of the one part; a table of
// parts holds its salts itself.
func (o *ObjectKey) sealFooter(r Record, partSalt []byte) ([]byte, error) {
	plain, err := r.encode()
	if err != nil {
		return nil, fmt.Errorf("footer: %w", err)
	}
	size := footerFor(len(plain))
	if size > o.maxFooter() {
		return nil, fmt.Errorf("footer of %d bytes, at most %d: %w", size, o.maxFooter(), ErrTooLarge)
	}
	var salt [32]byte
	if _, err := io.ReadFull(o.rnd, salt[:]); err != nil {
		return nil, fmt.Errorf("drawing a footer salt: %w", err)
	}
	tail := appendTail(nil, size, len(r.Parts))
	padded := make([]byte, size-tailSize-32-tagSize)
	copy(padded, plain)
	b := append(make([]byte, 0, size), salt[:]...)
	b = sealOnce(o.footerCipher(salt), b, padded, slices.Concat(partSalt, tail))
	return append(b, tail...), nil
}

func (o *ObjectKey) maxFooter() int {
	if o.h.flags&flagMultipart != 0 {
		return maxFooterParts
	}
	return maxFooter
}

// appendTail appends the last 32 bytes of an object with a footer: length of the
// footer with this tail, count of parts, zeros, magic.
func appendTail(b []byte, size, parts int) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(size))
	b = binary.BigEndian.AppendUint32(b, uint32(parts))
	b = append(b, make([]byte, 16)...)
	return append(b, footerMagic...)
}

// parseTail returns the length of the footer and the count of parts that the
// tail, the last 32 bytes of b, tells.
func parseTail(b []byte, limit int) (size, parts int, err error) {
	if len(b) < tailSize {
		return 0, 0, fmt.Errorf("footer is cut: %w", ErrCorrupt)
	}
	b = b[len(b)-tailSize:]
	n, p := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	if n > uint32(limit) || n < footerUnit+tailSize || n%footerUnit != tailSize || p > MaxParts ||
		string(b) != string(appendTail(nil, int(n), int(p))) {
		return 0, 0, fmt.Errorf("tail of the footer: %w", ErrCorrupt)
	}
	return int(n), int(p), nil
}

// openFooter opens a footer, of exactly the size that its tail tells. partSalt is
// that of the first part.
func (o *ObjectKey) openFooter(b []byte, partSalt [32]byte) (Record, error) {
	size, parts, err := parseTail(b, o.maxFooter())
	if err != nil {
		return Record{}, err
	}
	if size != len(b) {
		return Record{}, fmt.Errorf("footer length: %w", ErrCorrupt)
	}
	data := b[size-tailSize:]
	if o.h.flags&flagMultipart == 0 {
		data = append(partSalt[:], data...)
	}
	padded, err := openOnce(o.footerCipher([32]byte(b[:32])), nil, b[32:size-tailSize], data)
	if err != nil {
		return Record{}, fmt.Errorf("footer does not open: %w", ErrCorrupt)
	}
	r, n, err := decodeRecord(padded)
	if err != nil {
		return Record{}, err
	}
	if len(r.Parts) != parts || (parts > 0) != (o.h.flags&flagMultipart != 0) {
		return Record{}, fmt.Errorf("count of parts: %w", ErrCorrupt)
	}
	if footerFor(n) != size {
		return Record{}, fmt.Errorf("footer padding: %w", ErrCorrupt)
	}
	return r, nil
}
