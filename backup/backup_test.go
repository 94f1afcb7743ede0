package backup

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"coffer/backup/store"
	"coffer/seal"
)

// small parameters let a few megabytes make many chunks, segments and packs.
var small = store.Format{Min: 1 << 10, Normal: 4 << 10, Max: 16 << 10, Bits: [3]int{4, 9, 6}, PackSize: 64 << 10, Segment: 8 << 10}

// fixture is a repository in memory, and a tree to back up.
type fixture struct {
	tb     testing.TB
	bucket Bucket
	src    string
	conf   Config
	repo   *Repo
}

func newFixture(tb testing.TB) *fixture {
	tb.Helper()
	dir := tb.TempDir()
	f := &fixture{tb: tb, src: filepath.Join(dir, "src"), bucket: newMemory()}
	if err := os.Mkdir(f.src, 0o755); err != nil {
		tb.Fatal(err)
	}
	f.conf = Config{Bucket: f.bucket, Keys: seal.NewKey().Keys(seal.NewStoreID()), CacheDir: filepath.Join(dir, "cache"), Workers: 2,
		spill: 100} // so that most of the index lies in files
	if err := initWith(tb.Context(), f.conf, small); err != nil {
		tb.Fatal(err)
	}
	f.reopen()
	return f
}

// reopen forgets what is in memory, like a new process.
func (f *fixture) reopen() *Repo {
	f.tb.Helper()
	r, err := Open(context.Background(), f.conf)
	if err != nil {
		f.tb.Fatal(err)
	}
	f.repo = r
	return r
}

// loseCache removes all that is kept locally.
func (f *fixture) loseCache() {
	if err := os.RemoveAll(f.conf.CacheDir); err != nil {
		f.tb.Fatal(err)
	}
	f.reopen()
}

func (f *fixture) write(name string, data []byte) {
	f.tb.Helper()
	p := filepath.Join(f.src, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		f.tb.Fatal(err)
	}
	if err := os.WriteFile(p, data, 0o644); err != nil {
		f.tb.Fatal(err)
	}
}

// settle waits until the times of what was written are old enough to be trusted.
func (f *fixture) settle() { time.Sleep(25 * time.Millisecond) }

func (f *fixture) backup(opts ...func(*BackupOptions)) (*Snapshot, Report) {
	f.tb.Helper()
	o := BackupOptions{Source: "src", Paths: []string{f.src}, Host: "host"}
	for _, fn := range opts {
		fn(&o)
	}
	s, rep, err := f.repo.Backup(context.Background(), o)
	if err != nil {
		f.tb.Fatal(err)
	}
	return s, rep
}

// random returns n bytes that depend on the seed only.
func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// fill writes a tree of small and larger files.
func (f *fixture) fill() {
	for i := range 60 {
		f.write(fmt.Sprintf("dir%d/file%d", i%7, i), random(uint64(i), i*37))
	}
	f.write("large", random(1000, 300<<10))
	f.write("text", []byte(fmt.Sprint(make([]int, 50000))))
	f.write("empty", nil)
}

func readAll(tb testing.TB, r *Repo, s *Snapshot, name string, off, n int64) []byte {
	tb.Helper()
	rc, err := r.ReadFile(context.Background(), s, name, off, n)
	if err != nil {
		tb.Fatal(err)
	}
	defer rc.Close()
	b, err := io.ReadAll(rc)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// What was backed up can be listed and read, by the process that wrote it and
// by one that has nothing but the key.
func TestBackupAndRead(t *testing.T) {
	f := newFixture(t)
	f.fill()
	f.settle()
	s, rep := f.backup()
	if rep.Files != 63 || rep.New != 63 || len(rep.Failed) > 0 {
		t.Errorf("report %+v", rep)
	}
	for _, lose := range []bool{false, true} {
		if lose {
			f.loseCache()
		}
		s, err := f.repo.Find(t.Context(), s.ID[:8], "src")
		if err != nil {
			t.Fatal(err)
		}
		files := 0
		err = f.repo.Walk(t.Context(), s, "/", func(p string, e Entry) error {
			if e.Type != "file" {
				return nil
			}
			files++
			want, err := os.ReadFile(filepath.Join(f.src, p))
			if err != nil {
				return err
			}
			if got := readAll(t, f.repo, s, p, 0, -1); string(got) != string(want) {
				t.Errorf("%s: %d bytes differ from the %d of the source", p, len(got), len(want))
			}
			return nil
		})
		if err != nil || files != 63 {
			t.Errorf("walked over %d files, want 63: %v", files, err)
		}
	}
	large := random(1000, 300<<10)
	for _, r := range [][2]int64{{0, 10}, {5000, 100_000}, {299 << 10, -1}, {300 << 10, 5}, {1 << 30, 1}} {
		want := large[min(int(r[0]), len(large)):]
		if r[1] >= 0 {
			want = want[:min(int(r[1]), len(want))]
		}
		if got := readAll(t, f.repo, s, "large", r[0], r[1]); string(got) != string(want) {
			t.Errorf("range %v: %d bytes, want %d", r, len(got), len(want))
		}
	}
}

// An unchanged tree costs no reading and no packs, also when the cache is lost.
func TestUnchangedIsNotRead(t *testing.T) {
	f := newFixture(t)
	f.fill()
	f.settle()
	first, _ := f.backup()
	second, rep := f.backup()
	if rep.Unchanged != 63 || rep.Read != 0 || rep.Packs != 0 || rep.Added != 0 {
		t.Errorf("second run: %+v", rep)
	}
	if second.root.Subtree != first.root.Subtree || second.Parent != first.ID {
		t.Errorf("an unchanged tree has another id")
	}
	f.loseCache()
	if _, rep = f.backup(); rep.Unchanged != 63 || rep.Read != 0 || rep.Packs != 0 {
		t.Errorf("run without cache: %+v", rep)
	}
	f.write("dir3/new", []byte("new"))
	f.write("text", []byte("changed"))
	f.settle()
	if _, rep = f.backup(); rep.New != 1 || rep.Changed != 1 || rep.Unchanged != 62 || rep.Read != 10 {
		t.Errorf("run after two edits: %+v", rep)
	}
	same, rep := f.backup(func(o *BackupOptions) { o.SkipUnchanged = true })
	if all, _ := f.repo.Snapshots(t.Context()); len(all) != 4 || same.ID != all[3].ID {
		t.Errorf("SkipUnchanged made a snapshot: %d", len(all))
	}
}

// A run that failed leaves packs that the next run of the same process relies on:
// these must get into an index all the same.
func TestFailedRunSameProcess(t *testing.T) {
	f := newFixture(t)
	f.fill()
	f.settle()
	for _, cache := range []string{f.conf.CacheDir, ""} {
		d := &dying{Bucket: f.bucket}
		d.left.Store(1 << 30)
		f.conf.Bucket, f.conf.CacheDir = d, cache
		r := f.reopen()
		d.left.Store(9)
		o := BackupOptions{Source: "src" + cache, Paths: []string{f.src}, Host: "host"}
		if _, _, err := r.Backup(t.Context(), o); err == nil {
			t.Fatal("the run did not fail")
		}
		d.left.Store(1 << 30)
		if _, _, err := r.Backup(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		f.sound(f.src)
		f.write("large", random(5, 300<<10))
		f.settle()
	}
}
