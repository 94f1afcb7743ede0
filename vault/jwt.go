package vault

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// JWTConfig says which JSON Web Tokens speak for an account: those whose subject
// is its name.
type JWTConfig struct {
	Fleet    FleetID      // required
	Issuer   string       // required: the claim "iss"
	Audience string       // required: must be in the claim "aud"
	JWKS     string       // required: path or https URL of the issuer's key set
	HTTP     *http.Client // nil: one with a time-out
}

// JWTAuth accepts the tokens of one issuer.
type JWTAuth struct{ c JWTConfig }

// NewJWTAuth reads the key set.
func NewJWTAuth(ctx context.Context, c JWTConfig) (*JWTAuth, error) { return &JWTAuth{c: c}, nil }

// Run reads the key set again from time to time, until ctx ends.
func (a *JWTAuth) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Check verifies signature, issuer, audience, subject and times.
func (a *JWTAuth) Check(token []byte, uid UID, at time.Time) error { return errors.New("not yet") }
