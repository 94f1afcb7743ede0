package web

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"coffer/backup"
	"coffer/daemon"
)

// tab is a page in a real Chromium. What the browser complains about (errors in
// the console, violations of the policy) fails the test.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	problems []string
}

// newTab starts a browser of its own; "apt-get install chromium" provides it.
func newTab(t *testing.T) *tab {
	t.Helper()
	opts := []chromedp.ExecAllocatorOption{
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1280, 900),
	}
	for _, name := range []string{"disable-quic", "disable-background-networking", "disable-component-update", "disable-sync", "disable-dev-shm-usage", "hide-scrollbars"} {
		opts = append(opts, chromedp.Flag(name, true))
	}
	base, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	alloc, cancel := chromedp.NewExecAllocator(base, opts...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(cancel)
	b := &tab{t: t, ctx: ctx}
	b.do(chromedp.Navigate("about:blank"))
	messages := chromedp.Console(ctx)
	go func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			if m.Type == chromedp.ConsoleError || m.Type == chromedp.ConsoleException || m.Type == chromedp.ConsoleWarning || m.Source == "security" {
				b.mu.Lock()
				b.problems = append(b.problems, fmt.Sprintf("%s %s (%s)", m.Type, m.Text, m.URL))
				b.mu.Unlock()
			}
		}
	}()
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, p := range b.problems {
			t.Errorf("the browser complains: %s", p)
		}
	})
	return b
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// eval runs an expression in the page.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// wait waits until an expression is true, over navigations too: what is asked
// while one goes on is an error, and asked again.
func (b *tab) wait(expression string) {
	b.t.Helper()
	var last error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(15 * time.Millisecond) {
		ok, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool]("!!("+expression+")"))
		if ok {
			return
		}
		last = err
	}
	b.t.Fatalf("waiting for %s: %v; the page says:\n%s", expression, last, eval[string](b, "document.body.innerText"))
}

// press clicks a button of a form, and waits for the page that it leads to.
func (b *tab) press(selector string) {
	b.t.Helper()
	eval[bool](b, "window.before = true")
	b.do(chromedp.Click(chromedp.CSS(selector)))
	b.wait(`!window.before && document.readyState === "complete" && innerWidth > 0`)
}

// scheme is what the system prefers: "dark" or "light".
func (b *tab) scheme(name string) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"}}})
	if err != nil {
		b.t.Fatal(err)
	}
}

