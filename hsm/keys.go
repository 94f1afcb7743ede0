package hsm

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"

	"filippo.io/nistec"
	"github.com/miekg/pkcs11"
)

// Keys of the token are found by label: prefix, role, "-", number. The highest
// number of a role serves new records; older ones stay for old records.
const (
	labelPrefix = "coffer-"
	roleWrap    = "wrap"  // wrapped: AES, wraps and unwraps accounts' keys
	roleBase    = "base"  // tweak: EC, multiplies
	roleTweak   = "tweak" // tweak: HMAC, gives each account its factor; same number and id as its base
	roleSeal    = "seal"  // unseal: AES-GCM
	roleMAC     = "mac"   // HMAC over records, anchors, messages
	roleSign    = "sign"  // P-256, the node's identity
)

// maxObjects bounds the search: a token of ours holds about ten objects.
const maxObjects = 1000

// mainRole is the role of the key that records of a mode are made under.
func (m Mode) mainRole() string {
	return map[Mode]string{ModeWrapped: roleWrap, ModeTweak: roleBase, ModeUnseal: roleSeal}[m]
}

// keys are the handles of one opening of the module.
type keys struct {
	mode    Mode
	kwp     uint // the mechanism that wraps
	current [16]byte
	main    map[[16]byte]pkcs11.ObjectHandle // by CKA_ID
	tweak   map[[16]byte]pkcs11.ObjectHandle
	base    map[[16]byte]*nistec.P256Point
	mac     pkcs11.ObjectHandle
	sign    pkcs11.ObjectHandle
	signing *ecdsa.PublicKey
}

// object is one object of the token with a label of ours.
type object struct {
	h      pkcs11.ObjectHandle
	class  uint
	role   string
	number int
	id     [16]byte
}

// objects lists the objects of ours.
func (s *session) objects() ([]object, error) {
	handles, err := s.find(attributes{attr(pkcs11.CKA_TOKEN, true)})
	if err != nil {
		return nil, err
	}
	var found []object
	for _, h := range handles {
		label, err := s.attribute(h, pkcs11.CKA_LABEL)
		if err != nil || !bytes.HasPrefix(label, []byte(labelPrefix)) {
			continue // somebody else's
		}
		role, number, _ := strings.Cut(string(label[len(labelPrefix):]), "-")
		o := object{h: h, role: role}
		if o.number, err = strconv.Atoi(number); err != nil {
			continue
		}
		class, err := s.attribute(h, pkcs11.CKA_CLASS)
		if err != nil {
			return nil, fmt.Errorf("hsm: reading the class of %q: %w", label, err)
		}
		o.class = classOf(class)
		if id, err := s.attribute(h, pkcs11.CKA_ID); err == nil && len(id) == len(o.id) {
			o.id = [16]byte(id)
		}
		found = append(found, o)
	}
	return found, nil
}

func (s *session) find(as attributes) ([]pkcs11.ObjectHandle, error) {
	if err := s.p.FindObjectsInit(s.h, as); err != nil {
		return nil, fmt.Errorf("hsm: searching the token: %w", err)
	}
	handles, _, err := s.p.FindObjects(s.h, maxObjects)
	if e := s.p.FindObjectsFinal(s.h); err == nil {
		err = e
	}
	if err != nil {
		return nil, fmt.Errorf("hsm: searching the token: %w", err)
	}
	return handles, nil
}

// classOf decodes a CK_ULONG by comparison, so that its size and order do not matter.
func classOf(b []byte) uint {
	for _, c := range []uint{pkcs11.CKO_DATA, pkcs11.CKO_PUBLIC_KEY, pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_SECRET_KEY} {
		if bytes.Equal(b, attr(0, c).Value) {
			return c
		}
	}
	return pkcs11.CKO_VENDOR_DEFINED
}

// loadKeys finds the keys of a provisioned token and checks each against the
// template that it was made with.
func (s *session) loadKeys() (*keys, error) {
	found, err := s.objects()
	if err != nil {
		return nil, err
	}
	k := &keys{
		main:  make(map[[16]byte]pkcs11.ObjectHandle),
		tweak: make(map[[16]byte]pkcs11.ObjectHandle),
		base:  make(map[[16]byte]*nistec.P256Point),
	}
	if k.kwp, err = s.wrapMechanism(); err != nil {
		return nil, err
	}
	newest := 0
	for _, o := range found {
		if err := s.addKey(k, o); err != nil {
			return nil, fmt.Errorf("hsm: key %s%s-%d: %w", labelPrefix, o.role, o.number, err)
		}
		if o.class != pkcs11.CKO_PUBLIC_KEY && k.main[o.id] == o.h && o.number > newest {
			newest, k.current = o.number, o.id
		}
	}
	if newest == 0 || k.mac == 0 || k.sign == 0 || k.signing == nil {
		return nil, fmt.Errorf("%w: it holds no keys of a node, or not all", ErrProbe)
	}
	if k.mode == ModeTweak && (len(k.tweak) != len(k.main) || len(k.base) != len(k.main)) {
		return nil, fmt.Errorf("%w: a base without its tweak", ErrProbe)
	}
	return k, nil
}

