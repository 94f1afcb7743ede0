package web

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"coffer/backup"
	"coffer/backup/scan"
	"coffer/daemon"
)

// fakeDaemon is a daemon whose state the test sets.
type fakeDaemon struct {
	mu      sync.Mutex
	status  daemon.Status
	kept    []daemon.Event
	subs    map[chan daemon.Event]bool
	asked   [][]string
	pauses  []time.Duration
	resumed int
}

func (d *fakeDaemon) Status() daemon.Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	st := d.status
	st.Sources = slices.Clone(st.Sources)
	st.Seq = uint64(len(d.kept))
	return st
}

func (d *fakeDaemon) Subscribe(after uint64) (<-chan daemon.Event, func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	ch := make(chan daemon.Event, 512)
	for _, e := range d.kept {
		if e.Seq > after {
			ch <- e
		}
	}
	d.subs[ch] = true
	return ch, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.subs, ch)
	}
}

func (d *fakeDaemon) publish(e daemon.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	if e.Kind != daemon.Progress {
		e.Seq = uint64(len(d.kept)) + 1
		d.kept = append(d.kept, e)
	}
	for ch := range d.subs {
		ch <- e
	}
}

// change changes the state and tells it.
func (d *fakeDaemon) change(fn func(*daemon.Status), e daemon.Event) {
	d.mu.Lock()
	d.status.Sources = slices.Clone(d.status.Sources)
	fn(&d.status)
	d.mu.Unlock()
	d.publish(e)
}

func (d *fakeDaemon) Backup(ctx context.Context, names []string, _ func(daemon.Event)) ([]daemon.Event, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range names {
		if !slices.ContainsFunc(d.status.Sources, func(s daemon.SourceStatus) bool { return s.Name == n }) {
			return nil, fmt.Errorf("%w: %q", daemon.ErrUnknownSource, n)
		}
	}
	if d.status.Locked {
		return nil, daemon.ErrLocked
	}
	d.asked = append(d.asked, names)
	return nil, context.DeadlineExceeded
}

func (d *fakeDaemon) Pause(length time.Duration) {
	d.change(func(s *daemon.Status) { s.Paused = true }, daemon.Event{Kind: daemon.Paused})
	d.mu.Lock()
	d.pauses = append(d.pauses, length)
	d.mu.Unlock()
}

func (d *fakeDaemon) Resume() {
	d.change(func(s *daemon.Status) { s.Paused = false }, daemon.Event{Kind: daemon.Resumed})
	d.mu.Lock()
	d.resumed++
	d.mu.Unlock()
}

func (d *fakeDaemon) Lock() {
	d.change(func(s *daemon.Status) { s.Locked = true }, daemon.Event{Kind: daemon.LockedNow})
}

// fakeRepo holds the same tree in every snapshot: path to entry and content.
type fakeRepo struct {
	snaps   []*backup.Snapshot
	tree    map[string]backup.Entry
	content map[string][]byte
	broken  string // a path whose content breaks off
	changes int    // more of them
}

func (r *fakeRepo) put(path string, e backup.Entry, content []byte) {
	e.Name = path[strings.LastIndexByte(path, '/')+1:]
	e.Size = int64(len(content))
	if e.Mode == 0 {
		e.Mode = 0o644
	}
	if e.ModTime.IsZero() {
		e.ModTime = time.Now().Add(-72 * time.Hour)
	}
	r.tree[path], r.content[path] = e, content
}

func (r *fakeRepo) Snapshots(context.Context) ([]*backup.Snapshot, error) { return r.snaps, nil }

func (r *fakeRepo) Stat(_ context.Context, _ *backup.Snapshot, name string) (backup.Entry, error) {
	if e, ok := r.tree[name]; ok {
		return e, nil
	}
	return backup.Entry{}, fmt.Errorf("%q: %w", name, backup.ErrNotExist)
}

func (r *fakeRepo) children(dir string) (all []string) {
	for p := range r.tree {
		if p != "/" && p[:max(strings.LastIndexByte(p, '/'), 1)] == dir {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Compare(a, b) })
	return all
}

func (r *fakeRepo) List(_ context.Context, _ *backup.Snapshot, name string, fn func(backup.Entry) error) error {
	for _, p := range r.children(name) {
		if err := fn(r.tree[p]); err != nil {
			return err
		}
	}
	return nil
}

