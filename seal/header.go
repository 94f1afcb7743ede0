package seal

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Sizes of the header, in bytes.
const (
	// ObjectHeaderSize is the part of the header that all parts share.
	ObjectHeaderSize = 152
	headerSize       = 192
)

const (
	magic     = "\x89coffer\n"
	version   = 1
	chunkLog2 = 16
)

// Flags of an object, authenticated as part of the info of its wrapping key.
const (
	flagBound     = 1 << 0 // opens only under its name
	flagFooter    = 1 << 1 // ends with a footer
	flagMultipart = 1 << 2 // its parts are listed in the footer
	flagsKnown    = flagBound | flagFooter | flagMultipart
)

// ObjectID is the random public id of an object. Copies keep it.
type ObjectID [16]byte

func (i ObjectID) String() string { return fmt.Sprintf("%x", i[:]) }

// header is the head of a part. The fields up to commit are the object header.
type header struct {
	suite   Suite
	flags   byte
	id      ObjectID
	keyID   [8]byte
	salt    [32]byte
	wrapped [48]byte
	commit  [32]byte

	partSalt [32]byte
	number   uint16
}

// appendObject appends the object header.
func (h *header) appendObject(b []byte) []byte {
	b = append(b, magic...)
	b = append(b, version, byte(h.suite), chunkLog2, h.flags)
	b = binary.BigEndian.AppendUint32(b, headerSize)
	b = append(b, h.id[:]...)
	b = append(b, h.keyID[:]...)
	b = append(b, h.salt[:]...)
	b = append(b, h.wrapped[:]...)
	return append(b, h.commit[:]...)
}

// append appends the whole part header.
func (h *header) append(b []byte) []byte {
	b = h.appendObject(b)
	b = append(b, h.partSalt[:]...)
	b = binary.BigEndian.AppendUint16(b, h.number)
	return append(b, 0, 0, 0, 0, 0, 0)
}

// parseObjectHeader reads the first [ObjectHeaderSize] bytes of b.
func parseObjectHeader(b []byte) (header, error) {
	var h header
	if len(b) < ObjectHeaderSize || string(b[:8]) != magic {
		return h, fmt.Errorf("no header of a sealed object: %w", ErrCorrupt)
	}
	h.suite, h.flags = Suite(b[9]), b[11]
	if b[8] != version || !h.suite.known() || b[10] != chunkLog2 || h.flags&^byte(flagsKnown) != 0 {
		return h, fmt.Errorf("version %d, suite %d, chunk 2^%d, flags %#x: %w", b[8], b[9], b[10], b[11], ErrVersion)
	}
	if binary.BigEndian.Uint32(b[12:]) != headerSize {
		return h, fmt.Errorf("header length: %w", ErrCorrupt)
	}
	if h.flags&flagMultipart != 0 && h.flags&flagFooter == 0 {
		return h, fmt.Errorf("parts without a footer: %w", ErrCorrupt)
	}
	b = b[16:]
	for _, field := range [][]byte{h.id[:], h.keyID[:], h.salt[:], h.wrapped[:], h.commit[:]} {
		b = b[copy(field, b):]
	}
	return h, nil
}

// parseHeader reads the header of a part.
func parseHeader(b []byte) (header, error) {
	h, err := parseObjectHeader(b)
	if err != nil {
		return h, err
	}
	if len(b) < headerSize {
		return h, fmt.Errorf("header is cut: %w", ErrCorrupt)
	}
	copy(h.partSalt[:], b[152:])
	h.number = binary.BigEndian.Uint16(b[184:])
	if !bytes.Equal(b[186:headerSize], make([]byte, 6)) || (h.number != 0) != (h.flags&flagMultipart != 0) || h.number > MaxParts {
		return h, fmt.Errorf("part number: %w", ErrCorrupt)
	}
	return h, nil
}
