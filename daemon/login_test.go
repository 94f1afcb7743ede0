package daemon

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestLoginLink: the control socket hands out links to the page, and says when
// there is none.
func TestLoginLink(t *testing.T) {
	ask := func(c Config) *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		(&Daemon{c: c}).controlLogin(rec, httptest.NewRequest("POST", "/v1/login", nil))
		return rec
	}
	if rec := ask(Config{Login: func() (string, error) { return "http://x/login#t", nil }}); rec.Code != http.StatusOK || strings.TrimSpace(rec.Body.String()) != `{"url":"http://x/login#t"}` {
		t.Errorf("got %d %s", rec.Code, rec.Body)
	}
	for name, c := range map[string]Config{"none": {}, "off": {Login: func() (string, error) { return "", ErrNoPage }}} {
		if rec := ask(c); rec.Code != http.StatusNotFound || !strings.Contains(rec.Body.String(), `"no-page"`) {
			t.Errorf("%s: got %d %s", name, rec.Code, rec.Body)
		}
	}
	if rec := ask(Config{Login: func() (string, error) { return "", errors.New("broken") }}); rec.Code != http.StatusInternalServerError {
		t.Errorf("got %d %s", rec.Code, rec.Body)
	}
}
