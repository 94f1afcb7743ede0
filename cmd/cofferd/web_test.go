package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"coffer/daemon"
	"coffer/internal/config"
	"coffer/keyring"
	"coffer/upstream"
)

// visitor is a browser that found its way to the page by a login link.
type visitor struct {
	t    *testing.T
	http *http.Client
	base string
}

func newVisitor(t *testing.T, link string) *visitor {
	t.Helper()
	u, err := url.Parse(link)
	if err != nil || u.Hostname() != "coffer.localhost" || len(u.Fragment) < 26 {
		t.Fatalf("the link is %q, %v", link, err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	v := &visitor{t: t, base: "http://" + u.Host, http: &http.Client{Jar: jar, Timeout: 30 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:"+u.Port())
		},
	}}}
	resp, err := v.http.PostForm(v.base+"/login", url.Values{"token": {u.Fragment}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Request.URL.Path != "/" {
		t.Fatalf("login ends at %s with %s", resp.Request.URL.Path, resp.Status)
	}
	return v
}

func (v *visitor) get(path string, status int) string {
	v.t.Helper()
	resp, err := v.http.Get(v.base + path)
	if err != nil {
		v.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	if resp.StatusCode != status {
		v.t.Errorf("%s: %s, want %d\n%s", path, resp.Status, status, b)
	}
	return string(b)
}

// TestWebPage: the page that the real daemon serves shows its snapshots, gives a
// file back byte for byte, knows no secret, and does not keep the daemon from ending.
func TestWebPage(t *testing.T) {
	m := newMachine(t)
	m.config.Web = config.Web{Listen: "127.0.0.1:0"}
	m.writeConfig()
	text := strings.Repeat("what was said, and by whom\n", 9000)
	m.write("docs/letter.txt", text)
	m.putProfile()
	p := m.start()
	st := p.saved(time.Time{})
	p.logged("local page")
	link, err := p.LoginURL(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	v := newVisitor(t, link)
	for path, word := range map[string]string{"/": "64 digits, written down", "/sources": m.path("docs"), "/snapshots": "laptop", "/charts": "Duration"} {
		if body := v.get(path, http.StatusOK); !strings.Contains(body, word) {
			t.Errorf("%s: %q is not there:\n%s", path, word, body)
		}
	}
	if body := v.get("/gateway", http.StatusOK); !strings.Contains(body, "<code>anna</code>") || strings.Contains(body, secretKey) {
		t.Errorf("the gateway is shown as\n%s", body)
	}
	at := "/snapshots/" + st.Sources[0].Snapshot
	if body := v.get(at+"?path=/", http.StatusOK); !strings.Contains(body, "letter.txt") {
		t.Errorf("the folder is\n%s", body)
	}
	if body := v.get(at+"/file?path=/letter.txt", http.StatusOK); body != text {
		t.Errorf("the file has %d bytes, want %d", len(body), len(text))
	}
	if body := v.get(at+"/folder?path=/&as=tar", http.StatusOK); !strings.Contains(body, text) {
		t.Errorf("the archive has %d bytes", len(body))
	}
	v.excludes(m.path("docs"))
	v.wait("/activity", "Saved in")
	v.wait("/", "answers in")
	stream, err := v.http.Get(v.base + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	if _, err := p.Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	if body := v.get(at+"?path=/", http.StatusLocked); strings.Contains(body, "letter.txt") {
		t.Errorf("locked, it shows\n%s", body)
	}
	begin := time.Now()
	p.stop()
	if took := time.Since(begin); took > webDrain {
		t.Errorf("an open page held the daemon for %v", took)
	}
	if log := p.output(); strings.Contains(log, "letter.txt") || strings.Contains(log, link[strings.IndexByte(link, '#')+1:]) {
		t.Errorf("the log tells names or the link:\n%s", log)
	}
}

// excludes looks what a pattern would leave out, and saves it.
func (v *visitor) excludes(docs string) {
	v.t.Helper()
	const at = "/sources/docs/excludes"
	for do, word := range map[string]string{"look": docs + "/letter.txt", "save": "Saved."} {
		resp, err := v.http.PostForm(v.base+at, url.Values{"patterns": {"letter.*\n"}, "do": {do}})
		if err != nil {
			v.t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if !strings.Contains(string(body), word) {
			v.t.Errorf("%s: no %q in\n%s", do, word, body)
		}
	}
	if body := v.get(at, http.StatusOK); !strings.Contains(body, "letter.*</textarea>") {
		v.t.Errorf("after saving it shows\n%s", body)
	}
	v.wait("/activity", "The configuration was read again")
}

// putProfile puts the profile of the store upstream, as "coffer setup" does.
func (m *machine) putProfile() {
	m.t.Helper()
	ring, err := keyring.Load(m.config.StateDir)
	if err != nil {
		m.t.Fatal(err)
	}
	b, err := upstream.NewFolder(m.path("upstream"))
	if err != nil {
		m.t.Fatal(err)
	}
	defer b.Close()
	profile := ring.Profile().Encode()
	if _, err := b.Put(m.t.Context(), keyring.ProfileName, bytes.NewReader(profile), int64(len(profile)), upstream.PutOptions{}); err != nil {
		m.t.Fatal(err)
	}
}

// wait waits until a view has the word.
func (v *visitor) wait(path, word string) {
	v.t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if strings.Contains(v.get(path, http.StatusOK), word) {
			return
		}
	}
	v.t.Errorf("%s: %q does not come:\n%s", path, word, v.get(path, http.StatusOK))
}

// TestNoWebPage: without a section [web] nothing listens, and whoever asks is told.
func TestNoWebPage(t *testing.T) {
	m := newMachine(t)
	p := m.start()
	p.saved(time.Time{})
	if link, err := p.LoginURL(t.Context()); !errors.Is(err, daemon.ErrNoPage) {
		t.Errorf("got %q, %v, want %v", link, err, daemon.ErrNoPage)
	}
}

// TestWebPortTaken: a daemon that cannot serve its page says so, and ends.
func TestWebPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	m := newMachine(t)
	m.config.Web = config.Web{Listen: l.Addr().String()}
	m.writeConfig()
	p := m.start()
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		t.Fatal("it runs on")
	}
	if got := p.output(); !strings.Contains(got, fmt.Sprintf("cofferd: error: local page: listen tcp %s", l.Addr())) {
		t.Errorf("it says %q", got)
	}
}
