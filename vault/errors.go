package vault

import (
	"errors"
	"fmt"
	"time"
)

// What the client's calls return, for callers that branch.
var (
	// ErrDestroyed means that the last attempt was used up, or the account
	// was disabled: the vault can never again give out that key.
	ErrDestroyed = errors.New("vault: the key in the vault is destroyed")
	// ErrNotRegistered means that the fleet holds no key for the account.
	ErrNotRegistered = errors.New("vault: the account is not registered")
	// ErrUnavailable means that too few nodes answered. What was asked may be
	// asked again; an attempt is not spent twice by it.
	ErrUnavailable = errors.New("vault: too few nodes answer")
	// ErrDenied means that the nodes do not accept the account token.
	ErrDenied = errors.New("vault: the account token is not accepted")
	// ErrManifest means that a manifest is not signed by the pinned roots,
	// is out of date, or older than one seen before.
	ErrManifest = errors.New("vault: the fleet's manifest is not acceptable")
	// ErrExpired is an ErrManifest: the manifest is out of date. [NewerManifest] may
	// know a newer one.
	ErrExpired = fmt.Errorf("%w: out of date", ErrManifest)
	// ErrInconsistent means that the nodes tell different stories, fewer than
	// the threshold the same one. No attempt is spent.
	ErrInconsistent = errors.New("vault: nodes contradict each other")
)

// WrongPassword is the error of a guess that was counted and was wrong.
type WrongPassword struct {
	Left       int           // attempts left; 0: the key is being destroyed
	RetryAfter time.Duration // before the next attempt is accepted
}

func (e *WrongPassword) Error() string {
	return "vault: wrong password, " + attempts(e.Left) + " left"
}

// attempts is a number of them in words for people.
func attempts(n int) string {
	if n == 1 {
		return "1 attempt"
	}
	return fmt.Sprintf("%d attempts", n)
}

// TooSoon is the error of a guess that came before the delay after the last one
// had passed. It was not counted.
type TooSoon struct {
	Left       int
	RetryAfter time.Duration
}

func (e *TooSoon) Error() string {
	return fmt.Sprintf("vault: next attempt in %v, %d left", e.RetryAfter.Round(time.Second), e.Left)
}

// What a node refuses to run with.
var (
	// ErrNewer means that the log holds a command of a version this program
	// does not know. It must not be skipped; the node halts until it is upgraded.
	ErrNewer = errors.New("vault: command is of a newer version")
	// ErrRollback means that the ledger on disk is older than its anchor in
	// the HSM: the disk was restored from a copy. The node must be
	// set up anew.
	ErrRollback = errors.New("vault: ledger is older than the HSM's anchor")
	// ErrLedger means that the ledger is damaged other than by a cut
	// last record.
	ErrLedger = errors.New("vault: ledger is corrupt")
	// ErrMalformed means that bytes are not a message of this protocol.
	ErrMalformed = errors.New("vault: malformed message")
)