func (r *fakeRepo) Walk(ctx context.Context, s *backup.Snapshot, name string, fn func(string, backup.Entry) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := fn(name, r.tree[name]); err != nil {
		if errors.Is(err, fs.SkipDir) {
			return nil
		}
		return err
	}
	for _, p := range r.children(name) {
		if err := r.Walk(ctx, s, p, fn); err != nil {
			return err
		}
	}
	return nil
}

func (r *fakeRepo) ReadFile(_ context.Context, _ *backup.Snapshot, name string, off, n int64) (io.ReadCloser, error) {
	b, ok := r.content[name]
	if !ok {
		return nil, backup.ErrNotExist
	}
	b = b[min(off, int64(len(b))):]
	if n >= 0 {
		b = b[:min(n, int64(len(b)))]
	}
	if name == r.broken && n < 0 {
		return io.NopCloser(io.MultiReader(bytes.NewReader(b[:len(b)/2]), errReader{})), nil
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

// Restore only says what it would do; real ones are in restore_test.go.
func (r *fakeRepo) Restore(context.Context, backup.RestoreOptions) (backup.Report, error) {
	return backup.Report{Statistics: backup.Statistics{Files: 1204, Bytes: 3 << 30, Unchanged: 12}, Replaced: []string{"/home/anna/" + evilName}}, nil
}

func (r *fakeRepo) RestoreNew(ctx context.Context, o backup.RestoreOptions) (backup.Report, error) {
	return backup.Report{}, &backup.ReplacesError{To: o.To, Files: []string{"/home/anna/" + evilName}}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) {
	return 0, fmt.Errorf("%q: %w", "/secret-name.txt", backup.ErrCorrupt)
}

// Names that try to become part of the page, of a header or of a path.
const (
	evilName   = `<img src=x onerror=alert(1)>"'&.txt`
	bidiName   = "invoice\u202Efdp.exe"
	brokenName = "caf\xe9\n.txt"
)

const numSnapshots = 75

func newRepo() *fakeRepo {
	r := &fakeRepo{tree: make(map[string]backup.Entry), content: make(map[string][]byte)}
	dir := backup.Entry{Type: "dir", Mode: 0o755}
	file := backup.Entry{Type: "file", UID: 1000, GID: 1000}
	for _, p := range []string{"/", "/Letters", "/Photos", "/Photos/2026", "/Projects", "/empty"} {
		r.put(p, dir, nil)
	}
	r.put("/Letters/"+evilName, file, []byte("evil content"))
	r.put("/Letters/"+bidiName, file, []byte("MZ\x00\x01"))
	r.put("/Letters/"+brokenName, file, []byte("not utf-8 name"))
	r.put("/Letters/to-grandma.txt", file, []byte("Dear grandma,\n\nthe <b>garden</b> is fine.\n\tAnna\n"))
	r.put("/Photos/2026/beach.png", file, picture())
	r.put("/Photos/2026/attack.svg", file, []byte(`<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`))
	r.put("/Photos/2026/page.html", file, []byte("<!doctype html><script>alert(1)</script>"))
	r.put("/Projects/thesis.pdf", file, []byte("%PDF-1.7\x00\x01\x02"))
	r.put("/Projects/notes.md", file, []byte(strings.Repeat("# Notes\n\nWhat was said, and by whom.\n", 4000)))
	r.put("/Projects/latest", backup.Entry{Type: "symlink", Target: "notes.md"}, nil)
	r.put("/Projects/locked.db", backup.Entry{Type: "file", Missing: true}, nil)
	for i := range numSnapshots {
		id := fmt.Sprintf("%032x", 0x5eed0000+i*7919<<36+i)
		source := []string{"documents", "photos", "documents"}[i%3]
		begin := time.Now().Add(-time.Duration(numSnapshots-i) * 7 * time.Hour)
		s := &backup.Snapshot{ID: fmt.Sprintf("%08x", uint32(i)*2654435761) + id[8:], Time: begin, End: begin.Add(time.Duration(20+i*13%90) * time.Second),
			Host: "laptop", Source: source, Paths: []string{"/home/anna"}, Partial: i == 70}
		s.Stats.Files, s.Stats.Bytes, s.Stats.Added = int64(84000+i*37), 31<<30+int64(i)*90<<20, int64(i*i%97)*3<<20
		if i%20 == 0 {
			s.Tags = []string{"work"}
		}
		r.snaps = append(r.snaps, s)
	}
	return r
}

func picture() []byte {
	img := image.NewRGBA(image.Rect(0, 0, 480, 270))
	for y := range 270 {
		for x := range 480 {
			c := color.RGBA{uint8(120 + y/3), uint8(190 + y/8), 240, 255}
			if y > 150 {
				c = color.RGBA{uint8(20 + x/20), uint8(120 + x/8), 150, 255}
			}
			if y > 210 {
				c = color.RGBA{236, uint8(205 + x/24), 150, 255}
			}
			img.Set(x, y, c)
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func newDaemon() *fakeDaemon {
	now := time.Now()
	d := &fakeDaemon{subs: make(map[chan daemon.Event]bool)}
	watching := daemon.WatchStatus{Mode: "watching", Directories: 6204}
	d.status = daemon.Status{Version: "0.1.0", Host: "laptop", Started: now.Add(-50 * time.Hour), Sources: []daemon.SourceStatus{
		{Name: "documents", Path: "/home/anna/Documents", State: "idle", LastSaved: now.Add(-2 * time.Minute), LastAttempt: now.Add(-3 * time.Minute), Next: now.Add(58 * time.Minute), Reason: "scan", Watch: watching, Snapshot: "0123456789abcdef"},
		{Name: "photos", Path: "/home/anna/Pictures", State: "idle", LastSaved: now.Add(-41 * time.Minute), LastAttempt: now.Add(-42 * time.Minute), Next: now.Add(20 * time.Minute), Reason: "scan", Watch: watching},
		{Name: "mail", Path: "/home/anna/.local/share/mail", State: "waiting", LastSaved: now.Add(-3 * time.Hour), PendingSince: now.Add(-20 * time.Second), Next: now.Add(4 * time.Second), Reason: "change", Watch: watching},
	}}
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	d.status.Problems = []daemon.Problem{{ID: "overdue:mail", Kind: "overdue", Source: "mail", Since: now.Add(-3 * time.Hour), Text: "source mail has not been backed up for 3 hours", Hint: "coffer backup mail"}}
	d.status.Tasks = []daemon.TaskStatus{
		{Name: "check", State: "idle", LastRun: now.Add(-20 * time.Hour), LastOK: now.Add(-20 * time.Hour), Next: now.Add(4 * time.Hour), Result: "2 % of the data read, all of it right"},
		{Name: "drill", State: "failed", LastRun: now.Add(-2 * time.Hour), Next: now.Add(time.Hour), Error: "the storage does not answer", Failures: 1},
	}
	for _, e := range []daemon.Event{
		{Time: ago(49 * time.Hour), Kind: daemon.Unlocked},
		{Time: ago(5 * time.Hour), Kind: daemon.Started, Source: "mail"},
		{Time: ago(4 * time.Hour), Kind: daemon.Failed, Source: "mail", Error: "the bucket does not answer: connection refused", Until: ago(3 * time.Hour)},
		{Time: ago(3 * time.Hour), Kind: daemon.Saved, Source: "mail", Took: 95 * time.Second, Report: &backup.Report{Failed: []backup.FileError{{Path: "/home/anna/.local/share/mail/" + evilName, Err: "permission denied"}}}},
		{Time: ago(42 * time.Minute), Kind: daemon.Started, Source: "photos"},
		{Time: ago(41 * time.Minute), Kind: daemon.Saved, Source: "photos", Took: 12 * time.Second, Report: &backup.Report{}},
	} {
		d.publish(e)
		d.kept[len(d.kept)-1].Time = e.Time
	}
	return d
}

// site is a page that is served, as a client sees it.
type site struct {
	*Web
	daemon *fakeDaemon
	repo   *fakeRepo
	open   error // what Open says
	real   Repo  // what it gives; nil: repo
	to     string

	patterns []string // of documents
	keys     *fakePasskeys
	mu       sync.Mutex
	server   *httptest.Server
	addr     string
}

func newSite(t *testing.T, log *zap.Logger) *site {
	t.Helper()
	s := &site{daemon: newDaemon(), repo: newRepo(), to: "/home/anna/restored"}
	s.keys = &fakePasskeys{daemon: s.daemon, secrets: make(map[string][32]byte)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	s.Web, err = New(Config{
		Daemon: s.daemon, Addr: s.addr, Log: log,
		Open: func(context.Context) (Repo, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.real != nil {
				return s.real, s.open
			}
			return s.repo, s.open
		},
		Targets: []Target{
			{Name: "home", Kind: "folder", Address: "/mnt/backup/coffer", Check: func(context.Context) error { return nil }},
			{Name: "cloud", Kind: "s3", Address: "https://s3.example.org/backups-anna/laptop", Check: func(context.Context) error { return errors.New("connection refused") }},
		},
		Methods: []Method{{Kind: "password", Since: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Fleet: "home-vault"}, {Kind: "digits", Since: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}},
		Gateway: Gateway{URL: "http://127.0.0.1:9421", Region: "us-east-1", Names: "sealed", ETag: "md5", Keys: []GatewayKey{{ID: "anna", Buckets: []string{"photos", "notes"}, Rights: "write"}, {ID: "tv", Rights: "read"}}, Buckets: someBuckets},
		Folders: s, Excludes: fakeExcludes{s}, Vault: someVault, Passkeys: s.keys, Doctor: someFindings,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.server = httptest.NewUnstartedServer(s.Web)
	s.server.Listener.Close()
	s.server.Listener = l
	s.server.Config.ErrorLog = zap.NewStdLog(zap.NewNop())
	s.server.Start()
	t.Cleanup(func() { s.Stop(); s.server.Close() })
	return s
}

// Suggest is that of [Folders].
func (s *site) Suggest(*backup.Snapshot) (dir, note string) { return s.to, "It is a new one." }

// Check is that of [Folders].
func (s *site) Check(dir string) error {
	if !strings.HasPrefix(dir, s.to) {
		return &daemon.Trouble{Err: errors.New("the daemon may not write to " + dir), Hint: "Choose another one"}
	}
	return nil
}

// fakeExcludes keeps the patterns of "documents" on the site.
type fakeExcludes struct{ *site }

func (e fakeExcludes) Patterns(source string) ([]string, error) {
	if source != "documents" {
		return nil, daemon.ErrUnknownSource
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.patterns, nil
}

func (e fakeExcludes) Look(_ context.Context, _ string, patterns []string) (backup.LeftOut, error) {
	l := backup.LeftOut{Files: int64(len(patterns)), Bytes: 7e9, Places: 30, Saved: 1200, Size: 3e9}
	for _, p := range patterns {
		l.Biggest = append(l.Biggest, scan.Place{Path: "/home/anna/Documents/" + p + evilName, Dir: strings.HasSuffix(p, "/"), Files: 1, Bytes: 5e9})
	}
	return l, nil
}

func (e fakeExcludes) Save(_ string, patterns []string) error {
	if slices.Contains(patterns, "forbidden") {
		return &daemon.Trouble{Err: errors.New("the daemon may not write its configuration"), Hint: "In a terminal: coffer source excludes documents"}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.patterns = patterns
	return nil
}

// port is where the site is.
func (s *site) port() string { return s.addr[strings.LastIndexByte(s.addr, ':')+1:] }

// request is one by a client that follows no redirect.
func (s *site) request(t *testing.T, method, path string, edit func(*http.Request)) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(r)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// form gives a request a body of a form.
func form(text string) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Body = io.NopCloser(strings.NewReader(text))
		r.ContentLength = int64(len(text))
	}
}

// login signs in and returns the cookie.
func (s *site) login(t *testing.T) *http.Cookie {
	t.Helper()
	_, token, ok := strings.Cut(s.NewLoginURL(), "#")
	if !ok {
		t.Fatal("no fragment")
	}
	resp := s.request(t, "POST", "/login", form("token="+token))
	if resp.StatusCode != http.StatusSeeOther || len(resp.Cookies()) != 1 {
		t.Fatalf("login: %s, cookies %v", resp.Status, resp.Cookies())
	}
	return resp.Cookies()[0]
}

// get asks for a page as somebody who is signed in.
func (s *site) get(t *testing.T, cookie *http.Cookie, path string) (*http.Response, string) {
	t.Helper()
	resp := s.request(t, "GET", path, func(r *http.Request) { r.AddCookie(cookie) })
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

// newServer serves h on a loopback port and returns its address.
func newServer(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}