// shot keeps a picture of the page when somebody wants to look at it.
func (b *tab) shot(name string) {
	b.t.Helper()
	dir := os.Getenv("COFFER_SCREENSHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// signIn opens a login link, as "coffer web" does.
func (b *tab) signIn(s *site) {
	b.t.Helper()
	b.do(chromedp.Navigate(s.NewLoginURL()))
	b.wait(`location.pathname === "/" && !!document.getElementById("headline")`)
}

// open goes to a view; paths are as in links.
func (b *tab) open(s *site, path string) {
	b.t.Helper()
	b.do(chromedp.Navigate("http://coffer.localhost:" + s.port() + path))
}

// views are all that there are, with a word that each must show.
func views(s *site) []struct{ name, path, word string } {
	id := s.repo.snaps[numSnapshots-1].ID
	return []struct{ name, path, word string }{
		{"overview", "/", "Everything is backed up"},
		{"sources", "/sources", "/home/anna/Pictures"},
		{"snapshots", "/snapshots", "Older"},
		{"folder", "/snapshots/" + id + "?path=/Letters", "to-grandma.txt"},
		{"text", "/snapshots/" + id + "?path=/Letters/to-grandma.txt", "Dear grandma"},
		{"evil", "/snapshots/" + id + "?path=" + url.QueryEscape("/Letters/"+evilName), "evil content"},
		{"long", "/snapshots/" + id + "?path=/Projects/notes.md", "beginning"},
		{"image", "/snapshots/" + id + "?path=/Photos/2026/beach.png", "Preview"},
		{"svg", "/snapshots/" + id + "?path=/Photos/2026/attack.svg", "<script>alert(1)</script>"},
		{"search", "/snapshots/" + id + "/search?path=/&q=no", "notes.md"},
		{"charts", "/charts", "Duration"},
		{"gateway", "/gateway", "anna"},
		{"activity", "/activity", "connection refused"},
		{"changes", "/snapshots/" + id + "/changes?path=/", "another type"},
		{"protection", "/protection", "8 of 10"},
		{"doctor", "/doctor", "coffer backup mail"},
		{"excludes", "/sources/documents/excludes", "See what would be left out"},
		{"restore", "/snapshots/" + id + "/restore?path=/Letters", "See what would happen"},
		{"missing", "/snapshots/ffffffffff", "no such snapshot"},
	}
}

// TestBrowserViews: every view loads in a real browser, in both colours and at
// the width of a small phone, without a complaint and without scrolling sideways.
func TestBrowserViews(t *testing.T) {
	s := newSite(t, nil)
	b := newTab(t)
	b.signIn(s)
	if got := eval[string](b, "location.href"); strings.Contains(got, "#") {
		t.Errorf("the address still has a fragment: %s", got)
	}
	if got := eval[string](b, "document.cookie"); got != "" {
		t.Errorf("scripts see the cookie: %q", got)
	}
	backs := make(map[string]bool)
	for _, v := range views(s) {
		for _, look := range []struct {
			scheme string
			width  int64
		}{{"light", 1280}, {"dark", 1280}, {"light", 360}, {"dark", 360}} {
			b.scheme(look.scheme)
			b.do(chromedp.EmulateViewport(look.width, 800))
			b.open(s, v.path)
			if text := eval[string](b, "document.body.innerText"); !strings.Contains(text, v.word) {
				t.Errorf("%s: %q is not there:\n%s", v.name, v.word, text)
			}
			if wide := eval[int64](b, "document.documentElement.scrollWidth"); wide > look.width {
				t.Errorf("%s: %d pixels wide, window %d", v.name, wide, look.width)
			}
			backs[look.scheme+eval[string](b, "getComputedStyle(document.body).backgroundColor")] = true
			if bad := eval[[]string](b, unlabelled); len(bad) > 0 {
				t.Errorf("%s: nameless for a screen reader: %q", v.name, bad)
			}
			b.shot(fmt.Sprintf("%s-%s-%d", v.name, look.scheme, look.width))
		}
	}
	if len(backs) != 2 || backs["lightrgb(14, 19, 23)"] {
		t.Errorf("backgrounds: %v", backs)
	}
	s.noEvil(t, b)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = slices.DeleteFunc(b.problems, func(p string) bool { return strings.Contains(p, "/snapshots/ffffffffff") }) // the 404 that was asked for
}

// unlabelled finds controls, pictures and charts without a name, more than one
// or no main heading, and ids that are there twice.
const unlabelled = `(() => {
  const bad = [];
  const name = (el) => (el.getAttribute("aria-label") || el.innerText || el.textContent || "").trim() || (el.labels && el.labels.length) || el.title;
  for (const el of document.querySelectorAll("a, button, summary, select, input:not([type=hidden]), progress, [role=img], [role=region]"))
    if (!name(el)) bad.push(el.outerHTML.slice(0, 120));
  for (const el of document.querySelectorAll("img:not([alt]), th:not([scope])")) bad.push(el.outerHTML.slice(0, 120));
  if (document.querySelectorAll("h1").length !== 1) bad.push(document.querySelectorAll("h1").length + " headings");
  if (document.querySelectorAll("main").length !== 1 || !document.documentElement.lang) bad.push("frame");
  const ids = [...document.querySelectorAll("[id]")].map((el) => el.id);
  if (new Set(ids).size !== ids.length) bad.push("id twice");
  return bad;
})()`

// noEvil checks that no name of a file became an element.
func (s *site) noEvil(t *testing.T, b *tab) {
	t.Helper()
	b.open(s, "/snapshots/"+s.repo.snaps[0].ID+"?path=/Letters")
	if n := eval[int](b, `document.querySelectorAll("main table img, main table script").length`); n != 0 {
		t.Errorf("%d elements came out of names", n)
	}
	if text := eval[string](b, `document.querySelector("main table").innerText`); !strings.Contains(text, evilName) || strings.Contains(text, "\u202e") {
		t.Errorf("names are shown as %q", text)
	}
}

// TestBrowserPicture: the preview of a picture really is decoded, from a URL
// that would be a download if it was opened.
func TestBrowserPicture(t *testing.T) {
	s := newSite(t, nil)
	b := newTab(t)
	b.signIn(s)
	b.open(s, "/snapshots/"+s.repo.snaps[0].ID+"?path=/Photos/2026/beach.png")
	b.wait(`document.querySelector(".picture img").complete`)
	if w := eval[int](b, `document.querySelector(".picture img").naturalWidth`); w != 480 {
		t.Errorf("width %d, want 480", w)
	}
}

// TestBrowserKeyboard: with the tab key alone one reaches everything, and sees
// where one is.
func TestBrowserKeyboard(t *testing.T) {
	s := newSite(t, nil)
	b := newTab(t)
	b.signIn(s)
	var path []string
	for range 16 {
		b.do(chromedp.KeyEvent(kb.Tab))
		focus := eval[struct{ Name, Outline, Width string }](b, `(() => { const el = document.activeElement, c = getComputedStyle(el);
			return {Name: (el.innerText || el.id).trim(), Outline: c.outlineStyle, Width: c.outlineWidth}; })()`)
		if focus.Outline == "none" || focus.Width == "0px" {
			t.Errorf("the focus on %q is not seen", focus.Name)
		}
		path = append(path, focus.Name)
	}
	if path[0] != "Skip to content" || !slices.Contains(path, "Overview") || !slices.Contains(path, "Activity") || !slices.Contains(path, "Back up now") {
		t.Errorf("the tab key leads through %q", path)
	}
	b.open(s, "/")
	b.do(chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter))
	if got := eval[string](b, "document.activeElement.id"); got != "main" {
		t.Errorf("the skip link leads to %q", got)
	}
}

// TestBrowserLive: an open page follows the daemon without being loaded again.
func TestBrowserLive(t *testing.T) {
	s := newSite(t, nil)
	b := newTab(t)
	b.signIn(s)
	b.wait(`document.querySelector("[data-target=cloud] [data-field=state]").textContent.includes("connection refused")`)
	eval[bool](b, "window.same = true")
	const card = `document.querySelector("[data-source=documents]")`
	s.daemon.change(func(st *daemon.Status) {
		st.Sources[0].State = "running"
		st.Sources[0].Progress = &backup.Progress{Started: time.Now().Add(-40 * time.Second), Files: 31200, Bytes: 11 << 30, AllFiles: 84112, AllBytes: 31 << 30, Counted: true, Current: "/home/anna/Documents/" + evilName}
		st.Sources[2].State, st.Sources[2].Failures, st.Sources[2].LastError = "retrying", 2, "the bucket does not answer: connection refused"
	}, daemon.Event{Kind: daemon.Progress, Source: "documents"})
	b.wait(card + `.querySelector("progress").value === ` + fmt.Sprint(int64(11)<<30))
	b.wait(`document.getElementById("headline").textContent.includes("failed: mail")`)
	if got := eval[string](b, card+".innerText"); !strings.Contains(got, "12 GB of 33 GB") || !strings.Contains(got, evilName) || !strings.Contains(got, "left") {
		t.Errorf("the card says %q", got)
	}
	b.shot("running-light-1280")
	b.scheme("dark")
	b.do(chromedp.EmulateViewport(360, 800))
	b.shot("running-dark-360")
	s.daemon.change(func(st *daemon.Status) {
		st.Sources[0].State, st.Sources[0].Progress = "idle", nil
		st.Locked = true
	}, daemon.Event{Kind: daemon.LockedNow})
	b.wait(card + `.querySelector("progress").closest(".run").hidden && document.getElementById("headline").textContent.startsWith("Locked")`)
	if !eval[bool](b, "window.same === true") {
		t.Error("the page was loaded again")
	}
	b.shot("locked-dark-360")
	b.open(s, "/activity")
	b.wait(`document.getElementById("lost").hidden`)
	n := eval[int](b, `document.querySelectorAll("#log > li").length`)
	s.waitStream(t)
	s.daemon.publish(daemon.Event{Kind: daemon.Saved, Source: "photos", Took: 3 * time.Second})
	b.wait(fmt.Sprintf(`document.querySelectorAll("#log > li").length === %d && document.querySelector("#log > li").innerText.includes("Saved in 3.0 s")`, n+1))
}

// waitStream waits until a page listens.
func (s *site) waitStream(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		s.daemon.mu.Lock()
		n := len(s.daemon.subs)
		s.daemon.mu.Unlock()
		if n > 0 {
			return
		}
	}
	t.Fatal("no page listens")
}

