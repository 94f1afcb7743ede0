package hsm

import (
	"context"
	"errors"
)

var errTodo = errors.New("hsm: not yet written")

// Token is an open token. It is safe for concurrent use. A context bounds the
// wait for a session only: a call into the library cannot be interrupted.
type Token struct{}

// Provision makes the node's keys, once. With c.Durable set it makes a SoftHSM
// token there, complete and on the disk when it returns; the token of a real
// HSM must exist already and hold no keys of ours. soPIN is used for SoftHSM
// only; nil makes one that is forgotten, so that nobody can reset the PIN.
func Provision(ctx context.Context, c Config, soPIN []byte) error { return errTodo }

// Open logs in to a provisioned token, checks its keys and replays the vectors
// of RFC 9497. Only one token may be open in a process.
func Open(ctx context.Context, c Config) (*Token, error) { return nil, errTodo }

// Info returns what is known of the token.
func (t *Token) Info() Info { return Info{} }

// NewKey makes a key for owner (any bytes, at most 1024) and returns the record
// of it and its public key.
func (t *Token) NewKey(ctx context.Context, owner []byte) (record []byte, public [33]byte, err error) {
	return nil, public, errTodo
}

// Evaluate returns k·blinded, for the key k of record, which must have been made
// for owner by this token. [ErrPoint], [ErrRecord], [ErrBusy], [ErrUnavailable].
func (t *Token) Evaluate(ctx context.Context, owner, record []byte, blinded [33]byte) (evaluated [33]byte, err error) {
	return evaluated, errTodo
}

// Sign returns the ECDSA signature of digest, r and s of 32 bytes each.
func (t *Token) Sign(ctx context.Context, digest [32]byte) (sig [64]byte, err error) {
	return sig, errTodo
}

// MAC returns an HMAC-SHA-256 of msg under a key of the token. No message gives
// the MAC of a record or of an anchor.
func (t *Token) MAC(ctx context.Context, msg []byte) (mac [32]byte, err error) { return mac, errTodo }

// Random fills p, of at most 1024 bytes, from the token's generator mixed with the system's.
func (t *Token) Random(ctx context.Context, p []byte) error { return errTodo }

// SetAnchor stores head; when it returns, the head survives a crash.
func (t *Token) SetAnchor(ctx context.Context, head [40]byte) error { return errTodo }

// Anchor returns the head last stored, zeros if none was. [ErrAnchor] when what
// is stored is not what this token stored.
func (t *Token) Anchor(ctx context.Context) (head [40]byte, err error) { return head, errTodo }

// Close waits for operations in flight, logs out and removes the working copy.
func (t *Token) Close() error { return nil }

// Step is one thing that [Check] tried.
type Step struct {
	Name string
	Err  error // nil: as it must be
}

// Check opens the token, tries all that the vault needs of it, and returns what
// it tried, also when the token is not fit. The error says why it could not go on.
func Check(ctx context.Context, c Config) (Info, []Step, error) { return Info{}, nil, errTodo }
