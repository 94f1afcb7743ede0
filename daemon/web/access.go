package web

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	tokenLife   = 5 * time.Minute
	sessionIdle = 12 * time.Hour     // since the last request
	sessionLife = 7 * 24 * time.Hour // since the login
	maxTokens   = 16
	maxSessions = 64

	// After badTokens wrong ones, one more is looked at every badEvery.
	badTokens = 10
	badEvery  = 6 * time.Second
)

// digest is what is kept of a token or of a cookie: who reads our memory, or
// times a comparison, learns none.
type digest [sha256.Size]byte

func digestOf(s string) digest { return sha256.Sum256([]byte(s)) }

// secret is a token or the value of a cookie.
type secret struct {
	digest
	made, used time.Time
}

// access knows the login tokens that were not used yet and the sessions. All of
// it is forgotten when the daemon ends.
type access struct {
	cookie string // its name; cookies are shared by all ports of a host

	mu       sync.Mutex
	tokens   []secret
	sessions []secret
	bad      *rate.Limiter
}

func newAccess(cookie string) *access {
	return &access{cookie: cookie, bad: rate.NewLimiter(rate.Every(badEvery), badTokens)}
}

// newToken makes a token for one login. The oldest gives way when there are many.
func (a *access) newToken(now time.Time) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tokens = fresh(a.tokens, func(s secret) bool { return now.Sub(s.made) < tokenLife }, maxTokens-1)
	text := rand.Text()
	a.tokens = append(a.tokens, secret{digestOf(text), now, now})
	return text
}

// login spends a token and opens a session. It returns the value of the cookie,
// "" for a wrong token. limited: too many were wrong lately, and it was not looked at.
func (a *access) login(token string, now time.Time) (cookie string, limited bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.bad.TokensAt(now) < 1 {
		return "", true
	}
	a.tokens = fresh(a.tokens, func(s secret) bool { return now.Sub(s.made) < tokenLife }, maxTokens)
	i := find(a.tokens, token)
	if i < 0 {
		a.bad.AllowN(now, 1)
		return "", false
	}
	a.tokens = append(a.tokens[:i], a.tokens[i+1:]...)
	a.sessions = fresh(a.sessions, func(s secret) bool { return s.alive(now) }, maxSessions-1)
	cookie = rand.Text() + rand.Text()
	a.sessions = append(a.sessions, secret{digestOf(cookie), now, now})
	return cookie, false
}

func (s secret) alive(now time.Time) bool {
	return now.Sub(s.used) < sessionIdle && now.Sub(s.made) < sessionLife
}

// signedIn reports whether r has a session, which lives on by it.
func (a *access) signedIn(r *http.Request) bool {
	c, err := r.Cookie(a.cookie)
	if err != nil {
		return false
	}
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	i := find(a.sessions, c.Value)
	if i < 0 || !a.sessions[i].alive(now) {
		return false
	}
	a.sessions[i].used = now
	return true
}

// logout ends the session of r.
func (a *access) logout(r *http.Request) {
	c, err := r.Cookie(a.cookie)
	if err != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if i := find(a.sessions, c.Value); i >= 0 {
		a.sessions = append(a.sessions[:i], a.sessions[i+1:]...)
	}
}

// find compares with every secret, in a time that does not depend on which fits.
func find(all []secret, text string) int {
	d, found := digestOf(text), -1
	for i := range all {
		if subtle.ConstantTimeCompare(all[i].digest[:], d[:]) == 1 {
			found = i
		}
	}
	return found
}

// fresh leaves those that keep wants, the newest most of them.
func fresh(all []secret, keep func(secret) bool, most int) []secret {
	left := all[:0]
	for _, s := range all {
		if keep(s) {
			left = append(left, s)
		}
	}
	if n := len(left) - most; n > 0 {
		left = append(left[:0], left[n:]...)
	}
	return left
}

// set puts the cookie of a session into an answer; "" takes it away.
func (a *access) set(rw http.ResponseWriter, value string) {
	c := &http.Cookie{Name: a.cookie, Value: value, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(rw, c)
}
