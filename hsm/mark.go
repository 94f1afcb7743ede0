package hsm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/miekg/pkcs11"
)

// A mark is 40 bytes that survive a crash. On a real HSM it lies in the token,
// where restoring the node's disk does not reach it. SoftHSM's files are on
// that disk: there a file of ours does as well, and spares the token a write
// (see DESIGN.md).
type mark interface {
	set(s *session, value [40]byte) error
	get(s *session) ([40]byte, error)
	close() error
}

// Names of the marks: of files, labels, and in MACs.
const (
	anchorName     = "anchor"
	generationName = "generation"
)

// ErrGeneration: the generation to be set is not above the one stored.
var ErrGeneration = errors.New("hsm: generation does not grow")

// errLate: a call that its caller gave up must not undo a later one.
var errLate = errors.New("hsm: a later anchor was stored meanwhile")

// SetAnchor stores the head of the node's ledger; when it returns nil, the head
// survives a crash. Of two calls the one begun later prevails, also when the
// context of the first has ended and the library comes to it only afterwards.
func (t *Token) SetAnchor(ctx context.Context, head [40]byte) error {
	ticket := t.tickets.Add(1)
	_, err := do(ctx, t, "set_anchor", func(s *session) (none struct{}, err error) {
		t.marks.Lock()
		defer t.marks.Unlock()
		if ticket < t.anchored {
			return none, errLate
		}
		t.anchored = ticket
		return none, t.anchor.set(s, head)
	})
	return err
}

// Anchor returns the head last stored, zeros if none was. [ErrAnchor] when what
// is stored is not what this token stored.
func (t *Token) Anchor(ctx context.Context) (head [40]byte, err error) {
	return do(ctx, t, "anchor", t.anchor.get)
}

// SetGeneration stores the generation of the node's replicated state, which
// must be above the one before: [ErrGeneration]. Restoring a state from a backup
// begins a new generation; a copy of the state that does not know of it, a clone
// or an old image, finds a higher one in the token and must not serve.
func (t *Token) SetGeneration(ctx context.Context, generation uint64) error {
	_, err := do(ctx, t, "set_generation", func(s *session) (value [40]byte, err error) {
		t.marks.Lock()
		defer t.marks.Unlock()
		now, err := t.generation.get(s)
		if err != nil {
			return value, err
		}
		if generation <= binary.BigEndian.Uint64(now[:]) {
			return value, ErrGeneration
		}
		binary.BigEndian.PutUint64(value[:], generation)
		return value, t.generation.set(s, value)
	})
	return err
}

// Generation returns the generation last stored, 0 if none was. [ErrAnchor] as
// in [Token.Anchor].
func (t *Token) Generation(ctx context.Context) (generation uint64, err error) {
	value, err := do(ctx, t, "generation", t.generation.get)
	return binary.BigEndian.Uint64(value[:]), err
}

// objectMark is a data object of the token: a count of writes, 8 bytes
// big-endian, then the value. Not every token lets the value of a data object
// be changed, so each write makes a new object and then destroys the others;
// after a crash in between the higher count is the newer.
type objectMark struct {
	name string
	mu   sync.Mutex // held from the search to the destruction
}

func (m *objectMark) label() string { return labelPrefix + m.name + "-1" }

func (m *objectMark) set(s *session, value [40]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	count, _, old, err := m.find(s)
	if err != nil {
		return err
	}
	if err := m.write(s, count+1, value); err != nil {
		return err
	}
	for _, h := range old {
		if err := s.p.DestroyObject(s.h, h); err != nil {
			return fmt.Errorf("hsm: removing the %s before: %w", m.name, err)
		}
	}
	return nil
}

func (m *objectMark) get(s *session) ([40]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, value, _, err := m.find(s)
	return value, err
}

func (*objectMark) close() error { return nil }

// find returns the newest count and value, and all objects there are.
func (m *objectMark) find(s *session) (count uint64, value [40]byte, all []pkcs11.ObjectHandle, err error) {
	found, err := s.find(attributes{attr(pkcs11.CKA_CLASS, pkcs11.CKO_DATA), attr(pkcs11.CKA_LABEL, m.label())})
	if err != nil {
		return 0, value, nil, err
	}
	for _, h := range found {
		v, err := s.attribute(h, pkcs11.CKA_VALUE)
		if err != nil {
			return 0, value, nil, fmt.Errorf("hsm: reading the %s: %w", m.name, err)
		}
		if len(v) != 8+len(value) {
			return 0, value, nil, fmt.Errorf("%w: %s of %d bytes", ErrAnchor, m.name, len(v))
		}
		if n := binary.BigEndian.Uint64(v); n >= count {
			count, value = n, [40]byte(v[8:])
		}
	}
	if len(found) == 0 {
		return 0, value, nil, fmt.Errorf("%w: no %s", ErrAnchor, m.name)
	}
	return count, value, found, nil
}

func (m *objectMark) write(s *session, count uint64, value [40]byte) error {
	_, err := s.p.CreateObject(s.h, attributes{
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_DATA), attr(pkcs11.CKA_LABEL, m.label()),
		attr(pkcs11.CKA_TOKEN, true), attr(pkcs11.CKA_PRIVATE, true),
		attr(pkcs11.CKA_VALUE, append(binary.BigEndian.AppendUint64(nil, count), value[:]...)),
	})
	if err != nil {
		return fmt.Errorf("hsm: storing the %s: %w", m.name, err)
	}
	return nil
}

// makeObjectMarks makes both marks of a new token, with zeros.
func makeObjectMarks(s *session) error {
	for _, name := range []string{anchorName, generationName} {
		if err := (&objectMark{name: name}).write(s, 0, [40]byte{}); err != nil {
			return err
		}
	}
	return nil
}
