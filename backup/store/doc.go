package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"coffer/backup/pack"
	"coffer/seal"
	"coffer/upstream"
)

// A document is a small object that is read whole: config, index, snapshot,
// head, deletion. Before sealing it is
//
//	0   1   version, 1
//	1   1   0: payload as it is, 1: zstd
//	2   4   bytes of the payload as stored here, little-endian
//	6   4   bytes of the payload
//	10      payload, then zeros up to a padded size
const (
	docVersion = 1
	docHead    = 10
	docMin     = 256       // smallest padded size
	docMax     = 256 << 20 // bytes of a sealed document that a reader accepts
)

// encodeDoc frames and pads a payload.
func encodeDoc(payload []byte) []byte {
	z := pack.GetCompressor()
	defer z.Put()
	stored, compressed := z.Compress(payload)
	b := make([]byte, docHead, pack.Padded(max(docMin, docHead+len(stored))))
	b[0] = docVersion
	if compressed {
		b[1] = 1
	}
	binary.LittleEndian.PutUint32(b[2:], uint32(len(stored)))
	binary.LittleEndian.PutUint32(b[6:], uint32(len(payload)))
	return append(b, stored...)[:cap(b)]
}

// decodeDoc is the inverse of encodeDoc.
func decodeDoc(b []byte) ([]byte, error) {
	if len(b) < docHead {
		return nil, fmt.Errorf("document of %d bytes: %w", len(b), ErrCorrupt)
	}
	if b[0] != docVersion {
		return nil, fmt.Errorf("document version %d: %w", b[0], ErrVersion)
	}
	stored, plain := int(binary.LittleEndian.Uint32(b[2:])), int(binary.LittleEndian.Uint32(b[6:]))
	if stored > len(b)-docHead || plain > pack.MaxPlain || b[1] > 1 || b[1] == 0 && plain != stored {
		return nil, fmt.Errorf("document lengths: %w", ErrCorrupt)
	}
	body, rest := b[docHead:docHead+stored], b[docHead+stored:]
	for _, x := range rest {
		if x != 0 {
			return nil, fmt.Errorf("document padding: %w", ErrCorrupt)
		}
	}
	if b[1] == 0 {
		return body, nil
	}
	z := pack.GetDecompressor()
	defer z.Put()
	out, err := z.Decompress(nil, body, plain)
	if err != nil {
		return nil, fmt.Errorf("document: %w: %w", ErrCorrupt, err)
	}
	return out, nil
}

// PutDoc seals and writes a document that nothing else has the name of.
func (s *Store) PutDoc(ctx context.Context, name string, payload []byte) (sealed []byte, err error) {
	sealed = s.keys.Seal(name, encodeDoc(payload))
	_, err = s.bucket.Put(ctx, name, bytes.NewReader(sealed), int64(len(sealed)), upstream.PutOptions{IfAbsent: true})
	if err != nil {
		return nil, fmt.Errorf("writing %s: %w", name, err)
	}
	return sealed, nil
}

// GetDoc fetches and opens a document.
func (s *Store) GetDoc(ctx context.Context, name string) ([]byte, error) {
	sealed, err := s.Fetch(ctx, name)
	if err != nil {
		return nil, err
	}
	return s.OpenDoc(name, sealed)
}

// OpenDoc opens a sealed document.
func (s *Store) OpenDoc(name string, sealed []byte) ([]byte, error) {
	plain, err := s.keys.Open(name, sealed)
	if err == nil {
		plain, err = decodeDoc(plain)
	}
	if err != nil {
		return nil, Damaged(name, err)
	}
	return plain, nil
}

// Fetch reads a whole small object.
func (s *Store) Fetch(ctx context.Context, name string) ([]byte, error) {
	body, info, err := s.bucket.Get(ctx, name, 0, -1)
	if err != nil {
		return nil, Damaged(name, err)
	}
	defer body.Close()
	if info.Size > docMax {
		return nil, fmt.Errorf("reading %s: %d bytes: %w", name, info.Size, ErrCorrupt)
	}
	var b bytes.Buffer
	b.Grow(int(min(max(info.Size, 0), 1<<20)) + bytes.MinRead)
	if _, err := io.Copy(&b, io.LimitReader(body, docMax+1)); err != nil {
		return nil, Damaged(name, err)
	}
	if b.Len() > docMax {
		return nil, fmt.Errorf("reading %s: too long: %w", name, ErrCorrupt)
	}
	return b.Bytes(), nil
}

// Damaged says which object could not be read, and puts the errors of the
// packages beneath into this package's words.
func Damaged(name string, err error) error {
	switch {
	case errors.Is(err, ErrCorrupt), errors.Is(err, ErrVersion), errors.Is(err, ErrNotExist):
		return fmt.Errorf("reading %s: %w", name, err)
	case errors.Is(err, seal.ErrCorrupt), errors.Is(err, upstream.ErrDamaged), errors.Is(err, pack.ErrFormat):
		return fmt.Errorf("reading %s: %w: %w", name, ErrCorrupt, err)
	case errors.Is(err, seal.ErrVersion):
		return fmt.Errorf("reading %s: %w: %w", name, ErrVersion, err)
	case errors.Is(err, upstream.ErrNotExist):
		return fmt.Errorf("reading %s: %w: %w", name, ErrNotExist, err)
	case errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, upstream.ErrUnavailable): // shorter than it says
		return fmt.Errorf("reading %s: %w: %w", name, ErrCorrupt, err)
	default:
		return fmt.Errorf("reading %s: %w", name, err)
	}
}

// ReplaceDoc makes another document of an opened one.
func ReplaceDoc(doc []byte, change func(payload []byte) ([]byte, error)) ([]byte, error) {
	payload, err := decodeDoc(doc)
	if err == nil {
		payload, err = change(payload)
	}
	if err != nil {
		return nil, err
	}
	return encodeDoc(payload), nil
}
