package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"coffer/seal"
	"coffer/upstream"
)

// list returns the paths in the newest snapshot.
func (f *fixture) list() []string {
	f.tb.Helper()
	s, err := f.repo.Find(context.Background(), "latest", "")
	must(f.tb, err)
	var out []string
	must(f.tb, f.repo.Walk(context.Background(), s, "", func(p string, e Entry) error {
		if p != "/" {
			out = append(out, p)
		}
		return nil
	}))
	return out
}

func TestExcludes(t *testing.T) {
	f := newFixture(t)
	for _, name := range []string{"a.o", "a.c", "build/x", "sub/build/y", "sub/keep.o", "sub/z.tmp", "cache/data", "cache/deep/data", "big"} {
		f.write(name, []byte(name))
	}
	f.write("big", make([]byte, 5000))
	f.write("sub/.cofferignore", []byte("*.tmp\n!keep.o\n"))
	f.write("cache/CACHEDIR.TAG", []byte("Signature: 8a477f597d28d172789f06886806bc55\nmade by a test"))
	f.write("false/CACHEDIR.TAG", []byte("not a tag"))
	f.backup(func(o *BackupOptions) {
		o.Exclude = []string{"*.o", "/build/"}
		o.ExcludeCaches = true
		o.ExcludeLarger = 4999
	})
	want := []string{"/a.c", "/cache", "/cache/CACHEDIR.TAG", "/false", "/false/CACHEDIR.TAG", "/sub", "/sub/.cofferignore",
		"/sub/build", "/sub/build/y", "/sub/keep.o"}
	if got := f.list(); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// Several paths, or one that is a file, lie below the directories that lead to
// them; what is beside them is not there.
func TestSeveralPaths(t *testing.T) {
	f := newFixture(t)
	f.write("a/one", []byte("1"))
	f.write("a/two", []byte("2"))
	f.write("b/c/three", []byte("3"))
	f.write("other", nil)
	must(t, os.Symlink("b", filepath.Join(f.src, "link")))
	p := func(name string) string { return filepath.Join(f.src, name) }
	_, rep := f.backup(func(o *BackupOptions) {
		o.Paths = []string{p("a/two"), p("link/c"), p("b"), p("b/c/three"), p("missing")}
		o.Exclude = []string{"/two"}
	})
	var got []string
	for _, name := range f.list() {
		if rest, ok := strings.CutPrefix(name, f.src+"/"); ok {
			got = append(got, rest)
		}
	}
	if want := []string{"a", "a/two", "b", "b/c", "b/c/three"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(rep.Failed) != 1 || rep.Failed[0].Path != p("missing") {
		t.Errorf("failed: %v", rep.Failed)
	}
	if _, _, err := f.repo.Backup(t.Context(), BackupOptions{Source: "x", Paths: []string{p("missing")}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a source that is not there: %v", err)
	}
	out, _ := f.restore()
	if b, err := os.ReadFile(filepath.Join(out, f.src, "b/c/three")); err != nil || string(b) != "3" {
		t.Errorf("restored %q, %v", b, err)
	}
}

// A file that is written to all the time is saved as it was read, marked, and
// read again by the next run; one that changes once is read twice.
func TestChangedWhileRead(t *testing.T) {
	f := newFixture(t)
	log := filepath.Join(f.src, "log")
	f.write("log", random(1, 3<<20))
	f.write("still", []byte("still"))
	f.settle()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		w, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer w.Close()
		for {
			select {
			case <-stop:
				return
			default:
				w.Write([]byte("line\n"))
			}
		}
	}()
	s, rep := f.backup()
	for try := 0; try < 20 && !s.Partial; try++ { // on a busy machine nobody may have written meanwhile
		s, rep = f.backup()
	}
	close(stop)
	<-stopped
	if len(rep.Failed) > 0 || len(rep.Warnings) != 1 || rep.Warnings[0].Path != log || !s.Partial {
		t.Errorf("partial %v, failed %v, warnings %v", s.Partial, rep.Failed, rep.Warnings)
	}
	e, err := f.repo.Stat(t.Context(), s, "log")
	if err != nil || !e.Changed {
		t.Errorf("%+v, %v", e, err)
	}
	if got := readAll(t, f.repo, s, "log", 0, -1); int64(len(got)) != e.Size || string(got[:3<<20]) != string(random(1, 3<<20)) {
		t.Errorf("%d bytes, want %d that begin as the file does", len(got), e.Size)
	}
	f.settle()
	if s, rep = f.backup(); rep.Changed != 1 || rep.Unchanged != 1 || s.Partial {
		t.Errorf("next run: %+v", rep)
	}
	f.sound(f.src)
}

// Files and directories that come and go while a backup runs are no failure, and
// what stays is saved as it is.
func TestVanishing(t *testing.T) {
	f := newFixture(t)
	f.fill()
	for i := range 300 {
		f.write(fmt.Sprintf("fleeting%d/file", i%50), random(uint64(i), 3000))
	}
	f.settle()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				dir := filepath.Join(f.src, fmt.Sprintf("fleeting%d", i%50))
				os.RemoveAll(dir)
				if i%3 > 0 {
					os.Mkdir(dir, 0o755)
					os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), random(uint64(i), 2000), 0o644)
				}
			}
		}
	}()
	for range 10 {
		if _, rep := f.backup(); len(rep.Failed) > 0 {
			t.Errorf("failed: %v", rep.Failed)
		}
	}
	close(stop)
	<-stopped
	for i := range 50 {
		must(t, os.RemoveAll(filepath.Join(f.src, fmt.Sprintf("fleeting%d", i))))
	}
	out, rep := f.restore()
	if len(rep.Failed) > 0 {
		t.Errorf("restore: %v", rep.Failed)
	}
	for p := range describe(t, out) {
		if strings.HasPrefix(p, "/fleeting") && strings.Count(p, "/") == 1 {
			must(t, os.RemoveAll(filepath.Join(out, p)))
		}
	}
	same(t, out, f.src)
}