// TestBrowserActions: the buttons reach the daemon through every protection.
func TestBrowserActions(t *testing.T) {
	s := newSite(t, nil)
	b := newTab(t)
	b.signIn(s)
	b.press(`.hero button.primary`)
	b.do(chromedp.SetValue(chromedp.CSS("#for"), "4h"))
	b.press(`form[action="/pause"] button`)
	b.wait(`document.getElementById("headline").textContent.startsWith("Paused")`)
	b.shot("paused-light-1280")
	b.press(`form[action="/resume"] button`)
	b.wait(`document.getElementById("headline").textContent.startsWith("Everything")`)
	b.open(s, "/sources")
	b.press(`button[aria-label="Back up photos now"]`)
	b.wait(`location.pathname === "/sources"`)
	b.press(`form[action="/logout"] button`)
	b.wait(`location.pathname === "/login" && document.querySelector("[data-login]")`)
	b.shot("login-light-1280")
	s.daemon.mu.Lock()
	defer s.daemon.mu.Unlock()
	if got := fmt.Sprint(s.daemon.asked, s.daemon.pauses, s.daemon.resumed); got != "[[] [photos]] [4h0m0s] 1" {
		t.Errorf("the daemon was asked %s", got)
	}
}

// TestBrowserDownload: a file and a folder arrive whole, under their names.
func TestBrowserDownload(t *testing.T) {
	s := newSite(t, nil)
	b := newTab(t)
	dir := t.TempDir()
	_, err := chromedp.CallBrowser(b.ctx, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{Behavior: browser.SetDownloadBehaviorBehaviorAllow, DownloadPath: dir})
	if err != nil {
		t.Fatal(err)
	}
	b.signIn(s)
	b.open(s, "/snapshots/"+s.repo.snaps[0].ID+"?path=/Letters/to-grandma.txt")
	b.do(chromedp.Click(chromedp.CSS("a[download]")))
	if got := arrived(t, filepath.Join(dir, "to-grandma.txt")); string(got) != string(s.repo.content["/Letters/to-grandma.txt"]) {
		t.Errorf("got %q", got)
	}
	b.open(s, "/snapshots/"+s.repo.snaps[0].ID+"?path=/Photos")
	b.do(chromedp.Click(chromedp.CSS(`a[href*="as=zip"]`)))
	name := "Photos-" + s.repo.snaps[0].Time.Local().Format("2006-01-02-1504") + ".zip"
	if got := arrived(t, filepath.Join(dir, name)); len(got) < 100 || string(got[:2]) != "PK" {
		t.Errorf("the zip has %d bytes", len(got))
	}
}

