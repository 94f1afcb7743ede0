package hsm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"

	"filippo.io/nistec"
	"github.com/miekg/pkcs11"
)

// NewKey makes a key for owner (any bytes, at most 1024) and returns the record
// of it and its public key.
func (t *Token) NewKey(ctx context.Context, owner []byte) (rec []byte, public [33]byte, err error) {
	if len(owner) > maxOwner {
		return nil, public, fmt.Errorf("hsm: owner of %d bytes, at most %d", len(owner), maxOwner)
	}
	r, err := do(ctx, t, "new_key", func(s *session) (*record, error) { return s.newKey(owner) })
	if err != nil {
		return nil, public, err
	}
	return r.bytes(), r.public, nil
}

// Evaluate returns k·blinded, for the key k of record, which must have been made
// for owner by this token. [ErrPoint], [ErrRecord], [ErrBusy], [ErrUnavailable].
func (t *Token) Evaluate(ctx context.Context, owner, rec []byte, blinded [33]byte) (evaluated [33]byte, err error) {
	b, err := parsePoint(blinded)
	if err != nil {
		return evaluated, err
	}
	r, err := parseRecord(rec)
	if err != nil {
		return evaluated, err
	}
	if len(owner) > maxOwner {
		return evaluated, fmt.Errorf("%w: owner of %d bytes", ErrRecord, len(owner))
	}
	p, err := do(ctx, t, "evaluate", func(s *session) (*nistec.P256Point, error) {
		if err := s.verify(owner, r); err != nil {
			return nil, err
		}
		p, err := s.evaluate(owner, r, b)
		if errors.Is(err, errFault) || vague(err) && s.alive() {
			return nil, fmt.Errorf("%w: %w", ErrRecord, err)
		}
		return p, err
	})
	if err != nil {
		return evaluated, err
	}
	return compress(p), nil
}

func (s *session) newKey(owner []byte) (*record, error) {
	r := &record{mode: s.k.mode, key: s.k.current}
	var err error
	switch s.k.mode {
	case ModeWrapped:
		err = s.makeWrapped(r)
	case ModeTweak:
		err = s.makeTweak(owner, r)
	case ModeUnseal:
		err = s.makeSealed(owner, r)
	}
	if err != nil {
		return nil, fmt.Errorf("hsm: making a key: %w", err)
	}
	if err := s.bind(owner, r); err != nil {
		return nil, fmt.Errorf("hsm: making a key: %w", err)
	}
	return r, nil
}

func (s *session) evaluate(owner []byte, r *record, b *nistec.P256Point) (*nistec.P256Point, error) {
	switch r.mode {
	case ModeWrapped:
		return s.evaluateWrapped(r, b)
	case ModeTweak:
		return s.evaluateTweak(owner, r, b)
	default:
		return s.evaluateSealed(owner, r, b)
	}
}

// makeWrapped makes a pair in the session and wraps its private half, whose
// clear form ends with the session object.
func (s *session) makeWrapped(r *record) error {
	pub, prv, err := s.p.GenerateKeyPair(s.h, mechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil), publicKey(false, "", nil), accountKey())
	if err != nil {
		return err
	}
	defer s.destroy(pub)
	defer s.destroy(prv)
	raw, err := s.attribute(pub, pkcs11.CKA_EC_POINT)
	if err != nil {
		return err
	}
	p, err := parseECPoint(raw)
	if err != nil {
		return err
	}
	r.public = compress(p)
	return s.wrap(r, prv)
}

func (s *session) wrap(r *record, prv pkcs11.ObjectHandle) (err error) {
	r.wrapped, err = s.p.WrapKey(s.h, mechanism(s.k.kwp, nil), s.k.main[r.key], prv)
	if err == nil && (len(r.wrapped) < minWrapped || len(r.wrapped) > maxWrapped) {
		err = fmt.Errorf("wrapped key of %d bytes", len(r.wrapped))
	}
	return err
}

func (s *session) unwrap(r *record) (pkcs11.ObjectHandle, error) {
	template := append(unwrapped(), attr(pkcs11.CKA_PRIVATE, true))
	return s.p.UnwrapKey(s.h, mechanism(s.k.kwp, nil), s.k.main[r.key], r.wrapped, template)
}

func (s *session) evaluateWrapped(r *record, b *nistec.P256Point) (*nistec.P256Point, error) {
	public, err := parsePoint(r.public)
	if err != nil {
		return nil, errFault
	}
	key, err := s.unwrap(r)
	if err != nil {
		return nil, fmt.Errorf("hsm: unwrapping: %w", err)
	}
	defer s.destroy(key)
	return multiply(s.deriver(key), public, b)
}

