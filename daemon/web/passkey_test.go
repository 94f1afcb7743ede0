package web

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
)

// authenticator is a security key in the browser of b, with PRF or without.
func (b *tab) authenticator(prf bool) webauthn.AuthenticatorID {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, webauthn.Enable, webauthn.EnableParams{}); err != nil {
		b.t.Fatal(err)
	}
	made, err := chromedp.Call(b.ctx, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Ctap2version: webauthn.Ctap2versionCtap21, Transport: webauthn.AuthenticatorTransportInternal,
		HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, HasPrf: prf, AutomaticPresenceSimulation: true,
	}})
	if err != nil {
		b.t.Fatal(err)
	}
	return made.AuthenticatorID
}

// forgive drops what the browser says of answers that were meant to be refusals.
func (b *tab) forgive(status string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	left := b.problems[:0]
	for _, p := range b.problems {
		if !strings.Contains(p, "status of "+status) {
			left = append(left, p)
		}
	}
	b.problems = left
}

const problemShown = `!document.getElementById("passkey-problem").hidden && document.activeElement.id === "passkey-problem" && document.getElementById("passkey-problem").innerText`

// TestBrowserPasskey: a passkey is made on the page, unlocks a locked daemon with
// the secret that it was made with, and is removed.
func TestBrowserPasskey(t *testing.T) {
	s := newSite(t, nil)
	b := newTab(t)
	b.signIn(s)
	id := b.authenticator(true)
	b.open(s, "/protection")
	add := func(name string) {
		t.Helper()
		b.do(chromedp.SendKeys(chromedp.CSS("#passkey-name"), name))
		b.do(chromedp.Click(chromedp.CSS(`[data-passkey=add] button`)))
	}
	add("Blue " + evilName)
	b.wait(`document.querySelector("[data-credential]") && document.querySelector("[data-credential] b").textContent === ` + quoted("Blue "+evilName))
	if len(s.keys.all) != 1 || s.keys.secrets[s.keys.all[0].ID] == [32]byte{} {
		t.Fatalf("kept are %+v", s.keys.all)
	}
	secret := s.keys.secrets[s.keys.all[0].ID]
	if seen := eval[string](b, `document.documentElement.outerHTML + location.href`); strings.Contains(seen, base64.RawURLEncoding.EncodeToString(secret[:])) {
		t.Error("the secret is on the page")
	}
	add("again")
	b.wait(problemShown + `.includes("already")`)
	b.shot("passkey-light-1280")

	b.press(`form[action="/lock"] button`)
	b.wait(`document.querySelector(".state h2").textContent === "Locked"`)
	if !s.daemon.Status().Locked {
		t.Error("the daemon is not locked")
	}
	b.scheme("dark")
	b.do(chromedp.EmulateViewport(360, 800))
	b.shot("passkey-locked-dark-360")
	if wide := eval[int64](b, "document.documentElement.scrollWidth"); wide > 360 {
		t.Errorf("%d pixels wide", wide)
	}
	b.do(chromedp.Click(chromedp.CSS(`[data-passkey=unlock] button`)))
	b.wait(`document.querySelector(".state h2").textContent === "Unlocked"`)
	if s.daemon.Status().Locked {
		t.Error("the daemon is locked still")
	}
	b.press(`form[action="/lock"] button`)
	if _, err := chromedp.Call(b.ctx, webauthn.SetUserVerified, webauthn.SetUserVerifiedParams{AuthenticatorID: id, IsUserVerified: false}); err != nil {
		t.Fatal(err)
	}
	b.do(chromedp.Click(chromedp.CSS(`[data-passkey=unlock] button`)))
	b.wait(problemShown + `.includes("No passkey was used")`)
	if !s.daemon.Status().Locked {
		t.Error("somebody else than the owner unlocked the daemon")
	}
	b.do(chromedp.Click(chromedp.CSS(".remove summary")))
	b.press(".remove button")
	b.wait(`!document.querySelector("[data-credential]")`)
	if len(s.keys.all)+len(s.keys.secrets) != 0 {
		t.Errorf("kept are %+v", s.keys.all)
	}
}

