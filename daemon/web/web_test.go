package web

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"coffer/daemon"
)

// paths are all that a signed-in user can read, the stream aside.
func paths(s *site) []string {
	id := s.repo.snaps[3].ID
	return []string{"/", "/sources", "/snapshots", "/snapshots?source=photos&page=2", "/charts", "/charts?source=photos", "/gateway", "/activity", "/activity?source=mail&show=trouble",
		"/snapshots/" + id, "/snapshots/" + id[:8], "/snapshots/" + id + "?path=/Projects/notes.md", "/snapshots/" + id + "/search?path=/&q=NOTES",
		"/snapshots/" + id + "/file?path=/Projects/notes.md", "/snapshots/" + id + "/image?path=/Photos/2026/beach.png",
		"/snapshots/" + id + "/folder?path=/Photos&as=zip", "/snapshots/" + id + "/folder?path=/Photos&as=tar"}
}

func TestNew(t *testing.T) {
	s := newSite(t, nil)
	for name, change := range map[string]func(*Config){
		"no daemon":  func(c *Config) { c.Daemon = nil },
		"no open":    func(c *Config) { c.Open = nil },
		"no address": func(c *Config) { c.Addr = "" },
		"everybody":  func(c *Config) { c.Addr = "0.0.0.0:9921" },
		"network":    func(c *Config) { c.Addr = "192.168.1.5:9921" },
		"a name":     func(c *Config) { c.Addr = "localhost:9921" },
	} {
		c := s.c
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: it was taken", name)
		}
	}
	if got, want := s.NewLoginURL(), "http://coffer.localhost:"+s.port()+"/login#"; !strings.HasPrefix(got, want) || strings.Contains(got[:len(want)-1], "#") {
		t.Errorf("got %q, want %q and a token", got, want)
	}
}

// TestHeaders: each answer tells the browser what it must not do, errors too.
func TestHeaders(t *testing.T) {
	s := newSite(t, nil)
	c := s.login(t)
	want := map[string]string{
		"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
		"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
	}
	for _, path := range append(paths(s), "/login", "/nothing", "/snapshots/00", "/assets/none", "/snapshots/"+s.repo.snaps[3].ID+"?path=/none") {
		resp, _ := s.get(t, c, path)
		for name, value := range want {
			if got := resp.Header.Get(name); got != value {
				t.Errorf("%s: %s is %q, want %q", path, name, got, value)
			}
		}
		if resp.StatusCode == http.StatusOK {
			content := strings.Contains(path, "/file?") || strings.Contains(path, "/image?") || strings.Contains(path, "/folder?")
			policy := csp
			if content {
				policy = sandboxCSP
			}
			if got := resp.Header.Get("Content-Security-Policy"); got != policy {
				t.Errorf("%s: policy %q, want %q", path, got, policy)
			}
			if got := strings.HasPrefix(resp.Header.Get("Content-Disposition"), "attachment;"); got != content {
				t.Errorf("%s: disposition %q", path, resp.Header.Get("Content-Disposition"))
			}
			if got := resp.Header.Get("Cache-Control"); !strings.Contains(got, "no-store") {
				t.Errorf("%s: cache control %q", path, got)
			}
		} else if got := resp.Header.Get("Content-Security-Policy"); got != csp {
			t.Errorf("%s: policy %q", path, got)
		}
		if path[1:] != "" && resp.StatusCode >= 500 {
			t.Errorf("%s: %s", path, resp.Status)
		}
		if resp.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: other origins are let in", path)
		}
	}
}

// TestPolicy: what the policy must have, said without the policy's own words.
func TestPolicy(t *testing.T) {
	for _, part := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "base-uri 'none'", "frame-ancestors 'none'", "form-action 'self'", "require-trusted-types-for 'script'"} {
		if !slices.Contains(strings.Split(csp, "; "), part) {
			t.Errorf("%q is not in the policy", part)
		}
	}
	if strings.Contains(csp, "unsafe") || strings.Contains(csp, "data:") || strings.Contains(csp, "*") {
		t.Errorf("the policy is open: %s", csp)
	}
	s := newSite(t, nil)
	c := s.login(t)
	for _, path := range append(paths(s)[:13], "/login") {
		_, body := s.get(t, c, path)
		for _, inline := range []string{"<style", " style=", " onclick", " onload", "<script>", "javascript:", "<iframe", "<object"} {
			if strings.Contains(strings.ReplaceAll(body, "&lt;", ""), inline) {
				t.Errorf("%s has %q inline", path, inline)
			}
		}
	}
}

