package backup

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"coffer/backup/store"
	"coffer/upstream"
)

// linked is a backup of a and b, which are one file, written an hour ago.
func linked(t *testing.T) *fixture {
	f := newFixture(t)
	f.write("a", []byte("saved"))
	hourAgo := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(filepath.Join(f.src, "a"), hourAgo, hourAgo))
	must(t, os.Link(filepath.Join(f.src, "a"), filepath.Join(f.src, "b")))
	f.backup()
	return f
}

// contents are those of files in a directory; "" is also that of one that is absent.
func contents(dir string, names ...string) (all []string) {
	for _, n := range names {
		b, _ := os.ReadFile(filepath.Join(dir, n))
		all = append(all, string(b))
	}
	return all
}

// A further name of a file is kept or written as any file is, and never a link to
// something else than what was backed up.
func TestRestoreLinksAndKeeps(t *testing.T) {
	f := linked(t)
	for _, c := range []struct {
		mode      Overwrite
		a, b      string // there before, and newer
		wantA     string
		wantB     string
		replaced  int
		unchanged int64
	}{
		{OverwriteNever, "mine", "", "mine", "saved", 0, 1},
		{OverwriteOlder, "mine", "", "mine", "saved", 0, 1},
		{OverwriteNever, "", "mine", "saved", "mine", 0, 1},
		{OverwriteOlder, "", "mine", "saved", "mine", 0, 1},
		{OverwriteNever, "mine", "mine, too", "mine", "mine, too", 0, 2},
		{OverwriteChanged, "", "mine", "saved", "saved", 1, 0},
		{OverwriteAlways, "mine", "mine", "saved", "saved", 2, 0},
	} {
		out := t.TempDir()
		for name, text := range map[string]string{"a": c.a, "b": c.b} {
			if text != "" {
				must(t, os.WriteFile(filepath.Join(out, name), []byte(text), 0o644))
			}
		}
		_, rep := f.restore(func(o *RestoreOptions) { o.To, o.Overwrite, o.Verify = out, c.mode, true })
		if got := contents(out, "a", "b"); got[0] != c.wantA || got[1] != c.wantB {
			t.Errorf("mode %d, a %q, b %q: now %q", c.mode, c.a, c.b, got)
		}
		if len(rep.Failed) > 0 || len(rep.Replaced) != c.replaced || rep.Unchanged != c.unchanged || rep.Files != 2 {
			t.Errorf("mode %d, a %q, b %q: %+v", c.mode, c.a, c.b, rep)
		}
	}
}

// What is there with the right size and time is not believed when all is to be
// verified: a power cut leaves zeros in such files, and holes may have been written to.
func TestRestoreVerifiesKept(t *testing.T) {
	f := newFixture(t)
	f.fill()
	must(t, os.Truncate(filepath.Join(f.src, "large"), 1<<20)) // with a hole
	must(t, os.Link(filepath.Join(f.src, "text"), filepath.Join(f.src, "text2")))
	f.settle()
	f.backup()
	harmed := map[string]int64{"dir3/file45": 0, "large": 900 << 10, "text2": 100}
	for _, mode := range []Overwrite{OverwriteChanged, OverwriteOlder, OverwriteNever} {
		out, _ := f.restore()
		must(t, os.Remove(filepath.Join(out, "text2")))
		must(t, os.WriteFile(filepath.Join(out, "text2"), []byte(contents(out, "text")[0]), 0o644))
		for name, at := range harmed {
			p := filepath.Join(out, name)
			like, err := os.Stat(filepath.Join(f.src, name))
			must(t, err)
			file, err := os.OpenFile(p, os.O_WRONLY, 0)
			must(t, err)
			_, err = file.WriteAt(make([]byte, 512), at)
			if name == "large" {
				_, err = file.WriteAt([]byte("x"), at+5000)
			}
			must(t, err)
			must(t, file.Close())
			must(t, os.Chtimes(p, like.ModTime(), like.ModTime()))
		}
		want := len(harmed)
		if mode == OverwriteChanged { // text2 is made a link again
			want--
		}
		_, rep := f.restore(func(o *RestoreOptions) { o.To, o.Overwrite, o.Verify = out, mode, true })
		if len(rep.Failed) != want || rep.Read != 0 {
			t.Errorf("mode %d: verified with %d bytes read, and failed are %q, want %d", mode, rep.Read, rep.Failed, want)
		}
		if rep.Unchanged < 60 {
			t.Errorf("mode %d: %d unchanged", mode, rep.Unchanged)
		}
		_, rep = f.restore(func(o *RestoreOptions) { o.To, o.Overwrite, o.Verify = out, OverwriteAlways, true })
		if len(rep.Failed) > 0 {
			t.Errorf("replaced always: %v", rep.Failed)
		}
		same(t, out, f.src)
	}
}

