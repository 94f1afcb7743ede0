package vault

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

type issuer struct {
	key *ecdsa.PrivateKey
	id  string
}

func newIssuer(t *testing.T, id string) issuer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return issuer{k, id}
}

func (i issuer) jwks(t *testing.T) []byte {
	t.Helper()
	b, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &i.key.PublicKey, KeyID: i.id, Algorithm: "ES256"}}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (i issuer) token(t *testing.T, c jwt.Claims) []byte {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: i.key, KeyID: i.id}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Signed(s).Claims(c).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return []byte(text)
}

// A token that is not quite right must not speak for an account.
func TestJWT(t *testing.T) {
	is, stranger := newIssuer(t, "k1"), newIssuer(t, "k1")
	path := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(path, is.jwks(t), 0o600); err != nil {
		t.Fatal(err)
	}
	fleet, now := FleetID{1}, time.Now()
	a, err := NewJWTAuth(context.Background(), JWTConfig{Fleet: fleet, Issuer: "https://id.test", Audience: "coffer", JWKS: path})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		by    issuer
		spoil func(*jwt.Claims)
		ok    bool
	}{
		{"good", is, func(*jwt.Claims) {}, true},
		{"another's key", stranger, func(*jwt.Claims) {}, false},
		{"unknown key id", issuer{is.key, "k2"}, func(*jwt.Claims) {}, false},
		{"another subject", is, func(c *jwt.Claims) { c.Subject = "bert" }, false},
		{"no subject", is, func(c *jwt.Claims) { c.Subject = "" }, false},
		{"another issuer", is, func(c *jwt.Claims) { c.Issuer = "https://evil.test" }, false},
		{"another audience", is, func(c *jwt.Claims) { c.Audience = jwt.Audience{"mail"} }, false},
		{"one audience of two", is, func(c *jwt.Claims) { c.Audience = jwt.Audience{"mail", "coffer"} }, true},
		{"no expiry", is, func(c *jwt.Claims) { c.Expiry = nil }, false},
		{"expired", is, func(c *jwt.Claims) { c.Expiry = jwt.NewNumericDate(now.Add(-5 * time.Minute)) }, false},
		{"not yet valid", is, func(c *jwt.Claims) { c.NotBefore = jwt.NewNumericDate(now.Add(5 * time.Minute)) }, false},
		{"valid for a week", is, func(c *jwt.Claims) { c.Expiry = jwt.NewNumericDate(now.Add(7 * 24 * time.Hour)) }, false},
	} {
		c := jwt.Claims{
			Issuer: "https://id.test", Subject: "anna", Audience: jwt.Audience{"coffer"},
			IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(time.Hour)),
		}
		tt.spoil(&c)
		if err := a.Check(tt.by.token(t, c), AccountUID(fleet, "anna"), now); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	for _, text := range []string{"", "x", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm5hIn0."} {
		if err := a.Check([]byte(text), AccountUID(fleet, "anna"), now); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
	for _, bad := range []string{"{}", "not json", `{"keys":[{"kty":"oct","k":"AAAA","kid":"k1"}]}`} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := a.read(context.Background()); err == nil {
			t.Errorf("the key set %q is accepted", bad)
		}
	}
}

// roundTripper serves requests without a network.
type roundTripper struct{ h http.Handler }

func (r roundTripper) RoundTrip(q *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	r.h.ServeHTTP(w, q)
	return w.Result(), nil
}

// When the issuer changes its key, tokens by the new one are accepted soon, and
// strangers cannot make a node ask the issuer without end.
func TestJWTKeyRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		first, second := newIssuer(t, "k1"), newIssuer(t, "k2")
		set, reads := first.jwks(t), 0
		h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			reads++
			w.Write(set)
		})
		ctx, stop := context.WithCancel(t.Context())
		a, err := NewJWTAuth(ctx, JWTConfig{Issuer: "i", Audience: "a", JWKS: "https://id.test/jwks", HTTP: &http.Client{Transport: roundTripper{h}}})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() { done <- a.Run(ctx) }()
		claims := jwt.Claims{
			Issuer: "i", Subject: "anna", Audience: jwt.Audience{"a"},
			IssuedAt: jwt.NewNumericDate(time.Now()), Expiry: jwt.NewNumericDate(time.Now().Add(time.Hour)),
		}
		mu.Lock()
		set = second.jwks(t)
		mu.Unlock()
		check := func() error { return a.Check(second.token(t, claims), AccountUID(FleetID{}, "anna"), time.Now()) }
		if check() == nil {
			t.Error("a key that was never read is known")
		}
		synctest.Wait()
		if err := check(); err != nil {
			t.Errorf("after the key set was read again: %v", err)
		}
		for range 100 {
			a.Check(first.token(t, claims), UID{}, time.Now())
		}
		time.Sleep(jwksAtMost + time.Second)
		synctest.Wait()
		mu.Lock()
		if reads > 3 {
			t.Errorf("the key set was read %d times", reads)
		}
		mu.Unlock()
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if _, err := NewJWTAuth(context.Background(), JWTConfig{Issuer: "i", Audience: "a", JWKS: "http://id.test/jwks"}); err == nil {
		t.Error("a key set over plain http is accepted")
	}
	away := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Scheme == "https" {
			http.Redirect(w, r, "http://id.test/jwks", http.StatusFound)
			return
		}
		w.Write(newIssuer(t, "k1").jwks(t))
	})
	if _, err := NewJWTAuth(context.Background(), JWTConfig{
		Issuer: "i", Audience: "a", JWKS: "https://id.test/jwks", HTTP: &http.Client{Transport: roundTripper{away}},
	}); err == nil {
		t.Error("a key set is accepted to which plain http was the last step")
	}
}
