package seal

import (
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"io"
)

// Options says how a new object is sealed. The zero value is an object of one
// part, without footer, bound to no name.
type Options struct {
	// Name binds the object to a name; under any other it does not open. Gateway
	// objects, which are copied and renamed without touching their bytes, are
	// bound by an [Envelope] instead.
	Name string
	// Footer adds a [Record] after the last chunk.
	Footer bool
	// Multipart makes an object of numbered parts; it implies Footer.
	Multipart bool
	// Suite is the cipher; 0 takes [DefaultSuite].
	Suite Suite
}

// ObjectKey is the key of one object: a random data key, with the header that
// holds it sealed under the backup key. It is immutable, safe for concurrent use
// (parts may be sealed at the same time) and prints "seal.ObjectKey(hidden)".
type ObjectKey struct {
	h   header
	dek func() *[32]byte
	rnd io.Reader // crypto/rand, but for vectors
}

// NewObjectKey makes the key of a new object.
func NewObjectKey(k *Keys, o Options) (*ObjectKey, error) { return newObjectKey(k, o, rand.Reader) }

func newObjectKey(k *Keys, o Options, rnd io.Reader) (*ObjectKey, error) {
	h := header{suite: o.Suite}
	if h.suite == 0 {
		h.suite = DefaultSuite()
	}
	if !h.suite.known() {
		return nil, fmt.Errorf("suite %d: %w", o.Suite, ErrVersion)
	}
	if o.Name != "" {
		h.flags |= flagBound
	}
	if o.Footer || o.Multipart {
		h.flags |= flagFooter
	}
	if o.Multipart {
		h.flags |= flagMultipart
	}
	var dek [32]byte
	for _, b := range [][]byte{dek[:], h.id[:]} {
		if _, err := io.ReadFull(rnd, b); err != nil {
			return nil, fmt.Errorf("drawing an object key: %w", err)
		}
	}
	return wrapObject(k, h, dek, o.Name, rnd)
}

// wrapObject seals dek into h with a fresh salt.
func wrapObject(k *Keys, h header, dek [32]byte, name string, rnd io.Reader) (*ObjectKey, error) {
	if _, err := io.ReadFull(rnd, h.salt[:]); err != nil {
		return nil, fmt.Errorf("drawing a salt: %w", err)
	}
	h.keyID = k.ID()
	raw := h.appendObject(nil)
	sealOnce(h.suite.aead(wrapKey(k, &h, raw, name)), h.wrapped[:0], dek[:], raw[:72])
	h.commit = commitment(&h, dek)
	return &ObjectKey{h: h, dek: func() *[32]byte { return &dek }, rnd: rnd}, nil
}

// wrapKey is the key that seals the data key, used once: the salt is random.
func wrapKey(k *Keys, h *header, raw []byte, name string) [32]byte {
	info := "coffer wrap v1" + string(raw[:40])
	if h.flags&flagBound != 0 {
		sum := sha256.Sum256([]byte(name))
		info += string(sum[:])
	}
	s := k.secrets()
	return derive(s.wrap[:], h.salt[:], info)
}

// commitment proves which data key is meant: an AEAD alone opens under two keys
// for who can choose both.
func commitment(h *header, dek [32]byte) [32]byte {
	raw := h.appendObject(nil)
	return derive(dek[:], h.salt[:], "coffer commit v1"+string(raw[:120]))
}

// OpenObjectKey recovers the key of an object from its object header, the first
// [ObjectHeaderSize] bytes of each part or [ObjectKey.Header]. name is the name
// that the object is bound to, empty if it is bound to none.
func OpenObjectKey(k *Keys, objectHeader []byte, name string) (*ObjectKey, error) {
	h, err := parseObjectHeader(objectHeader)
	if err != nil {
		return nil, err
	}
	return openObjectKey(k, h, name)
}

func openObjectKey(k *Keys, h header, name string) (*ObjectKey, error) {
	if id := k.ID(); h.keyID != id {
		return nil, fmt.Errorf("key id %x, not %x: %w", h.keyID, id, ErrKey)
	}
	if bound := h.flags&flagBound != 0; bound != (name != "") {
		return nil, fmt.Errorf("bound to a name: %t: %w", bound, ErrCorrupt)
	}
	raw := h.appendObject(nil)
	plain, err := openOnce(h.suite.aead(wrapKey(k, &h, raw, name)), nil, h.wrapped[:], raw[:72])
	if err != nil {
		return nil, fmt.Errorf("data key does not open: %w", ErrCorrupt)
	}
	dek := [32]byte(plain)
	if c := commitment(&h, dek); subtle.ConstantTimeCompare(c[:], h.commit[:]) != 1 {
		return nil, fmt.Errorf("key commitment differs: %w", ErrCorrupt)
	}
	return &ObjectKey{h: h, dek: func() *[32]byte { return &dek }, rnd: rand.Reader}, nil
}

// ID is the public id of the object.
func (o *ObjectKey) ID() ObjectID { return o.h.id }

// Header is the object header, [ObjectHeaderSize] bytes, public. With the backup
// key it gives the object key again: see [OpenObjectKey].
func (o *ObjectKey) Header() []byte { return o.h.appendObject(nil) }

// Rewrap seals the same data key under k, which may come from another backup
// key: the way to change the backup key without touching an object's bytes. The
// new header goes into the envelope. name is the bound name, as for [OpenObjectKey].
func (o *ObjectKey) Rewrap(k *Keys, name string) (*ObjectKey, error) {
	if (o.h.flags&flagBound != 0) != (name != "") {
		return nil, fmt.Errorf("bound to a name: %t: %w", name == "", ErrCorrupt)
	}
	return wrapObject(k, o.h, *o.dek(), name, o.rnd)
}

// holds tells whether h, read from the object itself, is a header of this data
// key. After a rewrap the two differ in key id, salt, wrapped key and commitment.
func (o *ObjectKey) holds(h *header) bool {
	if h.id != o.h.id || h.suite != o.h.suite || h.flags != o.h.flags {
		return false
	}
	if h.salt == o.h.salt && h.wrapped == o.h.wrapped && h.keyID == o.h.keyID && h.commit == o.h.commit {
		return true // the very header that o was opened with
	}
	c := commitment(h, *o.dek())
	return subtle.ConstantTimeCompare(c[:], h.commit[:]) == 1
}

// partCipher is the cipher of one part.
func (o *ObjectKey) partCipher(salt [32]byte, number uint16) cipher.AEAD {
	info := append([]byte("coffer part v1"), o.h.id[:]...)
	info = binary.BigEndian.AppendUint16(info, number)
	return o.h.suite.aead(derive(o.dek()[:], salt[:], string(info)))
}

// footerCipher is the cipher of one attempt at a footer.
func (o *ObjectKey) footerCipher(salt [32]byte) cipher.AEAD {
	return o.h.suite.aead(derive(o.dek()[:], salt[:], "coffer footer v1"+string(o.h.id[:])))
}

// Format keeps the data key out of logs and errors, whatever the verb.
func (*ObjectKey) Format(f fmt.State, _ rune) { io.WriteString(f, "seal.ObjectKey(hidden)") }

// MarshalJSON keeps the data key out of JSON.
func (*ObjectKey) MarshalJSON() ([]byte, error) { return []byte(`"seal.ObjectKey(hidden)"`), nil }
