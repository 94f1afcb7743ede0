package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"go.uber.org/zap"
)

// JWTConfig says which JSON Web Tokens (RFC 7519) speak for an account: those
// whose subject is its name.
type JWTConfig struct {
	Fleet    FleetID      // required
	Issuer   string       // required: the claim "iss"
	Audience string       // required: must be in the claim "aud"
	JWKS     string       // required: path or https URL of the issuer's key set
	HTTP     *http.Client // nil: one with a time-out
	Log      *zap.Logger  // nil logs nothing
}

// JWTAuth accepts the tokens of one issuer. Only asymmetric signatures count:
// the key set is public.
type JWTAuth struct {
	c    JWTConfig
	keys atomic.Pointer[jose.JSONWebKeySet]
	miss chan struct{} // a token named a key that is not in the set
}

const (
	maxJWKS     = 1 << 20
	jwksEvery   = 10 * time.Minute
	jwksAtMost  = time.Minute    // between two readings that unknown keys ask for
	jwtLifetime = 24 * time.Hour // a token that is valid for longer is refused: it lies in the nodes' logs
)

var jwtAlgorithms = []jose.SignatureAlgorithm{jose.EdDSA, jose.ES256, jose.ES384, jose.ES512, jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512}

// NewJWTAuth reads the key set.
func NewJWTAuth(ctx context.Context, c JWTConfig) (*JWTAuth, error) {
	if c.Issuer == "" || c.Audience == "" || c.JWKS == "" {
		return nil, errors.New("vault: JWT needs issuer, audience and key set")
	}
	if c.HTTP == nil {
		c.HTTP = &http.Client{Timeout: 10 * time.Second}
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	a := &JWTAuth{c: c, miss: make(chan struct{}, 1)}
	return a, a.read(ctx)
}

// Run reads the key set again from time to time, and when a token names a key
// that is not in it, until ctx ends.
func (a *JWTAuth) Run(ctx context.Context) error {
	every := time.NewTicker(jwksEvery)
	defer every.Stop()
	for {
		select {
		case <-every.C:
		case <-a.miss:
		case <-ctx.Done():
			return nil
		}
		if err := a.read(ctx); err != nil { // the old set stays in use
			a.c.Log.Warn("the JWT key set was not read", zap.Error(err))
		}
		pause := time.NewTimer(jwksAtMost)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return nil
		}
	}
}

func (a *JWTAuth) read(ctx context.Context) error {
	b, err := a.fetch(ctx)
	if err != nil {
		return fmt.Errorf("reading the key set %s: %w", a.c.JWKS, err)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(b, &set); err != nil {
		return fmt.Errorf("reading the key set %s: %w", a.c.JWKS, err)
	}
	for _, k := range set.Keys {
		if !k.Valid() || !k.IsPublic() {
			return fmt.Errorf("reading the key set %s: key %q is not a public key", a.c.JWKS, k.KeyID)
		}
	}
	if len(set.Keys) == 0 {
		return fmt.Errorf("reading the key set %s: it is empty", a.c.JWKS)
	}
	a.keys.Store(&set)
	return nil
}

func (a *JWTAuth) fetch(ctx context.Context) ([]byte, error) {
	if !strings.Contains(a.c.JWKS, "://") {
		f, err := os.Open(a.c.JWKS)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return io.ReadAll(io.LimitReader(f, maxJWKS))
	}
	if !strings.HasPrefix(a.c.JWKS, "https://") {
		return nil, errors.New("only https is trusted with a key set")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.c.JWKS, nil)
	if err != nil {
		return nil, err
	}
	client := *a.c.HTTP
	client.CheckRedirect = func(*http.Request, []*http.Request) error { // it might lead to plain http, or anywhere
		return errors.New("the key set has moved; redirections are not followed")
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %s", resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, maxJWKS))
}

// Check verifies signature, issuer, audience, subject and times.
func (a *JWTAuth) Check(token []byte, uid UID, at time.Time) error {
	t, err := jwt.ParseSigned(string(token), jwtAlgorithms)
	if err != nil {
		return errors.New("vault: JWT is malformed, or its algorithm not accepted")
	}
	keys := a.keys.Load().Key(t.Headers[0].KeyID)
	if len(keys) != 1 {
		select {
		case a.miss <- struct{}{}:
		default:
		}
		return errors.New("vault: JWT names a key that is not in the key set")
	}
	if alg := keys[0].Algorithm; alg != "" && alg != t.Headers[0].Algorithm {
		return errors.New("vault: JWT's algorithm is not its key's")
	}
	var c jwt.Claims
	if err := t.Claims(keys[0].Key, &c); err != nil {
		return errors.New("vault: JWT's signature does not verify")
	}
	if c.Expiry == nil || c.IssuedAt == nil || c.Expiry.Time().Sub(c.IssuedAt.Time()) > jwtLifetime {
		return fmt.Errorf("vault: JWT lacks exp or iat, or is valid for more than %v", jwtLifetime)
	}
	expected := jwt.Expected{Issuer: a.c.Issuer, AnyAudience: jwt.Audience{a.c.Audience}, Time: at}
	if err := c.ValidateWithLeeway(expected, tokenSlack); err != nil {
		return fmt.Errorf("vault: JWT: %w", err)
	}
	if c.Subject == "" || AccountUID(a.c.Fleet, c.Subject) != uid {
		return errors.New("vault: JWT is for another account")
	}
	return nil
}