// TestCookie: scripts do not see it, other sites do not send it.
func TestCookie(t *testing.T) {
	s := newSite(t, nil)
	c := s.login(t)
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" || c.Name != "coffer-"+s.port() {
		t.Errorf("the cookie is %+v", c)
	}
	resp := s.request(t, "POST", "/logout", func(r *http.Request) { r.AddCookie(c) })
	if resp.StatusCode != http.StatusSeeOther || resp.Cookies()[0].MaxAge >= 0 {
		t.Errorf("logout: %s, %v", resp.Status, resp.Cookies())
	}
	if resp, _ := s.get(t, c, "/"); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("after the logout: %s", resp.Status)
	}
}

// TestHost: a name that somebody else made lead to this machine (DNS rebinding)
// gets nothing, not even the login page.
func TestHost(t *testing.T) {
	s := newSite(t, nil)
	c := s.login(t)
	port := ":" + s.port()
	for host, want := range map[string]int{
		"127.0.0.1" + port: 200, "localhost" + port: 200, "coffer.localhost" + port: 200, "[::1]" + port: 200, "LOCALHOST" + port: 200,
		"evil.example" + port: 421, "127.0.0.1": 421, "localhost": 421, "127.0.0.1:80": 421, "coffer.localhost.evil.example" + port: 421,
		"x.localhost" + port: 421, "0.0.0.0" + port: 421, "127.0.0.2" + port: 421, "127.0.0.1." + port: 421, "localhost" + port + ".": 421, "": 421,
	} {
		for _, path := range []string{"/", "/login", "/events", "/assets/" + anyAsset()} {
			if want == 200 && path == "/events" {
				continue
			}
			resp := s.request(t, "GET", path, func(r *http.Request) { r.AddCookie(c); r.Host = host; r.Header.Set("Host", host) })
			if host == "" { // the client puts the address in
				continue
			}
			if resp.StatusCode != want {
				t.Errorf("%q %s: %s, want %d", host, path, resp.Status, want)
			}
		}
	}
}

func anyAsset() string {
	for name := range assets {
		return name
	}
	return ""
}

