package hsm

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"

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

// objectAnchor is a data object of the token: a count of writes, 8 bytes
// big-endian, then the head. Not every token lets the value of a data object
// be changed, so each write makes a new object and then destroys the others;
// after a crash in between the higher count is the newer.
type objectAnchor struct {
	mu sync.Mutex // held from the search to the destruction
}

const anchorLabel = labelPrefix + roleAnchor + "-1"

func (a *objectAnchor) set(s *session, head [40]byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	count, _, old, err := s.anchorObjects()
	if err != nil {
		return err
	}
	if err := s.makeAnchorObject(count+1, head); err != nil {
		return err
	}
	for _, h := range old {
		if err := s.p.DestroyObject(s.h, h); err != nil {
			return fmt.Errorf("hsm: removing the anchor before: %w", err)
		}
	}
	return nil
}

func (a *objectAnchor) get(s *session) ([40]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, head, _, err := s.anchorObjects()
	return head, err
}

func (*objectAnchor) close() error { return nil }

// anchorObjects returns the newest count and head, and all anchors there are.
func (s *session) anchorObjects() (count uint64, head [40]byte, all []pkcs11.ObjectHandle, err error) {
	found, err := s.find(attributes{attr(pkcs11.CKA_CLASS, pkcs11.CKO_DATA), attr(pkcs11.CKA_LABEL, anchorLabel)})
	if err != nil {
		return 0, head, nil, err
	}
	for _, h := range found {
		v, err := s.attribute(h, pkcs11.CKA_VALUE)
		if err != nil {
			return 0, head, nil, fmt.Errorf("hsm: reading the anchor: %w", err)
		}
		if len(v) != 8+len(head) {
			return 0, head, nil, fmt.Errorf("%w: %d bytes", ErrAnchor, len(v))
		}
		if n := binary.BigEndian.Uint64(v); n >= count {
			count, head = n, [40]byte(v[8:])
		}
	}
	if len(found) == 0 {
		return 0, head, nil, ErrAnchor
	}
	return count, head, found, nil
}

func (s *session) makeAnchorObject(count uint64, head [40]byte) error {
	_, err := s.p.CreateObject(s.h, attributes{
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_DATA), attr(pkcs11.CKA_LABEL, anchorLabel),
		attr(pkcs11.CKA_TOKEN, true), attr(pkcs11.CKA_PRIVATE, true),
		attr(pkcs11.CKA_VALUE, append(binary.BigEndian.AppendUint64(nil, count), head[:]...)),
	})
	if err != nil {
		return fmt.Errorf("hsm: storing the anchor: %w", err)
	}
	return nil
}
