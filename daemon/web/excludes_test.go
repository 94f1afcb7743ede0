package web

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestBrowserExcludes: patterns are looked at before they are saved, and stay in
// the form in the meantime.
func TestBrowserExcludes(t *testing.T) {
	s := newSite(t, nil)
	b := newTab(t)
	b.signIn(s)
	b.open(s, "/sources")
	b.press(`a[href="/sources/documents/excludes"]`)
	b.do(chromedp.SetValue(chromedp.CSS("#patterns"), "node_modules/\n\n*.iso\n"))
	b.press(`button[value=look]`)
	if text := eval[string](b, "document.querySelector('main').innerText"); !strings.Contains(text, "Left out would be 2 files, 7.0 GB") ||
		!strings.Contains(text, "Saved would be 1,200 files, 3.0 GB") || !strings.Contains(text, "node_modules/"+evilName) || !strings.Contains(text, "and 28 more") {
		t.Errorf("the look says\n%s", text)
	}
	b.shot("excludes-look-light-1280")
	if s.patterns != nil {
		t.Errorf("the look has saved %q", s.patterns)
	}
	b.press(`button[value=save]`)
	b.wait(`document.querySelector(".notice.ok")`)
	if got := eval[string](b, `document.getElementById("patterns").value`); got != "node_modules/\n*.iso" || !slices.Equal(s.patterns, []string{"node_modules/", "*.iso"}) {
		t.Errorf("saved is %q, shown %q", s.patterns, got)
	}
}

func TestExcludesForms(t *testing.T) {
	s := newSite(t, nil)
	cookie := s.login(t)
	for _, c := range []struct {
		path, body string
		status     int
	}{
		{"/sources/nobody/excludes", "patterns=a&do=save", http.StatusNotFound},
		{"/sources/documents/excludes", "do=save&patterns=" + strings.Repeat("x", maxPatterns+1), http.StatusRequestEntityTooLarge},
		{"/sources/documents/excludes", "do=save&patterns=forbidden", http.StatusUnprocessableEntity},
		{"/sources/documents/excludes", "do=save&patterns=" + url.QueryEscape("a\r\n  \r\nb "), http.StatusSeeOther},
	} {
		resp := s.request(t, "POST", c.path, func(r *http.Request) { form(c.body)(r); r.AddCookie(cookie) })
		if resp.StatusCode != c.status {
			t.Errorf("%.60s: %s, want %d", c.body, resp.Status, c.status)
		}
	}
	if !slices.Equal(s.patterns, []string{"a", "b "}) {
		t.Errorf("saved is %q", s.patterns)
	}
	if resp, _ := s.get(t, cookie, "/sources/nobody/excludes"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("an unknown source: %s", resp.Status)
	}
}