// TestCrossSite: what another site makes the browser send does nothing, though
// the session is good.
func TestCrossSite(t *testing.T) {
	s := newSite(t, nil)
	c := s.login(t)
	for _, tt := range []struct {
		name, method string
		header       map[string]string
		want         int
	}{
		{"own form", "POST", map[string]string{"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate"}, 303},
		{"own form without an origin", "POST", map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": "null"}, 303},
		{"program", "POST", nil, 303},
		{"form of another site", "POST", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 403},
		{"form of another port", "POST", map[string]string{"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 403},
		{"old browser", "POST", map[string]string{"Origin": "http://evil.example"}, 403},
		{"old browser, other port", "POST", map[string]string{"Origin": "http://127.0.0.1:1"}, 403},
		{"old browser, no origin", "POST", map[string]string{"Origin": "null"}, 403},
		{"old browser, own", "POST", map[string]string{"Origin": "http://" + s.addr}, 303},
		{"other method", "PUT", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"link", "GET", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 405},
		{"frame", "GET", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, 403},
		{"picture", "GET", map[string]string{"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, 403},
		{"script", "GET", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}, 403},
	} {
		resp := s.request(t, tt.method, "/backup", func(r *http.Request) {
			form("source=photos")(r)
			r.AddCookie(c)
			for name, value := range tt.header {
				r.Header.Set(name, value)
			}
		})
		got := resp.StatusCode
		if got == http.StatusNotFound {
			got = http.StatusMethodNotAllowed // of the mux, either is a refusal
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %d", tt.name, resp.Status, tt.want)
		}
	}
	if n := len(s.daemon.asked); n != 4 {
		t.Errorf("%d backups began, want 4", n)
	}
}

// TestSignedOut: without a session there is only the way to get one.
func TestSignedOut(t *testing.T) {
	s := newSite(t, nil)
	for _, cookie := range []*http.Cookie{nil, {Name: "coffer-" + s.port(), Value: "guess"}, {Name: "coffer-" + s.port(), Value: ""}} {
		for _, path := range append(paths(s), "/events", "/nothing") {
			resp := s.request(t, "GET", path, func(r *http.Request) {
				if cookie != nil {
					r.AddCookie(cookie)
				}
			})
			b, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s: %s", path, resp.Status)
			}
			for _, word := range []string{"laptop", "documents", "photos", "0.1.0", "Anna"} {
				if strings.Contains(string(b), word) {
					t.Errorf("%s tells %q to strangers", path, word)
				}
			}
		}
		for _, path := range []string{"/backup", "/pause", "/resume", "/logout"} {
			if resp := s.request(t, "POST", path, form("")); resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("POST %s: %s", path, resp.Status)
			}
		}
	}
	if n := len(s.daemon.asked) + len(s.daemon.pauses) + s.daemon.resumed; n != 0 {
		t.Errorf("strangers reached the daemon %d times", n)
	}
}

// TestLogin: over HTTP too a token works once, wrong ones are counted, and
// neither is in the log.
func TestLogin(t *testing.T) {
	core, logs := observer.New(zapcore.DebugLevel)
	s := newSite(t, zap.New(core))
	link := s.NewLoginURL()
	_, token, _ := strings.Cut(link, "#")
	if resp := s.request(t, "POST", "/login", form("token="+url.QueryEscape(link))); resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/" {
		t.Errorf("the pasted link: %s", resp.Status)
	}
	for i := range badTokens {
		if resp := s.request(t, "POST", "/login", form("token="+token)); resp.StatusCode != http.StatusForbidden || len(resp.Cookies()) != 0 {
			t.Fatalf("the used token, %d: %s", i, resp.Status)
		}
	}
	_, fresh, _ := strings.Cut(s.NewLoginURL(), "#")
	if resp := s.request(t, "POST", "/login", form("token="+fresh)); resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" {
		t.Errorf("after many wrong ones: %s", resp.Status)
	}
	if resp := s.request(t, "GET", "/login?token="+fresh, nil); resp.StatusCode != http.StatusOK || len(resp.Cookies()) != 0 {
		t.Errorf("a token in a query: %s, %v", resp.Status, resp.Cookies())
	}
	for _, e := range logs.All() {
		if text := e.Message + fieldText(e); strings.Contains(text, token) || strings.Contains(text, fresh) {
			t.Errorf("the log tells a token: %s", text)
		}
	}
}

