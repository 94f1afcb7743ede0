package vault

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"strings"
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
// Nodes hold public keys only: a thief of a node issues nothing.
type TokenAuth struct {
	Fleet FleetID
	Keys  []ed25519.PublicKey
}

// claims is what a token says.
type claims struct {
	Fleet   FleetID `cbor:"1,keyasint"`
	UID     UID     `cbor:"2,keyasint"`
	Issued  int64   `cbor:"3,keyasint"` // Unix seconds
	Expires int64   `cbor:"4,keyasint"` // Unix seconds
}

const (
	tokenPrefix = "coffer1."
	// tokenSlack is how far clocks may differ, or a command's time lie before the
	// moment at which a token is looked at.
	tokenSlack = 2 * time.Minute
)

func tokenMessage(payload []byte) []byte { return append([]byte("coffer vault 1 token\n"), payload...) }

// IssueToken lets the holder act for the account until expires.
func IssueToken(key ed25519.PrivateKey, fleet FleetID, account string, issued, expires time.Time) string {
	payload := encode(&claims{fleet, AccountUID(fleet, account), issued.Unix(), expires.Unix()})
	sig := ed25519.Sign(key, tokenMessage(payload))
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(payload) + "." + base64.RawURLEncoding.EncodeToString(sig)
}

// Check verifies signature, account and time.
func (a TokenAuth) Check(token []byte, uid UID, at time.Time) error {
	text, ok := strings.CutPrefix(string(token), tokenPrefix)
	p, s, dot := strings.Cut(text, ".")
	if !ok || !dot {
		return errors.New("vault: token is malformed")
	}
	strict := base64.RawURLEncoding.Strict()
	payload, err := strict.DecodeString(p)
	if err != nil {
		return errors.New("vault: token is malformed")
	}
	sig, err := strict.DecodeString(s)
	if err != nil || len(sig) != ed25519.SignatureSize {
		return errors.New("vault: token is malformed")
	}
	if !a.signed(payload, sig) {
		return errors.New("vault: token is not signed by the operator")
	}
	var c claims
	if err := decode(payload, &c); err != nil {
		return err
	}
	switch {
	case c.Fleet != a.Fleet || c.UID != uid:
		return errors.New("vault: token is for another account or fleet")
	case at.Add(tokenSlack).Unix() < c.Issued:
		return errors.New("vault: token is not valid yet")
	case at.Add(-tokenSlack).Unix() >= c.Expires:
		return errors.New("vault: token has expired")
	}
	return nil
}

func (a TokenAuth) signed(payload, sig []byte) bool {
	for _, k := range a.Keys {
		if len(k) == ed25519.PublicKeySize && ed25519.Verify(k, tokenMessage(payload), sig) {
			return true
		}
	}
	return false
}