func arrived(t *testing.T, file string) []byte {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if b, err := os.ReadFile(file); err == nil {
			return b
		}
	}
	left, _ := os.ReadDir(filepath.Dir(file))
	t.Fatalf("%s did not arrive; there is %v", file, left)
	return nil
}

// TestBrowserAttacks: another site that the user has open can neither read,
// embed, nor steer the page, though the browser is signed in to it. A site on
// another port of the same name is the hardest: it is sent the cookie.
func TestBrowserAttacks(t *testing.T) {
	s := newSite(t, nil)
	b := newTab(t)
	b.signIn(s)
	page := "http://coffer.localhost:" + s.port()
	attacker := newAttacker(t, page, s.repo.snaps[0].ID)
	for _, host := range []string{"coffer.localhost", "127.0.0.1"} {
		b.do(chromedp.Navigate("http://" + host + ":" + attacker))
		b.wait("window.done === 5")
		if got := eval[[]string](b, "window.got"); len(got) != 0 {
			t.Errorf("from %s: %q", host, got)
		}
		b.do(chromedp.Click(chromedp.CSS("#backup")))
		b.wait(`document.body.innerText.includes("another site")`)
	}
	s.daemon.mu.Lock()
	if len(s.daemon.asked) != 0 {
		t.Errorf("a foreign site began a backup: %v", s.daemon.asked)
	}
	s.daemon.mu.Unlock()
	b.do(chromedp.Navigate("http://rebound.localhost:" + s.port())) // a name that leads here, as after DNS rebinding
	if got := eval[string](b, "document.body.innerText"); !strings.Contains(got, "this machine only") {
		t.Errorf("another host name shows %q", got)
	}
	b.mu.Lock()
	b.problems = nil // the browser names each request that was refused
	b.mu.Unlock()
}

// newAttacker serves a hostile page and returns its port. Each attempt counts
// one in "done", and says in "got" what it got hold of.
func newAttacker(t *testing.T, page, id string) (port string) {
	t.Helper()
	html := `<!doctype html><title>attack</title><form method="post" action="` + page + `/backup"><button id="backup">x</button></form>
<script>
window.done = 0; window.got = [];
const end = (name) => { if (name) window.got.push(name); window.done++; };
fetch("` + page + `/", {credentials: "include"}).then(() => end("read"), () => end());
fetch("` + page + `/backup", {method: "POST", mode: "no-cors", credentials: "include"}).then((r) => end(r.type === "opaque" ? "" : "posted"), () => end());
const img = new Image(); img.onload = () => end("image"); img.onerror = () => end(); img.src = "` + page + `/snapshots/` + id + `/image?path=/Photos/2026/beach.png";
const script = document.createElement("script"); script.onload = () => end("script"); script.onerror = () => end(); script.src = "` + page + `/events"; document.head.append(script);
const frame = document.createElement("iframe"); frame.onload = () => { let seen = ""; try { seen = frame.contentDocument && frame.contentDocument.body.innerText; } catch {} end(seen); }; frame.src = "` + page + `/"; document.documentElement.append(frame);
</script>`
	other := newServer(t, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		fmt.Fprint(rw, html)
	}))
	return other[strings.LastIndexByte(other, ':')+1:]
}
