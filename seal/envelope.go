package seal

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
)

// MaxEnvelope is the longest envelope, in characters: S3 keeps 2 KiB of user
// metadata for an object, names included.
const MaxEnvelope = 1920

// Envelope binds a gateway object to its bucket and key. It lies in the object's
// upstream metadata, so copying, renaming, changing attributes and rewrapping
// the data key rewrite the envelope only and move no data.
type Envelope struct {
	Object     ObjectID // the object whose bytes are meant
	Generation uint64   // grows with each write of this name: an older one is a rollback
	Header     []byte   // object header that holds the data key (ObjectKey.Header), or nil: the object's own
	Deleted    bool     // marks a name that has no object any more
	Replaced   bool     // Headers, Meta and Tags are valid instead of the footer's
	Headers    map[string]string
	Meta       map[string]string
	Tags       map[string]string
}

type wireEnvelope struct {
	Object     [16]byte          `cbor:"1,keyasint"`
	Generation uint64            `cbor:"2,keyasint"`
	Header     []byte            `cbor:"3,keyasint,omitempty"`
	Deleted    bool              `cbor:"4,keyasint,omitempty"`
	Replaced   bool              `cbor:"5,keyasint,omitempty"`
	Headers    map[string]string `cbor:"6,keyasint,omitempty"`
	Meta       map[string]string `cbor:"7,keyasint,omitempty"`
	Tags       map[string]string `cbor:"8,keyasint,omitempty"`
	Key        string            `cbor:"9,keyasint,omitempty"` // only if the sealed name does not hold it
}

// The envelope is version 1, suite 1, key id 8, salt 24, sealed CBOR, in base64url.
const (
	envelopeVersion = 1
	envelopeSalt    = 24
	envelopeHead    = 2 + 8 + envelopeSalt
)

var base64url = base64.RawURLEncoding.Strict()

// SealEnvelope seals e for the object at bucket and key: printable ASCII of at
// most [MaxEnvelope] characters. More metadata than fits is [ErrTooLarge]: such
// an object is written anew, with the metadata in its footer.
func (k *Keys) SealEnvelope(bucket, key string, e Envelope) (string, error) {
	return k.sealEnvelope(bucket, key, e, DefaultSuite(), rand.Reader)
}

func (k *Keys) sealEnvelope(bucket, key string, e Envelope, suite Suite, rnd io.Reader) (string, error) {
	if e.Header != nil && len(e.Header) != ObjectHeaderSize {
		return "", fmt.Errorf("object header of %d bytes, not %d", len(e.Header), ObjectHeaderSize)
	}
	w := wireEnvelope{e.Object, e.Generation, e.Header, e.Deleted, e.Replaced, e.Headers, e.Meta, e.Tags, ""}
	name, err := k.SealName(bucket, key)
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(name, longMark) {
		w.Key = key
	}
	plain, err := encMode.Marshal(w)
	if err != nil {
		return "", fmt.Errorf("encoding envelope: %w", err)
	}
	b := make([]byte, envelopeHead, envelopeHead+len(plain)+tagSize)
	b[0], b[1] = envelopeVersion, byte(suite)
	id := k.ID()
	copy(b[2:], id[:])
	if _, err := io.ReadFull(rnd, b[10:]); err != nil {
		return "", fmt.Errorf("drawing a salt: %w", err)
	}
	b = sealOnce(suite.aead(k.envelopeKey(b[:envelopeHead])), b, plain, k.envelopeData(b[:envelopeHead], k.nameTag(bucket, key)))
	s := base64url.EncodeToString(b)
	if len(s) > MaxEnvelope {
		return "", fmt.Errorf("envelope of %d characters, at most %d: %w", len(s), MaxEnvelope, ErrTooLarge)
	}
	return s, nil
}

// envelopeKey is the key of one envelope, used once: the salt is random.
func (k *Keys) envelopeKey(head []byte) [32]byte {
	s := k.secrets()
	return derive(s.env[:], head[10:envelopeHead], "coffer envelope v1")
}

