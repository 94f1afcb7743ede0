package vault

import (
	"crypto/ed25519"
	"errors"
	"time"
)

// Auth decides whether a token speaks for an account. Every node asks its own,
// before it counts or evaluates anything, also for requests that came to it
// through the log; at is then the time of the command.
type Auth interface {
	// Check returns nil if token was valid at that time for the account. The
	// error is for the log; the client hears only "denied".
	Check(token []byte, uid UID, at time.Time) error
}

// OpenAuth accepts everybody: whoever knows an account's name may spend its
// attempts. For development.
type OpenAuth struct{}

// Check accepts.
func (OpenAuth) Check([]byte, UID, time.Time) error { return nil }

// TokenAuth accepts tokens that [IssueToken] made with the key of one of Keys.
type TokenAuth struct {
	Fleet FleetID
	Keys  []ed25519.PublicKey
}

// IssueToken lets the holder act for the account until expires.
func IssueToken(key ed25519.PrivateKey, fleet FleetID, account string, issued, expires time.Time) string {
	return ""
}

// Check verifies signature, account and time.
func (a TokenAuth) Check(token []byte, uid UID, at time.Time) error { return errors.New("not yet") }