// A directory with the same content is the same chunk, wherever it lies, and a
// source that has vanished is no empty snapshot.
func TestNoSource(t *testing.T) {
	f := newFixture(t)
	f.write("a", nil)
	f.backup()
	must(t, os.RemoveAll(f.src))
	if _, _, err := f.repo.Backup(t.Context(), BackupOptions{Source: "src", Paths: []string{f.src}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the source is gone: %v", err)
	}
	if all, _ := f.repo.Snapshots(t.Context()); len(all) != 1 {
		t.Errorf("%d snapshots", len(all))
	}
}

func TestDryRun(t *testing.T) {
	f := newFixture(t)
	f.fill()
	before := len(f.bucket.(*memory).objects)
	_, rep := f.backup(func(o *BackupOptions) { o.DryRun = true })
	if rep.Files != 63 || rep.Added == 0 || rep.Packs != 0 || len(f.bucket.(*memory).objects) != before {
		t.Errorf("%+v, %d objects more", rep, len(f.bucket.(*memory).objects)-before)
	}
	f.backup()
	f.sound(f.src)
}

const userEnv = "COFFER_TEST_BACKUP_USER"

// Somebody who is not root backs up what he may read, is told what he may not,
// and restores it as his own; his own hostile tree comes back whole. The test
// becomes such a user when root runs it.
func TestOrdinaryUser(t *testing.T) {
	if os.Getuid() == 0 && os.Getenv(userEnv) == "" {
		dir, err := os.MkdirTemp("", "coffer-user")
		must(t, err)
		defer os.RemoveAll(dir)
		must(t, os.Chmod(dir, 0o777))
		f := &fixture{tb: t, src: filepath.Join(dir, "src")}
		must(t, os.Mkdir(f.src, 0o755))
		f.write("foreign", []byte("readable"))
		f.write("secret", []byte("root's"))
		f.write("closed/inside", []byte("root's"))
		must(t, os.Chmod(filepath.Join(f.src, "secret"), 0o600))
		must(t, os.Chmod(filepath.Join(f.src, "closed"), 0o700))
		must(t, os.Chmod(filepath.Join(f.src, "foreign"), 0o4755))
		f.settle()
		bin := filepath.Join(dir, "test")
		must(t, copyFile(bin, os.Args[0]))
		cmd := exec.Command(bin, "-test.run=^(TestOrdinaryUser|TestRestoreEqualsSource)$")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), userEnv+"="+dir, "TMPDIR="+dir, "HOME="+dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	f := newFixture(t)
	if dir := os.Getenv(userEnv); dir != "" {
		f.src = filepath.Join(dir, "src")
	} else {
		f.write("secret", nil)
		f.write("closed/inside", nil)
		f.write("foreign", nil)
		must(t, os.Chmod(filepath.Join(f.src, "secret"), 0))
		must(t, os.Chmod(filepath.Join(f.src, "closed"), 0))
		f.settle()
	}
	s, rep := f.backup()
	if len(rep.Failed) != 2 || !s.Partial || rep.Files != 2 {
		t.Errorf("%+v", rep)
	}
	e, err := f.repo.Stat(t.Context(), s, "secret")
	if err != nil || !e.Missing {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := f.repo.ReadFile(t.Context(), s, "secret", 0, -1); !errors.Is(err, ErrNotExist) {
		t.Errorf("reading what was not saved: %v", err)
	}
	if _, rep = f.backup(); len(rep.Failed) != 2 || rep.Read != 0 {
		t.Errorf("second run: %+v", rep)
	}
	out, got := f.restore()
	if len(got.Failed) > 0 || got.Files != 1 {
		t.Errorf("restore: %+v", got)
	}
	if _, err := os.Stat(filepath.Join(out, "foreign")); err != nil {
		t.Error(err)
	}
	if os.Getenv(userEnv) == "" {
		return
	}
	if info, err := os.Stat(filepath.Join(out, "foreign")); err != nil || info.Mode() != 0o755 {
		t.Errorf("a file of root's got %v: setuid must not pass to another owner (%v)", info.Mode(), err)
	}
	if !slices.ContainsFunc(got.Warnings, func(w FileError) bool { return strings.Contains(w.Err, "setting the owner") }) {
		t.Errorf("no warning about owners: %v", got.Warnings)
	}
}

func copyFile(dst, src string) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// The parameters of new repositories work too: large chunks, several packs.
func TestDefaultFormat(t *testing.T) {
	f := newFixture(t)
	f.bucket = newMemory()
	f.conf = Config{Bucket: f.bucket, Keys: seal.NewKey().Keys(seal.NewStoreID())}
	must(t, Init(t.Context(), f.conf))
	f.reopen()
	for i := range 5 {
		f.write(fmt.Sprint("large", i), random(uint64(i), 12<<20+i))
	}
	f.fill()
	_, rep := f.backup()
	if rep.Packs != 3 {
		t.Errorf("%d packs for 60 MiB", rep.Packs)
	}
	must(t, f.bucket.List(t.Context(), "repo/packs/", "", func(i upstream.Info) error {
		if i.Size > 25<<20 {
			t.Errorf("a pack of %d bytes", i.Size)
		}
		return nil
	}))
	f.sound(f.src)
}
