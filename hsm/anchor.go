package hsm

import (
	"context"
	"fmt"

	"github.com/miekg/pkcs11"
)

// anchorStore keeps 40 bytes so that they survive a crash. On a real HSM they
// lie in the token, where restoring the node's disk does not reach them. The
// files of SoftHSM are on that disk: there a file of ours does as well, and
// spares the token a write (see DESIGN.md).
type anchorStore interface {
	set(s *session, head [40]byte) error
	get(s *session) ([40]byte, error)
	close() error
}

// SetAnchor stores head; when it returns, the head survives a crash.
func (t *Token) SetAnchor(ctx context.Context, head [40]byte) error {
	return t.do(ctx, "set_anchor", func(s *session) error { return t.anchor.set(s, head) })
}

// Anchor returns the head last stored, zeros if none was. [ErrAnchor] when what
// is stored is not what this token stored.
func (t *Token) Anchor(ctx context.Context) (head [40]byte, err error) {
	err = t.do(ctx, "anchor", func(s *session) error {
		head, err = t.anchor.get(s)
		return err
	})
	return head, err
}

// objectAnchor is a data object of the token.
type objectAnchor struct{}

func (objectAnchor) set(s *session, head [40]byte) error {
	if s.k.anchor == 0 {
		return ErrAnchor
	}
	if err := s.p.SetAttributeValue(s.h, s.k.anchor, attributes{attr(pkcs11.CKA_VALUE, head[:])}); err != nil {
		return fmt.Errorf("hsm: storing the anchor: %w", err)
	}
	return nil
}

func (objectAnchor) get(s *session) (head [40]byte, err error) {
	if s.k.anchor == 0 {
		return head, ErrAnchor
	}
	v, err := s.attribute(s.k.anchor, pkcs11.CKA_VALUE)
	if err != nil {
		return head, fmt.Errorf("hsm: reading the anchor: %w", err)
	}
	if len(v) != len(head) {
		return head, fmt.Errorf("%w: %d bytes", ErrAnchor, len(v))
	}
	return [40]byte(v), nil
}

func (objectAnchor) close() error { return nil }

// make creates the object, with zeros.
func (objectAnchor) make(s *session) error {
	_, err := s.p.CreateObject(s.h, attributes{
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_DATA), attr(pkcs11.CKA_LABEL, labelPrefix+roleAnchor+"-1"),
		attr(pkcs11.CKA_TOKEN, true), attr(pkcs11.CKA_PRIVATE, true), attr(pkcs11.CKA_MODIFIABLE, true),
		attr(pkcs11.CKA_VALUE, make([]byte, 40)),
	})
	if err != nil {
		return fmt.Errorf("hsm: making the anchor: %w", err)
	}
	return nil
}
