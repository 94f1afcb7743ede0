package hsm

import (
	"crypto/subtle"
	"encoding/binary"
	"fmt"
)

// A record, as the vault stores it:
//
//	offset  size  field
//	0       1     version, 1
//	1       1     mode
//	2       16    id (CKA_ID) of the token key that it was made under
//	18      33    public key, compressed
//	51      2     n, big-endian
//	53      n     wrapped: the wrapped key, salt, or sealed scalar; 16 to 512 bytes
//	53+n    32    HMAC-SHA-256 by the token over the owner and all before
const (
	recordVersion = 1
	wrappedAt     = 53
	macSize       = 32
	minWrapped    = 16
	maxWrapped    = 512
	maxOwner      = 1024
)

type record struct {
	mode    Mode
	key     [16]byte
	public  [33]byte
	wrapped []byte
	mac     [32]byte
}

// body is what the MAC covers besides the owner.
func (r *record) body() []byte {
	b := append(make([]byte, 0, wrappedAt+len(r.wrapped)+macSize), recordVersion, byte(r.mode))
	b = append(b, r.key[:]...)
	b = append(b, r.public[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.wrapped)))
	return append(b, r.wrapped...)
}

func (r *record) bytes() []byte { return append(r.body(), r.mac[:]...) }

// parseRecord fails with [ErrRecord].
func parseRecord(b []byte) (*record, error) {
	if len(b) < wrappedAt+minWrapped+macSize || b[0] != recordVersion {
		return nil, fmt.Errorf("%w: %d bytes", ErrRecord, len(b))
	}
	n := int(binary.BigEndian.Uint16(b[wrappedAt-2:]))
	if n < minWrapped || n > maxWrapped || len(b) != wrappedAt+n+macSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrRecord, len(b))
	}
	return &record{
		mode:    Mode(b[1]),
		key:     [16]byte(b[2:]),
		public:  [33]byte(b[18:]),
		wrapped: b[wrappedAt : wrappedAt+n],
		mac:     [32]byte(b[wrappedAt+n:]),
	}, nil
}

// Labels of what the token's MAC key authenticates. Each use has its own, so
// that no message of one use has the MAC of another's.
const (
	macRecord  = "coffer hsm 1 record"
	macMark    = "coffer hsm 1 mark"
	macMessage = "coffer hsm 1 message"
	macTweak   = "coffer hsm 1 tweak"
	aadSeal    = "coffer hsm 1 seal"
)

// frame joins a label and fields, each preceded by its length in 4 bytes.
func frame(label string, fields ...[]byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(label)))
	b = append(b, label...)
	for _, f := range fields {
		b = binary.BigEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	return b
}

// bind makes the MAC of r for owner: without it, who can write to the node's
// database moves a victim's record to his own account and guesses there.
func (s *session) bind(owner []byte, r *record) (err error) {
	r.mac, err = s.hmac(s.k.mac, frame(macRecord, owner, r.body()))
	return err
}

// verify returns [ErrRecord] unless r was bound to owner by this token.
func (s *session) verify(owner []byte, r *record) error {
	mac, err := s.hmac(s.k.mac, frame(macRecord, owner, r.body()))
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(mac[:], r.mac[:]) != 1 {
		return ErrRecord
	}
	if _, ok := s.k.main[r.key]; !ok || r.mode != s.k.mode {
		return fmt.Errorf("%w: made under a key that is gone", ErrRecord)
	}
	return nil
}
