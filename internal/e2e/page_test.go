package e2e

import (
	"context"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"
)

// visit walks over the local page with a link of "coffer web": what the vault, the
// gateway and the doctor say is there, a passkey with the given secret is made, what
// a pattern would leave out is looked at, and a snapshot is restored to a folder.
func visit(t *testing.T, link, bucket string, passkey []byte, snapshot, to string) {
	t.Helper()
	u, err := url.Parse(strings.TrimSpace(link))
	if err != nil {
		t.Fatal(err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &http.Client{Jar: jar, Timeout: time.Minute, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) { // not every resolver knows coffer.localhost
			return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:"+u.Port())
		},
	}}
	defer c.CloseIdleConnections()
	ask := func(path string, form url.Values, words ...string) {
		t.Helper()
		method, body := http.MethodGet, io.Reader(nil)
		if form != nil {
			method, body = http.MethodPost, strings.NewReader(form.Encode())
		}
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+u.Host+path, body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		page, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode >= 400 {
			t.Errorf("%s: %s, %v\n%s", path, resp.Status, err, page)
		}
		for _, w := range words {
			if !strings.Contains(string(page), w) {
				t.Errorf("%s: %q is not there:\n%s", path, w, page)
			}
		}
	}
	salt := base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	ask("/login", url.Values{"token": {u.Fragment}}, "Sources")
	ask("/passkeys", url.Values{"name": {"blue key"}, "credential": {"AAEC"}, "salt": {salt}, "secret": {base64.RawURLEncoding.EncodeToString(passkey)}})
	ask("/protection", nil, "3 of 3 nodes answer", "10 of 10", "SoftHSM", "blue key", "64 digits")
	ask("/gateway", nil, bucket)
	ask("/sources/files/excludes", url.Values{"patterns": {bucket + "-dir/"}}, "1 file, ", bucket)
	ask("/snapshots/"+snapshot+"/restore?path=/", url.Values{"to": {to}, "do": {"restore"}}, "Restored 1 file")
	ask("/doctor", url.Values{}, "coffer.toml has no mistake", "Look again")
}