// outage is storage that serves a few ranges of packs; broken says what comes of the rest.
type outage struct {
	*memory
	left   atomic.Int64
	broken func() error
}

func (o *outage) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, upstream.Info, error) {
	if strings.HasPrefix(name, store.PackDir) && o.left.Add(-1) < 0 {
		return nil, upstream.Info{}, o.broken()
	}
	return o.memory.Get(ctx, name, off, n)
}

// openBelow are the files of this process that lie in a directory.
func openBelow(tb testing.TB, dir string) (names []string) {
	fds, err := os.ReadDir("/proc/self/fd")
	must(tb, err)
	for _, fd := range fds {
		if at, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(at, dir) {
			names = append(names, at)
		}
	}
	return names
}

// interruptible puts storage that can fail under the repository, and gives the last snapshot.
func (f *fixture) interruptible() (*outage, *Snapshot) {
	f.tb.Helper()
	o := &outage{memory: f.bucket.(*memory)}
	f.conf.Bucket = o
	f.reopen()
	s, err := f.repo.Find(f.tb.Context(), "latest", "")
	must(f.tb, err)
	return o, s
}

// A restore that is stopped, or that storage fails, leaves no file open.
func TestRestoreStoppedClosesFiles(t *testing.T) {
	f := newFixture(t)
	for i := range 10 {
		f.write(fmt.Sprintf("large%d", i), random(uint64(2000+i), 150<<10))
	}
	f.backup()
	o, s := f.interruptible()
	for _, stopped := range []bool{true, false} {
		ctx, stop := context.WithCancel(t.Context())
		o.left.Store(6)
		o.broken = func() error {
			if stopped {
				stop()
				return ctx.Err()
			}
			return fmt.Errorf("no answer: %w", upstream.ErrUnavailable)
		}
		out := filepath.Join(t.TempDir(), "out")
		rep, err := f.repo.Restore(ctx, RestoreOptions{Snapshot: s, To: out})
		if err == nil || rep.Read == 0 {
			t.Errorf("stopped %v: %v after %d bytes", stopped, err, rep.Read)
		}
		if open := openBelow(t, out); len(open) > 0 {
			t.Errorf("stopped %v: %d are open: %q", stopped, len(open), open)
		}
		stop()
	}
}

// A file that is to be replaced stays until the one in its place is whole: it is
// there after a Stop, an outage, and where its data is lost; nothing else is.
func TestRestoreKeepsOldUntilWhole(t *testing.T) {
	f := newFixture(t)
	for i := range 10 {
		f.write(fmt.Sprintf("large%d", i), random(uint64(3000+i), 150<<10))
	}
	f.write(strings.Repeat("n", 255), random(3010, 150<<10)) // the longest of names
	must(t, os.Link(filepath.Join(f.src, "large0"), filepath.Join(f.src, "zlink")))
	f.settle()
	f.backup()
	o, s := f.interruptible()
	out := t.TempDir()
	names, err := os.ReadDir(f.src)
	must(t, err)
	var temp atomic.Pointer[string]
	for _, how := range []string{"stopped", "outage", "lost"} {
		for _, n := range names {
			must(t, os.RemoveAll(filepath.Join(out, n.Name())))
			must(t, os.WriteFile(filepath.Join(out, n.Name()), []byte("old"), 0o644))
		}
		ctx, stop := context.WithCancel(t.Context())
		o.left.Store(6)
		o.broken = func() error {
			if hidden, _ := filepath.Glob(filepath.Join(out, ".coffer-restore-*")); len(hidden) > 0 {
				temp.Store(&hidden[0])
			}
			switch how {
			case "stopped":
				stop()
				return ctx.Err()
			case "outage":
				return fmt.Errorf("no answer: %w", upstream.ErrUnavailable)
			}
			return upstream.ErrNotExist
		}
		rep, err := f.repo.Restore(ctx, RestoreOptions{Snapshot: s, To: out, Overwrite: OverwriteAlways})
		stop()
		if (err == nil) != (how == "lost") || (len(rep.Failed) == 0) == (how == "lost") {
			t.Errorf("%s: %v, failed %q", how, err, rep.Failed)
		}
		old := 0
		for _, n := range names {
			got, saved := contents(out, n.Name())[0], contents(f.src, n.Name())[0]
			if got == "old" {
				old++
			} else if got != saved {
				t.Errorf("%s: %.20s is neither old nor new, but has %d bytes", how, n.Name(), len(got))
			}
		}
		if left, err := os.ReadDir(out); err != nil || len(left) != len(names) || old == 0 {
			t.Errorf("%s: %d files, want %d, of them %d old, %v", how, len(left), len(names), old, err)
		}
	}
	if temp.Load() == nil {
		t.Fatal("nothing was written beside what it replaces")
	}
	must(t, os.WriteFile(*temp.Load(), []byte("killed"), 0o200)) // the next restore takes it away
	o.left.Store(1 << 30)
	f.restore(func(r *RestoreOptions) { r.To, r.Overwrite, r.Verify = out, OverwriteAlways, true })
	same(t, out, f.src)
}

