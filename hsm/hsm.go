// Package hsm makes and uses the keys of one vault node inside a PKCS#11 token.
//
// For each account and epoch the token makes a P-256 key k that exists in the
// clear nowhere else, and evaluates k·B for points B of clients: RFC 9497,
// P256-SHA256, mode 0x00, whose vectors [Open] replays through the token.
// PKCS#11 gives only x(k·B); y follows from x(k·(B+G)) and the public key, and
// the same equation exposes a token that computes wrongly.
//
// What the node stores of a key is a record: opaque bytes, useless without the
// token, bound to an owner by a MAC of the token. Three modes hide three kinds
// of token behind one interface; which one a token has is decided when it is
// provisioned:
//
//	wrapped  k is made in the token and wrapped by an AES key of the token that
//	         unwraps nothing but such keys (SoftHSM, most general-purpose HSMs)
//	tweak    k = t·base: base is an EC key of the token, t comes from an HMAC
//	         key of the token and a salt in the record (tokens that cannot wrap)
//	unseal   k is made here and sealed by an AES-GCM key of the token; it is in
//	         memory while it is used (tokens that do not show a raw ECDH output)
//
// Beside them the token signs what the node says ([Token.Sign]) and remembers
// how far the node's ledger and its replicated state had got ([Token.SetAnchor],
// [Token.SetGeneration]).
//
// DESIGN.md gives the templates, the reasons and what SoftHSM does not protect.
package hsm

import (
	"crypto/ecdsa"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// Config says which token to use and how.
type Config struct {
	Module     string // path of the PKCS#11 library
	TokenLabel string // CK_TOKEN_INFO label, 1 to 32 bytes
	PIN        PIN    // user PIN, 4 to 255 bytes; see NewPIN. Open wipes it

	// Durable is the folder of a provisioned SoftHSM token. It is read, and
	// never given to the library; "" for a real HSM.
	Durable string
	// RunDir is where the working copy of Durable lives while the token is
	// open, best on tmpfs; "" is the system's folder for temporary files.
	RunDir string

	Mode       Mode          // for Provision: what to make; 0 is ModeWrapped. Open finds out
	Sessions   int           // sessions for keys and evaluations, 1 to 253; 0 is twice GOMAXPROCS. Two more do the rest
	Wait       time.Duration // longest wait for a session; 0 is 2 s
	RecycleOps int64         // operations between reopenings; 0 is 200,000 on SoftHSM and never elsewhere

	Log     *zap.Logger           // nil logs nothing
	Metrics prometheus.Registerer // nil registers nothing
}

// Mode is how a token keeps the keys of accounts; see the package comment.
type Mode uint8

// The modes. The numbers are part of records.
const (
	ModeWrapped Mode = 1
	ModeTweak   Mode = 2
	ModeUnseal  Mode = 3
)

func (m Mode) String() string {
	switch m {
	case ModeWrapped:
		return "wrapped"
	case ModeTweak:
		return "tweak"
	case ModeUnseal:
		return "unseal"
	}
	return "unknown"
}

// Info describes an open token.
type Info struct {
	Mode         Mode
	Manufacturer string
	Model        string
	Serial       string
	Software     bool             // SoftHSM: keys are as safe as this machine's memory and the PIN
	KeyID        [16]byte         // of the key that new records are made under
	Keys         [][16]byte       // of all keys that records may be under, KeyID among them
	Signing      *ecdsa.PublicKey // the node's identity; its private half never leaves the token
}

var (
	// ErrPoint: the bytes are no P-256 point. The client's fault.
	ErrPoint = errors.New("hsm: not a P-256 point")
	// ErrRecord: the record was made by another token, for another owner, or
	// was changed.
	ErrRecord = errors.New("hsm: record is not this token's")
	// ErrBusy: no session became free in time. Trying later may help.
	ErrBusy = errors.New("hsm: no free session in time")
	// ErrPIN: the token refused the PIN. It is never tried again: real HSMs
	// lock or erase themselves after a few.
	ErrPIN = errors.New("hsm: PIN refused")
	// ErrProbe: the token lacks an operation, or a key is weaker than it must be.
	ErrProbe = errors.New("hsm: token is not fit for use")
	// ErrUnavailable: the token does not answer, also after it was opened anew.
	ErrUnavailable = errors.New("hsm: token not available")
	// ErrAnchor: the stored anchor or generation is missing or was not written by this token.
	ErrAnchor = errors.New("hsm: mark is missing or forged")
	// ErrClosed: the token was closed.
	ErrClosed = errors.New("hsm: closed")
)