// TestBrowserPasskeyRefused: an authenticator that keeps no secret is of no use,
// and neither is one whose secret is another.
func TestBrowserPasskeyRefused(t *testing.T) {
	s := newSite(t, nil)
	b := newTab(t)
	b.signIn(s)
	plain := b.authenticator(false)
	b.open(s, "/protection")
	b.do(chromedp.SendKeys(chromedp.CSS("#passkey-name"), "old"))
	b.do(chromedp.Click(chromedp.CSS(`[data-passkey=add] button`)))
	b.wait(problemShown + `.includes("cannot keep a secret")`)
	if len(s.keys.all) != 0 {
		t.Errorf("kept are %+v", s.keys.all)
	}
	if _, err := chromedp.Call(b.ctx, webauthn.RemoveVirtualAuthenticator, webauthn.RemoveVirtualAuthenticatorParams{AuthenticatorID: plain}); err != nil {
		t.Fatal(err)
	}
	b.authenticator(true)
	s.keys.err = errors.New("the bucket does not answer")
	b.do(chromedp.Click(chromedp.CSS(`[data-passkey=add] button`)))
	b.wait(problemShown + `.includes("was not kept")`)
	b.forgive("502")
	s.keys.err = nil
	b.open(s, "/protection")
	b.do(chromedp.SendKeys(chromedp.CSS("#passkey-name"), "new"))
	b.do(chromedp.Click(chromedp.CSS(`[data-passkey=add] button`)))
	b.wait(`document.querySelector("[data-credential]")`)
	s.keys.secrets[s.keys.all[0].ID] = [32]byte{1}
	b.press(`form[action="/lock"] button`)
	b.do(chromedp.Click(chromedp.CSS(`[data-passkey=unlock] button`)))
	b.wait(problemShown + `.includes("does not open")`)
	b.forgive("403")
	if !s.daemon.Status().Locked {
		t.Error("a wrong secret unlocked the daemon")
	}
}

func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// TestPasskeyForms: what the page could not have sent is refused; who is not signed
// in, or on another site, reaches nothing.
func TestPasskeyForms(t *testing.T) {
	s := newSite(t, nil)
	c := s.login(t)
	good := base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	post := func(path, text string, edit func(*http.Request)) int {
		return s.request(t, "POST", path, func(r *http.Request) {
			form(text)(r)
			r.AddCookie(c)
			if edit != nil {
				edit(r)
			}
		}).StatusCode
	}
	fields := "name=x&credential=AAAA&salt=" + good + "&secret=" + good
	for name, tt := range map[string]struct {
		path, text string
		edit       func(*http.Request)
		want       int
	}{
		"good":              {"/passkeys", fields, nil, 204},
		"no name":           {"/passkeys", strings.Replace(fields, "name=x", "name=+", 1), nil, 400},
		"long name":         {"/passkeys", strings.Replace(fields, "name=x", "name="+strings.Repeat("x", 101), 1), nil, 400},
		"short secret":      {"/passkeys", fields[:len(fields)-4], nil, 400},
		"no credential":     {"/passkeys", strings.Replace(fields, "AAAA", "!", 1), nil, 400},
		"another site":      {"/passkeys", fields, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, 403},
		"another port":      {"/unlock", "id=1&secret=" + good, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") }, 403},
		"another origin":    {"/lock", "", func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") }, 403},
		"not signed in":     {"/unlock", "id=1&secret=" + good, func(r *http.Request) { r.Header.Del("Cookie") }, 401},
		"not signed in 2":   {"/doctor", "", func(r *http.Request) { r.Header.Del("Cookie") }, 401},
		"rebound":           {"/lock", "", func(r *http.Request) { r.Host = "evil.example:" + s.port() }, 421},
		"unknown passkey":   {"/unlock", "id=1&secret=" + good, nil, 403},
		"unlock w/o":        {"/unlock", "id=1", nil, 400},
		"remove a stranger": {"/passkeys/00/remove", "", nil, 404},
	} {
		if got := post(tt.path, tt.text, tt.edit); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
	if s.daemon.Status().Locked || len(s.keys.all) != 1 {
		t.Errorf("locked %v, passkeys %+v", s.daemon.Status().Locked, s.keys.all)
	}
	if _, body := s.get(t, c, "/protection"); !strings.Contains(body, "http://coffer.localhost:"+s.port()+"/protection") || strings.Contains(body, "data-passkey=\"add\"") {
		t.Error("by its address, the page does not say where passkeys work")
	}
	if got := post("/lock", "", nil); got != 303 {
		t.Errorf("lock: %d", got)
	}
	if got := post("/passkeys", fields, nil); got != 423 {
		t.Errorf("adding while locked: %d", got)
	}
	s.mu.Lock()
	s.open = errLocked
	s.mu.Unlock()
	if resp, body := s.get(t, c, "/snapshots"); resp.StatusCode != 423 || !strings.Contains(body, "Unlock with a passkey") {
		t.Errorf("locked snapshots: %s", resp.Status)
	}
}
