package hsm

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"

	"github.com/miekg/pkcs11"
)

// order is the order of P-256.
var order = mustInt("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551")

func mustInt(s string) *big.Int {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic("hsm: internal error: " + err.Error())
	}
	return new(big.Int).SetBytes(b)
}

// session serves one goroutine at a time: two in one session are a
// segmentation fault inside SoftHSM.
type session struct {
	p      *pkcs11.Ctx
	h      pkcs11.SessionHandle
	slot   uint
	token  pkcs11.TokenInfo
	k      *keys
	canary *record // a record that opens, for alive
}

// software reports whether the token is SoftHSM.
func (s *session) software() bool { return s.token.ManufacturerID == "SoftHSM project" }

func (s *session) destroy(h pkcs11.ObjectHandle) {
	// An error means that the object, or the session with it, is gone already.
	_ = s.p.DestroyObject(s.h, h)
}

func (s *session) hmac(key pkcs11.ObjectHandle, msg []byte) (mac [32]byte, err error) {
	out, err := s.signWith(pkcs11.CKM_SHA256_HMAC, key, msg)
	if err != nil {
		return mac, err
	}
	if len(out) != len(mac) {
		return mac, fmt.Errorf("hsm: MAC of %d bytes", len(out))
	}
	return [32]byte(out), nil
}

func (s *session) signWith(mech uint, key pkcs11.ObjectHandle, msg []byte) ([]byte, error) {
	if err := s.p.SignInit(s.h, mechanism(mech, nil), key); err != nil {
		return nil, fmt.Errorf("hsm: signing: %w", err)
	}
	out, err := s.p.Sign(s.h, msg)
	if err != nil {
		return nil, fmt.Errorf("hsm: signing: %w", err)
	}
	return out, nil
}

// alive reports whether the token evaluates a record known to be good: if so,
// a general error was the fault of what the operation was given.
func (s *session) alive() bool {
	if s.canary == nil {
		return false
	}
	b, err := parsePoint(s.canary.public) // any point
	if err != nil {
		return false
	}
	_, err = s.evaluate(canaryOwner, s.canary, b)
	return err == nil
}

var canaryOwner = []byte("canary")

// wrapMechanism returns the number of RFC 5649 key wrapping in this token, or 0.
func (s *session) wrapMechanism() (uint, error) {
	list, err := s.p.GetMechanismList(s.slot)
	if err != nil {
		return 0, fmt.Errorf("hsm: listing mechanisms: %w", err)
	}
	has := func(kind uint) bool {
		return slices.ContainsFunc(list, func(m *pkcs11.Mechanism) bool { return m.Mechanism == kind })
	}
	switch {
	case has(mechKWP):
		return mechKWP, nil
	case s.software() && has(mechSoftKWP):
		return mechSoftKWP, nil
	}
	return 0, nil
}

// opened is an initialised and logged-in module. It dies whole: handles of one
// opening mean nothing in the next.
type opened struct {
	root  *session      // logged in first, closed last, never used for work: with the last session goes the login
	free  chan *session // idle workers; an operation owns its session from receive to send
	quick chan *session // idle ones for all but keys and evaluations
}

// quickSessions are for signatures, MACs and marks, which take a twentieth of an
// evaluation: behind evaluations an anchor would hold up everybody's guesses.
// Two, so that a mark that waits for the disk does not hold up signatures.
const quickSessions = 2

// lane is where an operation finds its session.
func (o *opened) lane(op string) chan *session {
	if op == "evaluate" || op == "new_key" {
		return o.free
	}
	return o.quick
}

// openModule initialises the library and logs in to the token. Whatever fails,
// the library is finalised again.
func openModule(p *pkcs11.Ctx, label string, pin []byte) (root *session, err error) {
	if err := p.Initialize(); err != nil {
		return nil, fmt.Errorf("hsm: initialising the module: %w", err)
	}
	defer func() {
		if err != nil {
			_ = p.Finalize() // the first error says more
		}
	}()
	root, err = findToken(p, label)
	if err != nil {
		return nil, err
	}
	if err := root.open(); err != nil {
		return nil, err
	}
	if err := p.Login(root.h, pkcs11.CKU_USER, string(pin)); err != nil {
		if refusedPIN(err) {
			return nil, fmt.Errorf("%w: %w", ErrPIN, err)
		}
		return nil, fmt.Errorf("hsm: logging in: %w", err)
	}
	return root, nil
}

// findToken returns a session, not yet open, of the token with that label.
func findToken(p *pkcs11.Ctx, label string) (*session, error) {
	slots, err := p.GetSlotList(true)
	if err != nil {
		return nil, fmt.Errorf("hsm: listing slots: %w", err)
	}
	var found *session
	for _, slot := range slots {
		info, err := p.GetTokenInfo(slot)
		if err != nil || info.Label != label || info.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0 {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("hsm: two tokens are labelled %q", label)
		}
		found = &session{p: p, slot: slot, token: info}
	}
	if found == nil {
		return nil, fmt.Errorf("hsm: no token is labelled %q", label)
	}
	return found, nil
}

func (s *session) open() (err error) {
	s.h, err = s.p.OpenSession(s.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return fmt.Errorf("hsm: opening a session: %w", err)
	}
	return nil
}

func (s *session) info() Info {
	return Info{
		Mode: s.k.mode, Manufacturer: s.token.ManufacturerID, Model: s.token.Model, Serial: s.token.SerialNumber,
		Software: s.software(), KeyID: s.k.current, Keys: slices.Collect(maps.Keys(s.k.main)), Signing: s.k.signing,
	}
}

// workers opens n sessions beside root, and the quick ones, and makes the canary.
func (root *session) workers(n int) (*opened, error) {
	var err error
	if root.k, err = root.loadKeys(); err != nil {
		return nil, err
	}
	o := &opened{root: root, free: make(chan *session, n), quick: make(chan *session, quickSessions)}
	for i := range n + quickSessions {
		s := *root
		if err := s.open(); err != nil {
			return nil, err
		}
		if root.canary == nil {
			if root.canary, err = s.newKey(canaryOwner); err != nil {
				return nil, err
			}
		}
		s.canary = root.canary
		if i < n {
			o.free <- &s
		} else {
			o.quick <- &s
		}
	}
	return o, nil
}

// close logs out and finalises the library. No operation may be in flight.
func (o *opened) close() error {
	p := o.root.p
	err := p.CloseAllSessions(o.root.slot)
	if err = errors.Join(err, p.Finalize()); err != nil {
		return fmt.Errorf("hsm: closing the module: %w", err)
	}
	return nil
}
