package seal

import (
	"bytes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Limits of names, in bytes.
const (
	MaxName       = 1024 // of a key, as in S3
	MaxSealedName = 800  // of a sealed key: with prefix and bucket it stays below 1024
	maxSegment    = 127  // of a segment sealed by itself: 231 characters of the 255 that file systems take
)

// ErrLongName means that a name is too long to be kept in the name of the sealed
// object: its envelope holds it. See [Keys.OpenLongName].
var ErrLongName = errors.New("name is kept in the envelope")

// longMark begins the sealed form of a long name; base32hex has no such letter.
const longMark = "~"

var base32hex = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// What the name MAC is computed over begins with one of these.
const (
	macSegment = 1
	macBucket  = 2
	macName    = 3
)

// SealName seals a key of 1 to [MaxName] bytes: any bytes, as also "a//b" and
// "../x" are keys of S3. Each segment between slashes is sealed by itself under
// its bucket and parent, always to the same result, so the sealed names form the
// same tree. The result is at most [MaxSealedName] bytes of 0-9, a-v and "/" in
// segments of at most 255; a key that does not fit becomes "~" and a MAC, and
// its envelope keeps it. Keys are compared by the tag alone, so a sealed name
// belongs to one key.
func (k *Keys) SealName(bucket, key string) (string, error) {
	if len(key) == 0 || len(key) > MaxName || len(bucket) > MaxName {
		return "", fmt.Errorf("name of %d bytes, not 1 to %d", len(key), MaxName)
	}
	var b strings.Builder
	parent := 0
	for i := 0; i <= len(key); i++ {
		if i < len(key) && key[i] != '/' {
			continue
		}
		if i-parent > maxSegment {
			return k.sealLongName(bucket, key), nil
		}
		if b.Len() > 0 {
			b.WriteByte('/')
		}
		b.WriteString(k.sealSegment(macSegment, bucket, key[:parent], key[parent:i]))
		if b.Len() > MaxSealedName {
			return k.sealLongName(bucket, key), nil
		}
		parent = i + 1
	}
	return b.String(), nil
}

func (k *Keys) sealLongName(bucket, key string) string {
	tag := k.nameTag(bucket, key)
	return longMark + base32hex.EncodeToString(tag[:])
}

// OpenName is the inverse of [Keys.SealName]. For a name that is kept in the
// envelope the error is [ErrLongName].
func (k *Keys) OpenName(bucket, sealed string) (string, error) {
	if strings.HasPrefix(sealed, longMark) {
		return "", ErrLongName
	}
	if len(sealed) > MaxSealedName {
		return "", fmt.Errorf("sealed name of %d bytes: %w", len(sealed), ErrCorrupt)
	}
	var b strings.Builder
	for i, seg := range strings.Split(sealed, "/") {
		if i > 0 {
			b.WriteByte('/')
		}
		plain, err := k.openSegment(macSegment, bucket, b.String(), seg)
		if err != nil {
			return "", err
		}
		b.WriteString(plain)
	}
	if b.Len() == 0 || b.Len() > MaxName {
		return "", fmt.Errorf("sealed name of nothing: %w", ErrCorrupt)
	}
	return b.String(), nil
}

// SealBucket seals the name of a bucket, of 1 to 127 bytes, to one segment.
func (k *Keys) SealBucket(bucket string) (string, error) {
	if len(bucket) == 0 || len(bucket) > maxSegment {
		return "", fmt.Errorf("bucket name of %d bytes, not 1 to %d", len(bucket), maxSegment)
	}
	return k.sealSegment(macBucket, "", "", bucket), nil
}

// OpenBucket is the inverse of [Keys.SealBucket].
func (k *Keys) OpenBucket(sealed string) (string, error) {
	bucket, err := k.openSegment(macBucket, "", "", sealed)
	if err == nil && bucket == "" {
		err = fmt.Errorf("sealed bucket of no name: %w", ErrCorrupt)
	}
	return bucket, err
}

// sealSegment is SIV: the MAC of the segment in its place is both the proof and
// the counter block that encrypts it. Equal segments of one folder are seen to
// be equal, and nothing else; padding hides the length to 16 bytes.
func (k *Keys) sealSegment(kind byte, bucket, parent, segment string) string {
	iv := k.segmentIV(kind, bucket, parent, segment)
	padded := append([]byte(segment), 0x80)
	padded = append(padded, make([]byte, -len(padded)&15)...)
	cipher.NewCTR(k.secrets().nameEnc, iv).XORKeyStream(padded, padded)
	return base32hex.EncodeToString(append(iv, padded...))
}

func (k *Keys) openSegment(kind byte, bucket, parent, sealed string) (string, error) {
	raw, err := base32hex.DecodeString(sealed)
	if err != nil || len(raw) < 32 || len(raw)%16 != 0 || base32hex.EncodeToString(raw) != sealed {
		return "", fmt.Errorf("sealed name is malformed: %w", ErrCorrupt)
	}
	iv, padded := raw[:16], raw[16:]
	cipher.NewCTR(k.secrets().nameEnc, iv).XORKeyStream(padded, padded)
	end := bytes.LastIndexByte(padded, 0x80)
	if end < 0 || end < len(padded)-16 || end > maxSegment || len(bytes.Trim(padded[end+1:], "\x00")) != 0 {
		return "", fmt.Errorf("sealed name does not open: %w", ErrCorrupt)
	}
	segment := string(padded[:end])
	if subtle.ConstantTimeCompare(iv, k.segmentIV(kind, bucket, parent, segment)) != 1 {
		return "", fmt.Errorf("sealed name does not open: %w", ErrCorrupt)
	}
	return segment, nil
}

func (k *Keys) segmentIV(kind byte, bucket, parent, segment string) []byte {
	return k.nameSum(kind, bucket, parent, segment)[:16]
}

// nameTag stands for one key of one bucket: the envelope is bound to it.
func (k *Keys) nameTag(bucket, key string) [32]byte {
	return [32]byte(k.nameSum(macName, bucket, "", key))
}

// nameSum is the MAC over kind and three strings; all but the last carry their lengths.
func (k *Keys) nameSum(kind byte, bucket, parent, segment string) []byte {
	s := k.secrets()
	b := make([]byte, 0, 5+len(bucket)+len(parent)+len(segment))
	b = append(b, kind)
	b = binary.BigEndian.AppendUint16(b, uint16(len(bucket)))
	b = append(b, bucket...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(parent)))
	b = append(b, parent...)
	b = append(b, segment...)
	m := hmac.New(sha256.New, s.nameMAC[:])
	m.Write(b)
	return m.Sum(nil)
}