// Two restores that write the same file at once do not mix what they write.
func TestRestoreTwiceAtOnce(t *testing.T) {
	f := newFixture(t)
	f.write("large", random(4000, 300<<10))
	f.settle()
	s, _ := f.backup()
	out := t.TempDir()
	must(t, os.WriteFile(filepath.Join(out, "large"), []byte("old"), 0o644))
	rep, err := f.repo.Restore(t.Context(), RestoreOptions{Snapshot: s, To: out, Paths: []string{"large", "/large"}, Overwrite: OverwriteAlways})
	must(t, err)
	if got := contents(out, "large")[0]; got != "old" && got != contents(f.src, "large")[0] {
		t.Errorf("large is neither old nor new, but has %d bytes; failed %q", len(got), rep.Failed)
	}
	if left, err := os.ReadDir(out); err != nil || len(left) != 1 {
		t.Errorf("left are %v, %v", left, err)
	}
}

// A folder that was there keeps its mode, owner and times, unless files go back to
// where they came from; one that a restore makes is that of the snapshot, also if the
// restore was interrupted.
func TestRestoreTargetItself(t *testing.T) {
	f := newFixture(t)
	f.fill()
	must(t, os.Chmod(f.src, 0o751))
	hourAgo := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(f.src, hourAgo, hourAgo))
	s, _ := f.backup()
	o := &outage{memory: f.bucket.(*memory)}
	f.conf.Bucket = o
	f.reopen()
	o.left.Store(1 << 30)
	there, made, part, broken := filepath.Join(t.TempDir(), "there"), filepath.Join(t.TempDir(), "made"), filepath.Join(t.TempDir(), "part"), filepath.Join(t.TempDir(), "broken")
	must(t, os.Mkdir(there, 0))
	must(t, os.Chmod(there, 0o777))
	if os.Geteuid() == 0 {
		must(t, os.Chown(there, 1234, 1234))
	}
	restore := func(to string, paths ...string) error {
		_, err := f.repo.RestoreNew(t.Context(), RestoreOptions{Snapshot: s, To: to, Paths: paths})
		return err
	}
	must(t, restore(there))
	must(t, restore(made))
	must(t, restore(part, "dir1"))
	o.left.Store(1)
	o.broken = func() error { return fmt.Errorf("no answer: %w", upstream.ErrUnavailable) }
	if err := restore(broken); err == nil {
		t.Error("a restore without storage ended well")
	}
	o.left.Store(1 << 30)
	must(t, restore(broken))
	want := map[string]os.FileMode{there: 0o777, made: 0o751, part: 0o700, broken: 0o751}
	must(t, os.Chmod(f.src, 0o700))
	must(t, restore(f.src))
	want[f.src] = 0o751
	for dir, mode := range want {
		info, err := os.Stat(dir)
		must(t, err)
		if info.Mode() != mode|os.ModeDir {
			t.Errorf("%s has mode %v, want %v", filepath.Base(dir), info.Mode(), mode)
		}
	}
	var st unix.Stat_t
	must(t, unix.Stat(there, &st))
	if os.Geteuid() == 0 && (st.Uid != 1234 || st.Gid != 1234) || time.Since(time.Unix(st.Mtim.Unix())) > time.Minute {
		t.Errorf("the folder that was there is %+v", st)
	}
}