// addKey puts o where its role belongs.
func (s *session) addKey(k *keys, o object) error {
	if o.class == pkcs11.CKO_PUBLIC_KEY {
		return s.addPublic(k, o)
	}
	if o.class == pkcs11.CKO_DATA {
		return nil // a mark, which is looked for when it is needed
	}
	template := s.template(o.role, k.kwp, o.number, o.id[:])
	if template == nil {
		return fmt.Errorf("%w: unknown role", ErrProbe)
	}
	if err := s.checkKey(o.h, template); err != nil {
		return err
	}
	switch o.role {
	case roleMAC:
		k.mac = o.h
	case roleSign:
		k.sign = o.h
	case roleTweak:
		k.tweak[o.id] = o.h
	default:
		mode := map[string]Mode{roleWrap: ModeWrapped, roleBase: ModeTweak, roleSeal: ModeUnseal}[o.role]
		if k.mode != 0 && k.mode != mode {
			return fmt.Errorf("%w: keys of two modes", ErrProbe)
		}
		k.mode = mode
		k.main[o.id] = o.h
	}
	return nil
}

func (s *session) addPublic(k *keys, o object) error {
	raw, err := s.attribute(o.h, pkcs11.CKA_EC_POINT)
	if err != nil {
		return err
	}
	p, err := parseECPoint(raw)
	if err != nil {
		return err
	}
	switch o.role {
	case roleBase:
		k.base[o.id] = p
	case roleSign:
		k.signing, err = ecdsa.ParseUncompressedPublicKey(elliptic.P256(), p.Bytes())
	}
	return err
}

// template is what a key of role is made with and held to.
func (s *session) template(role string, kwp uint, number int, id []byte) attributes {
	label := fmt.Sprintf("%s%s-%d", labelPrefix, role, number)
	secret := func(kind, mech uint, allowed ...uint) attributes {
		return append(tokenKey(pkcs11.CKO_SECRET_KEY, kind, mech, label, id, allowed...), attr(pkcs11.CKA_VALUE_LEN, 32))
	}
	switch role {
	case roleWrap:
		return secret(pkcs11.CKK_AES, kwp, pkcs11.CKA_WRAP, pkcs11.CKA_UNWRAP)
	case roleSeal:
		return secret(pkcs11.CKK_AES, pkcs11.CKM_AES_GCM, pkcs11.CKA_ENCRYPT, pkcs11.CKA_DECRYPT)
	case roleMAC, roleTweak:
		return secret(pkcs11.CKK_GENERIC_SECRET, pkcs11.CKM_SHA256_HMAC, pkcs11.CKA_SIGN)
	case roleSign:
		return tokenKey(pkcs11.CKO_PRIVATE_KEY, pkcs11.CKK_EC, pkcs11.CKM_ECDSA, label, id, pkcs11.CKA_SIGN)
	case roleBase:
		return tokenKey(pkcs11.CKO_PRIVATE_KEY, pkcs11.CKK_EC, pkcs11.CKM_ECDH1_DERIVE, label, id, pkcs11.CKA_DERIVE)
	}
	return nil
}

// makeKeys makes all keys of a node. number is 1 but for rotated main keys.
func (s *session) makeKeys(mode Mode) error {
	if err := s.makeMain(mode, 1); err != nil {
		return err
	}
	for _, role := range []string{roleMAC, roleSign} {
		if err := s.makeKey(role, 1, newID()); err != nil {
			return err
		}
	}
	return nil
}

// makeMain makes the key, or pair of keys, that records of mode are made under.
func (s *session) makeMain(mode Mode, number int) error {
	if kwp, err := s.wrapMechanism(); err != nil {
		return err
	} else if kwp == 0 && mode == ModeWrapped {
		return fmt.Errorf("%w: it has no AES key wrap with padding; mode tweak or unseal may do", ErrProbe)
	}
	id := newID()
	if mode == ModeTweak {
		if err := s.makeKey(roleTweak, number, id); err != nil {
			return err
		}
	}
	return s.makeKey(mode.mainRole(), number, id)
}

func newID() []byte {
	id := make([]byte, 16)
	rand.Read(id)
	return id
}

// makeKey makes one key in the token and holds it to its template.
func (s *session) makeKey(role string, number int, id []byte) error {
	kwp, err := s.wrapMechanism()
	if err != nil {
		return err
	}
	template := s.template(role, kwp, number, id)
	h, err := s.generate(role, template, number, id)
	if err != nil {
		return fmt.Errorf("hsm: making key %s%s-%d: %w", labelPrefix, role, number, err)
	}
	return s.checkKey(h, template)
}

func (s *session) generate(role string, template attributes, number int, id []byte) (pkcs11.ObjectHandle, error) {
	switch role {
	case roleSign, roleBase:
		label := fmt.Sprintf("%s%s-%d", labelPrefix, role, number)
		_, h, err := s.p.GenerateKeyPair(s.h, mechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil), publicKey(true, label, id), template)
		return h, err
	case roleMAC, roleTweak:
		return s.p.GenerateKey(s.h, mechanism(pkcs11.CKM_GENERIC_SECRET_KEY_GEN, nil), template)
	case roleWrap:
		only, free := nested(pkcs11.CKA_UNWRAP_TEMPLATE, unwrapped())
		defer free()
		template = append(template, only)
	}
	return s.p.GenerateKey(s.h, mechanism(pkcs11.CKM_AES_KEY_GEN, nil), template)
}
