package seal

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// Record is what the footer of an object holds: attributes that the storage must
// not see, and the table of parts. Strings are byte strings, as in S3; seal reads
// none but Size and Parts.
type Record struct {
	Size      int64             // plaintext of the whole object; filled in by seal
	Parts     []Part            // in order of their numbers; none for an object of one part
	ETag      string            // of the plaintext, without quotes
	Checksums []Checksum        // of the plaintext
	Headers   map[string]string // content-type, cache-control, ...: lower-case names
	Meta      map[string]string // user metadata, names without x-amz-meta-
	Tags      map[string]string // tags at the time of writing
	Created   time.Time         // stored in nanoseconds; zero is not stored
	Writer    string            // which program or installation wrote it
	Bucket    string            // name at the time of writing: what a rescue without
	Key       string            // envelopes goes by. A copy may have another name
}

// Part is one row of the table of parts.
type Part struct {
	_        struct{} `cbor:",toarray"`
	Number   int      // 1 to MaxParts
	Size     int64    // plaintext, in bytes
	Salt     [32]byte // of the attempt that is part of the object
	MD5      []byte   // of the plaintext, 16 bytes, or nil
	Checksum []byte   // of the plaintext, by the object's algorithm, or nil
}

// Sealed is the size of the sealed part.
func (p Part) Sealed() int64 { return SealedSize(p.Size) }

// Checksum is one checksum as S3 knows it.
type Checksum struct {
	_     struct{} `cbor:",toarray"`
	Type  string   // "FULL_OBJECT" or "COMPOSITE"
	Algo  string   // "CRC32", "CRC64NVME", "SHA256", ...
	Value string   // base64, with "-N" when composite
}

// wireRecord is Record in CBOR: small integers as keys, absent fields left out.
type wireRecord struct {
	Size      int64             `cbor:"1,keyasint"`
	Parts     []Part            `cbor:"2,keyasint,omitempty"`
	ETag      string            `cbor:"3,keyasint,omitempty"`
	Checksums []Checksum        `cbor:"4,keyasint,omitempty"`
	Headers   map[string]string `cbor:"5,keyasint,omitempty"`
	Meta      map[string]string `cbor:"6,keyasint,omitempty"`
	Tags      map[string]string `cbor:"7,keyasint,omitempty"`
	Created   int64             `cbor:"8,keyasint,omitempty"`
	Writer    string            `cbor:"9,keyasint,omitempty"`
	Bucket    string            `cbor:"10,keyasint,omitempty"`
	Key       string            `cbor:"11,keyasint,omitempty"`
}

// Deterministic CBOR (RFC 8949, 4.2.1) with byte strings for all strings, as
// names and headers need not be UTF-8.
var (
	encMode = func() cbor.EncMode {
		o := cbor.CoreDetEncOptions()
		o.String = cbor.StringToByteString
		o.NilContainers = cbor.NilContainerAsEmpty
		m, err := o.EncMode()
		if err != nil {
			panic("seal: internal error: " + err.Error())
		}
		return m
	}()
	decMode = func() cbor.DecMode {
		m, err := cbor.DecOptions{
			DupMapKey:          cbor.DupMapKeyEnforcedAPF,
			IndefLength:        cbor.IndefLengthForbidden,
			TagsMd:             cbor.TagsForbidden,
			ExtraReturnErrors:  cbor.ExtraDecErrorUnknownField,
			ByteStringToString: cbor.ByteStringToStringAllowed,
			MaxNestedLevels:    4,
			MaxArrayElements:   MaxParts,
			MaxMapPairs:        1024,
		}.DecMode()
		if err != nil {
			panic("seal: internal error: " + err.Error())
		}
		return m
	}()
)

// encode returns r in deterministic CBOR.
func (r Record) encode() ([]byte, error) {
	w := wireRecord{
		Size: r.Size, Parts: r.Parts, ETag: r.ETag, Checksums: r.Checksums, Headers: r.Headers, Meta: r.Meta,
		Tags: r.Tags, Writer: r.Writer, Bucket: r.Bucket, Key: r.Key,
	}
	if !r.Created.IsZero() {
		w.Created = r.Created.UnixNano()
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	b, err := encMode.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("encoding record: %w", err)
	}
	return b, nil
}

// decodeRecord reads a record followed by zeros, and returns its size without
// them. It refuses every encoding but the one that encode makes.
func decodeRecord(padded []byte) (Record, int, error) {
	var w wireRecord
	rest, err := decMode.UnmarshalFirst(padded, &w)
	if err != nil {
		return Record{}, 0, fmt.Errorf("decoding record (%v): %w", err, ErrCorrupt)
	}
	r := Record{
		Size: w.Size, Parts: w.Parts, ETag: w.ETag, Checksums: w.Checksums, Headers: w.Headers, Meta: w.Meta,
		Tags: w.Tags, Writer: w.Writer, Bucket: w.Bucket, Key: w.Key,
	}
	if w.Created != 0 {
		r.Created = time.Unix(0, w.Created).UTC()
	}
	again, err := r.encode()
	if err != nil {
		return Record{}, 0, fmt.Errorf("record (%v): %w", err, ErrCorrupt)
	}
	n := len(padded) - len(rest)
	if !bytes.Equal(again, padded[:n]) || len(bytes.TrimLeft(rest, "\x00")) != 0 {
		return Record{}, 0, fmt.Errorf("record is not canonical: %w", ErrCorrupt)
	}
	return r, n, nil
}

// check holds the record to what the table of parts promises.
func (r Record) check() error {
	if r.Size < 0 || r.Size > maxSize {
		return fmt.Errorf("size %d", r.Size)
	}
	if len(r.Parts) == 0 {
		return nil
	}
	var sum int64
	for i, p := range r.Parts {
		if p.Number < 1 || p.Number > MaxParts || i > 0 && p.Number <= r.Parts[i-1].Number {
			return fmt.Errorf("part numbers are not ascending at %d", p.Number)
		}
		if p.Size < 0 || p.Size > r.Size-sum {
			return fmt.Errorf("part %d: size %d", p.Number, p.Size)
		}
		sum += p.Size
	}
	if sum != r.Size {
		return fmt.Errorf("parts of %d bytes in an object of %d", sum, r.Size)
	}
	return nil
}

// clone copies what a caller could change.
func (r Record) clone() Record {
	r.Parts, r.Checksums = slices.Clone(r.Parts), slices.Clone(r.Checksums)
	return r
}