// makeTweak needs no key but a salt: with it goes the account's key.
func (s *session) makeTweak(owner []byte, r *record) error {
	r.wrapped = make([]byte, 32)
	rand.Read(r.wrapped)
	t, err := s.factor(owner, r)
	if err != nil {
		return err
	}
	p, err := nistec.NewP256Point().ScalarMult(s.k.base[r.key], t)
	if err != nil {
		return err
	}
	r.public = compress(p)
	return nil
}

// factor is the account's t. It is computed anew each time: whoever knew it
// could spend one account's attempts on another's guesses.
func (s *session) factor(owner []byte, r *record) ([]byte, error) {
	var wide []byte // 512 bits, so that the remainder is uniform
	for n := range byte(2) {
		half, err := s.hmac(s.k.tweak[r.key], frame(macTweak, owner, r.wrapped, []byte{n}))
		if err != nil {
			return nil, err
		}
		wide = append(wide, half[:]...)
	}
	t := new(big.Int).SetBytes(wide)
	return t.Mod(t, order).FillBytes(make([]byte, 32)), nil
}

func (s *session) evaluateTweak(owner []byte, r *record, b *nistec.P256Point) (*nistec.P256Point, error) {
	p, err := multiply(s.deriver(s.k.main[r.key]), s.k.base[r.key], b)
	if err != nil {
		return nil, err
	}
	t, err := s.factor(owner, r)
	if err != nil {
		return nil, err
	}
	return nistec.NewP256Point().ScalarMult(p, t)
}

// makeSealed makes k here and seals it: nonce, then AES-256-GCM by the token.
func (s *session) makeSealed(owner []byte, r *record) error {
	k := make([]byte, 32)
	defer clear(k)
	for {
		rand.Read(k)
		if n := new(big.Int).SetBytes(k); n.Sign() > 0 && n.Cmp(order) < 0 {
			break
		}
	}
	return s.seal(owner, r, k)
}

func (s *session) seal(owner []byte, r *record, k []byte) error {
	p, err := nistec.NewP256Point().ScalarBaseMult(k)
	if err != nil {
		return err
	}
	r.public = compress(p)
	nonce := make([]byte, 12)
	rand.Read(nonce)
	params := pkcs11.NewGCMParams(nonce, frame(aadSeal, owner, r.public[:]), 128)
	defer params.Free()
	if err := s.p.EncryptInit(s.h, mechanism(pkcs11.CKM_AES_GCM, params), s.k.main[r.key]); err != nil {
		return err
	}
	sealed, err := s.p.Encrypt(s.h, k)
	if err != nil {
		return err
	}
	if iv := params.IV(); len(iv) == len(nonce) { // some tokens choose their own
		nonce = iv
	}
	r.wrapped = append(nonce, sealed...)
	return nil
}

func (s *session) evaluateSealed(owner []byte, r *record, b *nistec.P256Point) (*nistec.P256Point, error) {
	if len(r.wrapped) != 12+32+16 {
		return nil, errFault
	}
	params := pkcs11.NewGCMParams(r.wrapped[:12], frame(aadSeal, owner, r.public[:]), 128)
	defer params.Free()
	if err := s.p.DecryptInit(s.h, mechanism(pkcs11.CKM_AES_GCM, params), s.k.main[r.key]); err != nil {
		return nil, fmt.Errorf("hsm: unsealing: %w", err)
	}
	k, err := s.p.Decrypt(s.h, r.wrapped[12:])
	if err != nil {
		return nil, fmt.Errorf("hsm: unsealing: %w", err)
	}
	defer clear(k)
	if len(k) != 32 {
		return nil, errFault
	}
	return nistec.NewP256Point().ScalarMult(b, k)
}

// deriver multiplies by key with CKM_ECDH1_DERIVE. The point goes in
// uncompressed and bare, the one form that every token must take.
func (s *session) deriver(key pkcs11.ObjectHandle) multiplier {
	return func(p *nistec.P256Point) ([]byte, error) {
		params := pkcs11.NewECDH1DeriveParams(pkcs11.CKD_NULL, nil, p.Bytes())
		h, err := s.p.DeriveKey(s.h, mechanism(pkcs11.CKM_ECDH1_DERIVE, params), key, derived())
		if err != nil {
			return nil, fmt.Errorf("hsm: deriving: %w", err)
		}
		defer s.destroy(h)
		x, err := s.attribute(h, pkcs11.CKA_VALUE)
		if err != nil {
			return nil, fmt.Errorf("hsm: reading what was derived: %w", err)
		}
		if len(x) != 32 {
			return nil, errFault
		}
		return x, nil
	}
}
