package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// watched is a source with a watcher that runs, without the backups.
type watched struct {
	*source
	w    *watcher
	root string
}

func watch(t *testing.T, root string, change func(*Source)) watched {
	t.Helper()
	c := testSource("docs", root)
	c.ScanOnly = false
	if change != nil {
		change(&c)
	}
	d, err := New(Config{StateDir: t.TempDir(), Key: &fakeKey{}, Sources: []Source{c},
		Open: func(context.Context) (Repo, error) { return nil, errors.New("not here") }})
	if err != nil {
		t.Fatal(err)
	}
	s := newSource(d, c)
	w := newWatcher(s)
	w.sync()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); w.run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	return watched{s, w, root}
}

// seen says whether something was noted since the last call. It waits for it
// when it must come; what must not come it waits for a moment.
func (w watched) seen(t *testing.T, must bool) bool {
	t.Helper()
	limit := 5 * time.Second
	if !must {
		limit = 50 * time.Millisecond
	}
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(time.Millisecond) {
		w.mu.Lock()
		noted := !w.first.IsZero()
		w.mu.Unlock()
		if noted {
			if must {
				w.settle()
			}
			return true
		}
	}
	return false
}

// settle waits until no event has come for a moment, and forgets what was noted.
func (w watched) settle() {
	for {
		w.mu.Lock()
		quiet := time.Since(w.last) > 30*time.Millisecond
		if quiet {
			w.first = time.Time{}
		}
		w.mu.Unlock()
		if quiet {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (w watched) want(t *testing.T, what string) {
	t.Helper()
	if !w.seen(t, true) {
		t.Errorf("%s: not seen", what)
	}
}

func (w watched) wantNot(t *testing.T, what string) {
	t.Helper()
	if w.seen(t, false) {
		t.Errorf("%s: seen", what)
		w.settle()
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// wantDirectories waits until so many are watched.
func (w watched) wantDirectories(t *testing.T, want int) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		w.mu.Lock()
		got := w.watch.Directories
		w.mu.Unlock()
		if got == want {
			return
		}
		if time.Now().After(end) {
			t.Errorf("%d directories watched, want %d", got, want)
			return
		}
	}
}

// TestWatch: each kind of change below the source is noted.
func TestWatch(t *testing.T) {
	root := t.TempDir()
	mkdir(t, filepath.Join(root, "a/b/c"))
	w := watch(t, root, nil)
	w.wantDirectories(t, 4)
	file := filepath.Join(root, "a/b/c/file")
	write(t, file, "1")
	w.want(t, "new file")
	write(t, file, "2")
	w.want(t, "write")
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	w.want(t, "mode")
	if err := syscall.Setxattr(file, "user.coffer", []byte("x"), 0); err == nil { // not every file system has them
		w.want(t, "attribute")
	}
	rename(t, file, file+"2")
	w.want(t, "rename")
	if err := os.Remove(file + "2"); err != nil {
		t.Fatal(err)
	}
	w.want(t, "removal")
	if err := os.Symlink("/nowhere", file); err != nil {
		t.Fatal(err)
	}
	w.want(t, "symlink")
	if _, err := os.ReadDir(root); err != nil {
		t.Fatal(err)
	}
	w.wantNot(t, "reading")
}

// TestWatchMoved: a directory that is moved within the source is watched under
// its new name, also for what is made in it; one that is moved out is not.
func TestWatchMoved(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	mkdir(t, filepath.Join(root, "a/sub/deep"))
	mkdir(t, filepath.Join(outside, "in/sub"))
	w := watch(t, root, nil)
	for i := range 20 {
		from, to := fmt.Sprint(root, "/a"), fmt.Sprint(root, "/b")
		if i%2 == 1 {
			from, to = to, from
		}
		rename(t, from, to)
		w.want(t, "move")
		mkdir(t, filepath.Join(to, "sub/deep", fmt.Sprint("new", i)))
		w.want(t, "directory in the moved one")
		write(t, filepath.Join(to, "sub/deep", fmt.Sprint("new", i), "file"), "1")
		w.want(t, "file in the new directory of the moved one")
	}
	rename(t, filepath.Join(root, "a"), filepath.Join(outside, "a"))
	w.want(t, "move out")
	write(t, filepath.Join(outside, "a/sub/file"), "1")
	w.wantNot(t, "write outside")
	rename(t, filepath.Join(outside, "in"), filepath.Join(root, "in"))
	w.want(t, "move in")
	write(t, filepath.Join(root, "in/sub/file"), "1")
	w.want(t, "write in what was moved in")
	w.wantDirectories(t, 3)
}

// TestWatchTree: of a tree that is made at once, no later write is missed.
func TestWatchTree(t *testing.T) {
	root := t.TempDir()
	w := watch(t, root, nil)
	var leaves []string
	for i := range 30 {
		leaf := filepath.Join(root, fmt.Sprint("t", i%3), fmt.Sprint(i), "x/y/z")
		mkdir(t, leaf)
		write(t, filepath.Join(leaf, "f"), "1")
		leaves = append(leaves, leaf)
	}
	w.want(t, "tree")
	w.wantDirectories(t, 1+3+30*4)
	for _, leaf := range leaves {
		write(t, filepath.Join(leaf, "f"), "2")
		w.want(t, leaf)
	}
	if err := os.RemoveAll(filepath.Join(root, "t0")); err != nil {
		t.Fatal(err)
	}
	w.want(t, "removed tree")
	w.wantDirectories(t, 1+2+20*4)
}

// TestWatchIgnored: excluded trees cost no watch and cause no backup.
func TestWatchIgnored(t *testing.T) {
	root := t.TempDir()
	mkdir(t, filepath.Join(root, "src/node_modules/x/y"))
	mkdir(t, filepath.Join(root, "cache/deep"))
	w := watch(t, root, func(s *Source) { s.Exclude = []string{"node_modules/", "/cache", "*.tmp"} })
	w.wantDirectories(t, 2)
	write(t, filepath.Join(root, "src/node_modules/x/f"), "1")
	write(t, filepath.Join(root, "cache/f"), "1")
	write(t, filepath.Join(root, "src/f.tmp"), "1")
	mkdir(t, filepath.Join(root, "src/lib"))
	w.want(t, "new directory")
	mkdir(t, filepath.Join(root, "node_modules/z"))
	w.wantNot(t, "excluded")
	write(t, filepath.Join(root, "src/lib/f"), "1")
	w.want(t, "not excluded")
}

// TestWatchFile: a source that is a file is seen when editors replace it.
func TestWatchFile(t *testing.T) {
	root := t.TempDir()
	file := filepath.Join(root, "notes")
	write(t, file, "1")
	w := watch(t, file, nil)
	write(t, file+".new", "2")
	w.wantNot(t, "other file")
	rename(t, file+".new", file)
	w.want(t, "replaced")
}

// TestWatchRoot: a source that is not there is no reason to end; it is watched
// from the next scan after it comes back.
func TestWatchRoot(t *testing.T) {
	root := filepath.Join(t.TempDir(), "disk")
	w := watch(t, root, nil)
	if st := w.status(time.Now(), false, false, false).Watch; st.Mode != "failed" || st.Error == "" {
		t.Errorf("got %+v", st)
	}
	for range 3 {
		mkdir(t, filepath.Join(root, "a"))
		w.w.sync()
		if st := w.status(time.Now(), false, false, false).Watch; st.Mode != "watching" || st.Directories != 2 {
			t.Errorf("got %+v", st)
		}
		write(t, filepath.Join(root, "a/f"), "1")
		w.want(t, "write")
		if err := os.RemoveAll(root); err != nil {
			t.Fatal(err)
		}
		w.want(t, "removal")
	}
}

// TestWatchOverflow: lost events lead to a scan and to watches that are right.
func TestWatchOverflow(t *testing.T) {
	root := t.TempDir()
	w := watch(t, root, nil)
	events, cancel := w.d.Subscribe(0)
	defer cancel()
	w.w.mu.Lock()
	old := w.w.fs
	w.w.mu.Unlock()
	mkdir(t, filepath.Join(root, "a"))
	w.want(t, "directory")
	w.w.lost.Store(true)
	w.w.alarm()
	w.want(t, "overflow")
	for e := range events {
		if e.Kind == Overflow {
			break
		}
	}
	w.w.mu.Lock()
	same := w.w.fs == old
	w.w.mu.Unlock()
	if same {
		t.Error("the names of the old watches are still trusted")
	}
	write(t, filepath.Join(root, "a/f"), "1")
	w.want(t, "write after the overflow")
}

// TestWatchLimit: when the kernel has no watches left, the rest waits for the
// scan, and the user is told which setting to raise.
func TestWatchLimit(t *testing.T) {
	root := t.TempDir()
	mkdir(t, filepath.Join(root, "a/b"))
	w := watch(t, root, nil)
	events, cancel := w.d.Subscribe(0)
	defer cancel()
	w.w.watchDir = func(dir string) error {
		if filepath.Base(dir) == "b" {
			return fmt.Errorf("adding: %w", syscall.ENOSPC)
		}
		return w.w.fs.Add(dir)
	}
	w.w.sync()
	w.w.sync() // said once
	st := w.status(time.Now(), false, false, false).Watch
	if st.Mode != "limited" || st.Directories != 2 || st.Hint != limitHint {
		t.Errorf("got %+v", st)
	}
	if e := <-events; e.Kind != WatchLimit || len(events) != 0 {
		t.Errorf("got %+v and %d more", e, len(events))
	}
	write(t, filepath.Join(root, "a/f"), "1")
	w.want(t, "write in what is watched")
	w.w.watchDir = nil
	w.w.sync()
	if st := w.status(time.Now(), false, false, false).Watch; st.Mode != "watching" || st.Directories != 3 {
		t.Errorf("after the limit was raised: %+v", st)
	}
}

// TestIgnore: the watcher skips what the backup leaves out, no more.
func TestIgnore(t *testing.T) {
	for _, tt := range []struct {
		patterns []string
		rel      string
		dir      bool
		want     bool
	}{
		{nil, "a", true, false},
		{[]string{"a"}, "a", true, true},
		{[]string{"a"}, "x/a", false, true},
		{[]string{"/a"}, "x/a", false, false},
		{[]string{"/a"}, "a", false, true},
		{[]string{"a/"}, "a", false, false},
		{[]string{"a/"}, "x/a", true, true},
		{[]string{"x/a"}, "x/a", false, true},
		{[]string{"x/a"}, "y/x/a", false, false},
		{[]string{"**/x/a"}, "y/x/a", false, true},
		{[]string{"x/**"}, "x", true, false},
		{[]string{"x/**"}, "x/y/z", true, true},
		{[]string{"x/**/z"}, "x/z", true, true},
		{[]string{"x/**/z"}, "x/1/2/z", true, true},
		{[]string{"*.o"}, "d/f.o", false, true},
		{[]string{"*.o", "!keep.o"}, "keep.o", false, false},
		{[]string{"!keep.o", "*.o"}, "keep.o", false, true},
		{[]string{"[!a]b"}, "ab", false, false},
		{[]string{"[!a]b"}, "cb", false, true},
		{[]string{`\#a`, "# comment", "", "  "}, "#a", false, true},
		{[]string{"a  ", `b\ `}, "b ", false, true},
		{[]string{"a  "}, "a", false, true},
		{[]string{"["}, "[", false, false},
		{[]string{"/"}, "a", true, false},
	} {
		var g ignore
		g.add(tt.patterns)
		if got := g.match(tt.rel, tt.dir); got != tt.want {
			t.Errorf("%q, %q (dir %v): got %v, want %v", tt.patterns, tt.rel, tt.dir, got, tt.want)
		}
	}
	g := ignore{paths: []string{"state"}}
	g.add([]string{"!state"})
	if !g.match("state", true) {
		t.Error("a pattern brought back the daemon's own folder")
	}
}

// TestEscape: the pattern for one of the daemon's folders matches that one only.
func TestEscape(t *testing.T) {
	for _, rel := range []string{"a", "a b ", "[x]", "a*", `a\b`, "?", "#a", "!a", "a/b c"} {
		var g ignore
		g.add([]string{"/" + escape(rel)})
		if !g.match(rel, true) {
			t.Errorf("%q: not matched by %+v", rel, g.rules)
		}
		if g.match("q"+rel, true) || g.match(rel+"q", true) {
			t.Errorf("%q: another one is matched", rel)
		}
	}
}
