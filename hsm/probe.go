package hsm

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"

	"filippo.io/nistec"
	"github.com/miekg/pkcs11"
)

// Step is one thing that [Check] tried.
type Step struct {
	Name string
	Err  error // nil: as it must be
}

// Check opens the token, tries all that the vault needs of it, and returns what
// it tried, also when the token is not fit. The error says why it could not go on.
func Check(ctx context.Context, c Config) (Info, []Step, error) {
	t, steps, err := openToken(ctx, c)
	if err != nil {
		return Info{}, nil, err
	}
	_, err = t.Anchor(ctx)
	steps = append(steps, Step{"anchor", err})
	_, err = t.Generation(ctx)
	steps = append(steps, Step{"generation", err})
	return t.Info(), steps, t.Close()
}

// fit returns [ErrProbe] with the first step that went wrong.
func fit(steps []Step) error {
	for _, s := range steps {
		if s.Err != nil {
			return fmt.Errorf("%w: %s: %w", ErrProbe, s.Name, s.Err)
		}
	}
	return nil
}

// probe tries what the node will do and what an attacker who holds the PIN
// would do: attributes that read well are not yet obeyed.
func (s *session) probe() []Step {
	steps := []struct {
		name string
		try  func() error
	}{
		{"evaluate a new key", s.tryEvaluate},
		{"vectors of RFC 9497", s.tryVectors},
		{"refuse points off the curve", s.tryOffCurve},
		{"refuse another owner", s.tryOwner},
		{"sign", s.trySign},
		{"authenticate", s.tryMAC},
		{"random bytes", s.tryRandom},
	}
	if s.k.mode == ModeWrapped {
		steps = append(steps, []struct {
			name string
			try  func() error
		}{
			{"refuse to wrap a record again", s.tryRewrap},
			{"refuse to unwrap a record as data", s.tryUnwrapAsData},
			{"refuse to loosen the wrapping key", s.tryLoosen},
		}...)
	}
	var done []Step
	for _, step := range steps {
		done = append(done, Step{step.name, step.try()})
	}
	return done
}

// tryEvaluate needs no vector: for B = r·G with a known r, k·B = r·K.
func (s *session) tryEvaluate() error {
	r, err := s.newKey(canaryOwner)
	if err != nil {
		return err
	}
	scalar := make([]byte, 32)
	rand.Read(scalar[1:]) // below the order
	b, err := nistec.NewP256Point().ScalarBaseMult(scalar)
	if err != nil {
		return err
	}
	k, err := parsePoint(r.public)
	if err != nil {
		return err
	}
	want, err := nistec.NewP256Point().ScalarMult(k, scalar)
	if err != nil {
		return err
	}
	got, err := s.evaluate(canaryOwner, r, b)
	if err != nil {
		return err
	}
	if compress(got) != compress(want) {
		return errors.New("the result is wrong")
	}
	return nil
}

// Appendix A.3.1 of RFC 9497: P256-SHA256, mode OPRF, both vectors.
const vectorKey = "159749d750713afe245d2d39ccfaae8381c53ce92d098a9375ee70739c7ac0bf"

var vectors = [][2]string{
	{"03723a1e5c09b8b9c18d1dcbca29e8007e95f14f4732d9346d490ffc195110368d", "030de02ffec47a1fd53efcdd1c6faf5bdc270912b8749e783c7ca75bb412958832"},
	{"03cc1df781f1c2240a64d1c297b3f3d16262ef5d4cf102734882675c26231b0838", "03a0395fe3828f2476ffcd1f4fe540e5a8489322d398be3c4e5a869db7fcb7c52c"},
}

// tryVectors imports the vectors' key, the way each mode allows, and evaluates.
// A real HSM may refuse keys from outside, and is then believed by tryEvaluate.
func (s *session) tryVectors() error {
	key, err := hex.DecodeString(vectorKey)
	if err != nil {
		return err
	}
	evaluate, forget, err := s.imported(key)
	if err != nil {
		if s.software() {
			return err
		}
		return nil
	}
	defer forget()
	for _, v := range vectors {
		in, err := hex.DecodeString(v[0])
		if err != nil {
			return err
		}
		b, err := parsePoint([33]byte(in))
		if err != nil {
			return err
		}
		p, err := evaluate(b)
		if err != nil {
			return err
		}
		if got := compress(p); hex.EncodeToString(got[:]) != v[1] {
			return fmt.Errorf("got %x, want %s", got, v[1])
		}
	}
	return nil
}

// imported returns an evaluation under the scalar key by the token.
func (s *session) imported(key []byte) (evaluate func(*nistec.P256Point) (*nistec.P256Point, error), forget func(), err error) {
	public, err := nistec.NewP256Point().ScalarBaseMult(key)
	if err != nil {
		return nil, nil, err
	}
	r := &record{mode: s.k.mode, key: s.k.current, public: compress(public)}
	evaluate = func(b *nistec.P256Point) (*nistec.P256Point, error) { return s.evaluate(canaryOwner, r, b) }
	if s.k.mode == ModeUnseal {
		return evaluate, func() {}, s.seal(canaryOwner, r, key)
	}
	h, err := s.p.CreateObject(s.h, append(accountKey(), attr(pkcs11.CKA_EC_PARAMS, oidP256), attr(pkcs11.CKA_VALUE, key)))
	if err != nil {
		return nil, nil, err
	}
	forget = func() { s.destroy(h) }
	if s.k.mode == ModeTweak { // the base cannot be imported; its arithmetic can be tried
		return func(b *nistec.P256Point) (*nistec.P256Point, error) { return multiply(s.deriver(h), public, b) }, forget, nil
	}
	if err := s.wrap(r, h); err != nil {
		forget()
		return nil, nil, err
	}
	return evaluate, forget, nil
}