// envelopeData is what the envelope is bound to.
func (k *Keys) envelopeData(head []byte, tag [32]byte) []byte {
	store := k.Store()
	return bytes.Join([][]byte{head, store[:], tag[:]}, nil)
}

// OpenEnvelope opens the envelope of the object at bucket and key. One that was
// sealed for another name is [ErrCorrupt].
func (k *Keys) OpenEnvelope(bucket, key, envelope string) (Envelope, error) {
	name, err := k.SealName(bucket, key)
	if err != nil {
		return Envelope{}, err
	}
	w, err := k.openEnvelope(k.nameTag(bucket, key), envelope)
	if err != nil {
		return Envelope{}, err
	}
	want := ""
	if strings.HasPrefix(name, longMark) {
		want = key
	}
	if w.Key != want {
		return Envelope{}, fmt.Errorf("name in the envelope: %w", ErrCorrupt)
	}
	return w.envelope(), nil
}

// OpenLongName opens the envelope of an object whose sealed name holds only a
// MAC of its key, as a rebuilt index needs it, and returns the key as well.
func (k *Keys) OpenLongName(bucket, sealedName, envelope string) (string, Envelope, error) {
	coded, long := strings.CutPrefix(sealedName, longMark)
	raw, err := base32hex.DecodeString(coded)
	if !long || err != nil || len(raw) != 32 || base32hex.EncodeToString(raw) != coded {
		return "", Envelope{}, fmt.Errorf("sealed name is malformed: %w", ErrCorrupt)
	}
	w, err := k.openEnvelope([32]byte(raw), envelope)
	if err != nil {
		return "", Envelope{}, err
	}
	// The name must be what SealName makes, not only have the tag.
	name, err := k.SealName(bucket, w.Key)
	if err != nil || subtle.ConstantTimeCompare([]byte(name), []byte(sealedName)) != 1 {
		return "", Envelope{}, fmt.Errorf("name in the envelope: %w", ErrCorrupt)
	}
	return w.Key, w.envelope(), nil
}

func (k *Keys) openEnvelope(tag [32]byte, envelope string) (wireEnvelope, error) {
	var w wireEnvelope
	if len(envelope) > MaxEnvelope {
		return w, fmt.Errorf("envelope of %d characters: %w", len(envelope), ErrCorrupt)
	}
	b, err := base64url.DecodeString(envelope)
	if err != nil || len(b) < envelopeHead+tagSize || base64url.EncodeToString(b) != envelope {
		return w, fmt.Errorf("envelope is malformed: %w", ErrCorrupt)
	}
	suite := Suite(b[1])
	if b[0] != envelopeVersion || !suite.known() {
		return w, fmt.Errorf("envelope version %d, suite %d: %w", b[0], b[1], ErrVersion)
	}
	if id := k.ID(); !bytes.Equal(b[2:10], id[:]) {
		return w, fmt.Errorf("envelope under key id %x, not %x: %w", b[2:10], id, ErrKey)
	}
	head := b[:envelopeHead]
	plain, err := openOnce(suite.aead(k.envelopeKey(head)), nil, b[envelopeHead:], k.envelopeData(head, tag))
	if err != nil {
		return w, fmt.Errorf("envelope does not open under this name: %w", ErrCorrupt)
	}
	return decodeEnvelope(plain)
}

// decodeEnvelope reads the content. It refuses every encoding but the one that
// SealEnvelope makes.
func decodeEnvelope(plain []byte) (wireEnvelope, error) {
	var w wireEnvelope
	if err := decMode.Unmarshal(plain, &w); err != nil {
		return w, fmt.Errorf("decoding envelope (%v): %w", err, ErrCorrupt)
	}
	again, err := encMode.Marshal(w)
	if err != nil || !bytes.Equal(again, plain) || w.Header != nil && len(w.Header) != ObjectHeaderSize {
		return w, fmt.Errorf("envelope is not canonical: %w", ErrCorrupt)
	}
	return w, nil
}

func (w wireEnvelope) envelope() Envelope {
	return Envelope{w.Object, w.Generation, w.Header, w.Deleted, w.Replaced, w.Headers, w.Meta, w.Tags}
}
