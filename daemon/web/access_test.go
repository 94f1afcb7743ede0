package web

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// request is one with the cookie.
func requestWith(a *access, cookie string) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	r.AddCookie(&http.Cookie{Name: a.cookie, Value: cookie})
	return r
}

// TestTokenOnce: who finds a link in a history or a log cannot use it again.
func TestTokenOnce(t *testing.T) {
	a, now := newAccess("c"), time.Now()
	token := a.newToken(now)
	cookie, limited := a.login(token, now)
	if cookie == "" || limited || len(cookie) < 52 {
		t.Fatalf("got %q, %v", cookie, limited)
	}
	if !a.signedIn(requestWith(a, cookie)) {
		t.Error("the session is not known")
	}
	for _, again := range []string{token, strings.ToLower(token), "", cookie, token[:len(token)-1]} {
		if got, _ := a.login(again, now); got != "" {
			t.Errorf("%q opened a session", again)
		}
	}
	if a.signedIn(requestWith(a, token)) || a.signedIn(requestWith(a, "")) || a.signedIn(httptest.NewRequest("GET", "/", nil)) {
		t.Error("somebody else is signed in")
	}
	a.logout(requestWith(a, cookie))
	if a.signedIn(requestWith(a, cookie)) {
		t.Error("the session outlives the logout")
	}
}

func TestTokenLife(t *testing.T) {
	a, now := newAccess("c"), time.Now()
	token := a.newToken(now)
	if cookie, _ := a.login(token, now.Add(tokenLife)); cookie != "" {
		t.Error("an old token opened a session")
	}
	first := a.newToken(now)
	for range maxTokens {
		token = a.newToken(now)
	}
	if cookie, _ := a.login(first, now); cookie != "" {
		t.Error("there are more tokens than the bound")
	}
	if cookie, _ := a.login(token, now.Add(tokenLife-time.Second)); cookie == "" {
		t.Error("the newest token opened no session")
	}
}

// TestWrongTokens: guessing is slowed down, and time heals it.
func TestWrongTokens(t *testing.T) {
	a, now := newAccess("c"), time.Now()
	token := a.newToken(now)
	for i := range badTokens {
		if cookie, limited := a.login("wrong", now); cookie != "" || limited {
			t.Fatalf("guess %d: %q, %v", i, cookie, limited)
		}
	}
	if cookie, limited := a.login(token, now); cookie != "" || !limited {
		t.Errorf("after %d guesses: %q, %v", badTokens, cookie, limited)
	}
	if cookie, limited := a.login(token, now.Add(badEvery+time.Second)); cookie == "" || limited {
		t.Errorf("after a wait: %q, %v", cookie, limited)
	}
}

func TestSessionLife(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		name       string
		made, used time.Duration // ago
		want       bool
	}{
		{"in use", sessionLife - time.Hour, time.Minute, true},
		{"idle", sessionIdle + time.Minute, sessionIdle + time.Minute, false},
		{"old", sessionLife + time.Minute, time.Minute, false},
	} {
		a := newAccess("c")
		cookie, _ := a.login(a.newToken(now), now)
		a.sessions[0].made, a.sessions[0].used = now.Add(-tt.made), now.Add(-tt.used)
		if got := a.signedIn(requestWith(a, cookie)); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
	a := newAccess("c")
	first, _ := a.login(a.newToken(now), now)
	for range maxSessions {
		a.login(a.newToken(now), now)
	}
	if len(a.sessions) > maxSessions || a.signedIn(requestWith(a, first)) {
		t.Errorf("%d sessions", len(a.sessions))
	}
}