// tryOffCurve derives with a point of another curve. Points are checked before
// they come here; a token that does not check them itself is broken all the same.
func (s *session) tryOffCurve() error {
	if s.k.mode == ModeUnseal {
		return nil // no point enters the token
	}
	key := s.k.main[s.k.current]
	if s.k.mode == ModeWrapped {
		r, err := s.newKey(canaryOwner)
		if err != nil {
			return err
		}
		if key, err = s.unwrap(r); err != nil {
			return err
		}
		defer s.destroy(key)
	}
	bad := bytes.Clone(generator)
	bad[64] ^= 1
	params := pkcs11.NewECDH1DeriveParams(pkcs11.CKD_NULL, nil, bad)
	h, err := s.p.DeriveKey(s.h, mechanism(pkcs11.CKM_ECDH1_DERIVE, params), key, derived())
	if err == nil {
		s.destroy(h)
		return errors.New("the token took one")
	}
	return nil
}

func (s *session) tryOwner() error {
	r, err := s.newKey(canaryOwner)
	if err != nil {
		return err
	}
	if err := s.verify(canaryOwner, r); err != nil {
		return err
	}
	if err := s.verify([]byte("somebody else"), r); !errors.Is(err, ErrRecord) {
		return errors.New("the record is not bound to its owner")
	}
	return nil
}

func (s *session) trySign() error {
	digest := sha256.Sum256([]byte("coffer hsm probe"))
	sig, err := s.signWith(pkcs11.CKM_ECDSA, s.k.sign, digest[:])
	if err != nil {
		return err
	}
	if len(sig) != 64 || !ecdsa.Verify(s.k.signing, digest[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		return errors.New("the signature does not verify")
	}
	return nil
}

func (s *session) tryMAC() error {
	a, err := s.hmac(s.k.mac, frame(macMessage, []byte("a")))
	if err != nil {
		return err
	}
	again, err := s.hmac(s.k.mac, frame(macMessage, []byte("a")))
	if err != nil {
		return err
	}
	b, err := s.hmac(s.k.mac, frame(macMessage, []byte("b")))
	if err != nil {
		return err
	}
	if a != again || a == b {
		return errors.New("the MAC is not a function of the message")
	}
	return nil
}

func (s *session) tryRandom() error {
	b, err := s.p.GenerateRandom(s.h, 32)
	if err != nil {
		return err
	}
	if len(b) != 32 || bytes.Equal(b, make([]byte, 32)) {
		return errors.New("they are missing")
	}
	return nil
}

// tryRewrap: a key once unwrapped must not leave the token again.
func (s *session) tryRewrap() error {
	r, err := s.newKey(canaryOwner)
	if err != nil {
		return err
	}
	h, err := s.unwrap(r)
	if err != nil {
		return err
	}
	defer s.destroy(h)
	if err := s.wrap(&record{key: r.key}, h); err == nil {
		return errors.New("an unwrapped key can be wrapped again")
	}
	return nil
}

// tryUnwrapAsData is the attack on tokens without CKA_UNWRAP_TEMPLATE: who
// holds the PIN unwraps a record as a generic secret and reads the scalar.
func (s *session) tryUnwrapAsData() error {
	r, err := s.newKey(canaryOwner)
	if err != nil {
		return err
	}
	for _, kind := range []uint{pkcs11.CKK_GENERIC_SECRET, pkcs11.CKK_AES} {
		h, err := s.p.UnwrapKey(s.h, mechanism(s.k.kwp, nil), s.k.main[r.key], r.wrapped, attributes{
			attr(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), attr(pkcs11.CKA_KEY_TYPE, kind), attr(pkcs11.CKA_TOKEN, false),
			attr(pkcs11.CKA_SENSITIVE, false), attr(pkcs11.CKA_EXTRACTABLE, true),
		})
		if err == nil {
			s.destroy(h)
			return errors.New("a record can be unwrapped as data and read")
		}
	}
	weak := append(unwrapped(), attr(pkcs11.CKA_PRIVATE, true))
	for i, a := range weak {
		if a.Type == pkcs11.CKA_EXTRACTABLE {
			weak[i] = attr(pkcs11.CKA_EXTRACTABLE, true)
		}
	}
	h, err := s.p.UnwrapKey(s.h, mechanism(s.k.kwp, nil), s.k.main[r.key], r.wrapped, weak)
	if err == nil {
		s.destroy(h)
		return errors.New("a record can be unwrapped as an extractable key")
	}
	return nil
}

// tryLoosen: with CKA_DECRYPT set, AES decryption would undo the wrapping.
func (s *session) tryLoosen() error {
	key := s.k.main[s.k.current]
	looser := attributes{attr(pkcs11.CKA_DECRYPT, true), attr(pkcs11.CKA_EXTRACTABLE, true), attr(pkcs11.CKA_SENSITIVE, false)}
	for _, a := range looser {
		if err := s.p.SetAttributeValue(s.h, key, attributes{a}); err == nil {
			return fmt.Errorf("attribute 0x%x of the wrapping key can be changed", a.Type)
		}
	}
	if h, err := s.p.CopyObject(s.h, key, attributes{attr(pkcs11.CKA_TOKEN, false)}); err == nil {
		s.destroy(h)
		return errors.New("the wrapping key can be copied")
	}
	if err := s.p.DecryptInit(s.h, mechanism(pkcs11.CKM_AES_ECB, nil), key); err == nil {
		return errors.New("the wrapping key decrypts")
	}
	return nil
}