func fieldText(e observer.LoggedEntry) string {
	b, err := json.Marshal(e.ContextMap())
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// TestLargeForm: nobody makes the daemon read without end.
func TestLargeForm(t *testing.T) {
	s := newSite(t, nil)
	if resp := s.request(t, "POST", "/login", form("token="+strings.Repeat("x", 2*maxForm))); resp.StatusCode < 400 {
		t.Errorf("got %s", resp.Status)
	}
}

func TestActions(t *testing.T) {
	s := newSite(t, nil)
	c := s.login(t)
	for _, tt := range []struct {
		path, body string
		want       int
		to         string
	}{
		{"/backup", "", 303, "/"},
		{"/backup", "source=photos&view=/sources", 303, "/sources"},
		{"/backup", "view=//evil.example/", 303, "/"},
		{"/backup", "source=none", 404, ""},
		{"/pause", "for=4h", 303, "/"},
		{"/pause", "for=", 303, "/"},
		{"/pause", "for=-1h", 400, ""},
		{"/pause", "for=9999h", 400, ""},
		{"/pause", "for=<b>", 400, ""},
		{"/resume", "", 303, "/"},
	} {
		resp := s.request(t, "POST", tt.path, func(r *http.Request) { form(tt.body)(r); r.AddCookie(c) })
		if resp.StatusCode != tt.want || resp.Header.Get("Location") != tt.to {
			t.Errorf("%s %s: %s to %q, want %d to %q", tt.path, tt.body, resp.Status, resp.Header.Get("Location"), tt.want, tt.to)
		}
	}
	if len(s.daemon.asked) != 3 || !slices.Equal(s.daemon.pauses, []time.Duration{4 * time.Hour, 0}) || s.daemon.resumed != 1 {
		t.Errorf("asked %v, paused %v, resumed %d", s.daemon.asked, s.daemon.pauses, s.daemon.resumed)
	}
	s.daemon.status.Locked = true
	if resp := s.request(t, "POST", "/backup", func(r *http.Request) { r.AddCookie(c) }); resp.StatusCode != http.StatusLocked {
		t.Errorf("locked: %s", resp.Status)
	}
}

// TestLocked: without the key nothing of the snapshots is shown, not what was
// shown a moment ago either.
func TestLocked(t *testing.T) {
	s := newSite(t, nil)
	c := s.login(t)
	s.get(t, c, "/snapshots")
	s.mu.Lock()
	s.open = daemon.ErrLocked
	s.mu.Unlock()
	for _, path := range paths(s) {
		if !strings.HasPrefix(path, "/snapshots") && !strings.HasPrefix(path, "/charts") {
			continue
		}
		if resp, body := s.get(t, c, path); resp.StatusCode != http.StatusLocked || !strings.Contains(body, "coffer recover") {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
}

// TestEvents: the stream begins with the state, goes on with what happens, and
// ends with the session.
func TestEvents(t *testing.T) {
	s := newSite(t, nil)
	c := s.login(t)
	resp := s.request(t, "GET", "/events", func(r *http.Request) { r.AddCookie(c) })
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("got %s, %s", resp.Status, resp.Header.Get("Content-Type"))
	}
	lines := bufio.NewScanner(resp.Body)
	next := func(kind string) string {
		for lines.Scan() {
			if lines.Text() != "event: "+kind {
				continue
			}
			lines.Scan()
			return strings.TrimPrefix(lines.Text(), "data: ")
		}
		return ""
	}
	var v statusView
	if err := json.Unmarshal([]byte(next("status")), &v); err != nil || len(v.Sources) != 3 || v.Headline != "Everything is backed up" {
		t.Errorf("got %+v, %v", v, err)
	}
	s.daemon.publish(daemon.Event{Kind: daemon.Failed, Source: "mail", Error: "no\nroute\u202e", Until: time.Now().Add(time.Hour)})
	if got := next("event"); !strings.Contains(got, `"source":"mail"`) || strings.Contains(got, "\u202e") {
		t.Errorf("got %s", got)
	}
	s.access.logout(requestWith(s.access, c.Value))
	s.daemon.publish(daemon.Event{Kind: daemon.Started, Source: "mail"})
	for lines.Scan() { // it ends
	}
	if s.daemon.mu.Lock(); len(s.daemon.subs) != 0 {
		t.Errorf("%d subscriptions are left", len(s.daemon.subs))
	}
	s.daemon.mu.Unlock()
}

// TestManyStreams: pages that are left open use up a bounded number of streams.
func TestManyStreams(t *testing.T) {
	s := newSite(t, nil)
	c := s.login(t)
	for range maxStreams {
		if resp := s.request(t, "GET", "/events", func(r *http.Request) { r.AddCookie(c) }); resp.StatusCode != http.StatusOK {
			t.Fatal(resp.Status)
		}
	}
	if resp := s.request(t, "GET", "/events", func(r *http.Request) { r.AddCookie(c) }); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one more: %s", resp.Status)
	}
}

// TestGatewaySecrets: the page cannot tell what it is not given.
func TestGatewaySecrets(t *testing.T) {
	s := newSite(t, nil)
	_, body := s.get(t, s.login(t), "/gateway")
	for _, word := range []string{"http://127.0.0.1:9421", "photos, notes", "read only", "all buckets", "read and write"} {
		if !strings.Contains(body, word) {
			t.Errorf("%q is not there", word)
		}
	}
}

// TestAssets: they are found by content, and may be kept for ever.
func TestAssets(t *testing.T) {
	s := newSite(t, nil)
	for _, name := range []string{"style.css", "page.js", "icon.svg"} {
		path, err := assetURL(name)
		if err != nil {
			t.Fatal(err)
		}
		resp := s.request(t, "GET", path, nil)
		if resp.StatusCode != http.StatusOK || !strings.Contains(resp.Header.Get("Cache-Control"), "immutable") || strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s: %s, %v", path, resp.Status, resp.Header)
		}
	}
	for _, path := range []string{"/assets/style.css", "/assets/..%2ftemplates%2fframe.html", "/assets/"} {
		if resp := s.request(t, "GET", path, nil); resp.StatusCode == http.StatusOK {
			t.Errorf("%s is served", path)
		}
	}
}
