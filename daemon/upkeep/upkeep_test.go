package upkeep

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coffer/backup"
	"coffer/daemon"
	"coffer/seal"
	"coffer/upstream"
)

// home is a machine with a source, and a repository in a folder.
type home struct {
	t      *testing.T
	repo   *backup.Repo
	source string
	store  string
	c      Config
}

func newHome(t *testing.T) *home {
	t.Helper()
	dir := t.TempDir()
	h := &home{t: t, source: filepath.Join(dir, "docs"), store: filepath.Join(dir, "store")}
	bucket, err := upstream.NewFolder(h.store)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bucket.Close() })
	key := seal.NewKey()
	bc := backup.Config{Bucket: bucket, Keys: key.Keys(seal.NewStoreID()), CacheDir: filepath.Join(dir, "cache")}
	if err := backup.Init(t.Context(), bc); err != nil {
		t.Fatal(err)
	}
	if h.repo, err = backup.Open(t.Context(), bc); err != nil {
		t.Fatal(err)
	}
	h.c = Config{Host: "laptop", Dir: filepath.Join(dir, "drill"), Sources: []Source{{Name: "docs"}},
		Open: func(context.Context) (Repo, error) { return h.repo, nil }}
	return h
}

func (h *home) write(name, text string) {
	h.t.Helper()
	file := filepath.Join(h.source, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o640); err != nil {
		h.t.Fatal(err)
	}
}

func (h *home) backup(host string, at time.Time) {
	h.t.Helper()
	if _, r, err := h.repo.Backup(h.t.Context(), backup.BackupOptions{Source: "docs", Host: host, Paths: []string{h.source}, Time: at}); err != nil || len(r.Failed) > 0 {
		h.t.Fatal(r.Failed, err)
	}
}

// run runs one task.
func (h *home) run(name string, round int) (string, error) {
	h.t.Helper()
	for _, task := range Tasks(h.c) {
		if task.Name == name {
			return task.Run(h.t.Context(), round)
		}
	}
	h.t.Fatalf("no task %s", name)
	return "", nil
}

// wantTrouble checks that err is a lasting trouble that has a hint.
func wantTrouble(t *testing.T, err error, text string) {
	t.Helper()
	var trouble *daemon.Trouble
	if !errors.As(err, &trouble) || !trouble.Lasting || trouble.Hint == "" || !strings.Contains(trouble.Error(), text) {
		t.Errorf("got %v, want a lasting trouble with %q and a hint", err, text)
	}
}

// TestForget: the rules hold for this machine's snapshots of the source, and for
// nobody else's.
func TestForget(t *testing.T) {
	h := newHome(t)
	for i := range 4 {
		h.write("file", fmt.Sprint("version ", i))
		for _, host := range []string{"laptop", "desktop"} {
			h.backup(host, time.Date(2026, 3, 1+i, 12, 0, 0, 0, time.UTC))
		}
	}
	for _, task := range Tasks(h.c) {
		if task.Name == Forget {
			t.Error("there is a turn of forget though no source has rules")
		}
	}
	h.c.Sources[0].Keep = backup.Keep{Daily: 2}
	if got, err := h.run(Forget, 0); err != nil || got != "snapshots: 2 removed, 2 stay" {
		t.Errorf("%q, %v", got, err)
	}
	all, err := h.repo.Snapshots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	left := make(map[string]int)
	for _, s := range all {
		left[s.Host]++
	}
	if left["laptop"] != 2 || left["desktop"] != 4 {
		t.Errorf("left: %v", left)
	}
	if got, err := h.run(Prune, 0); err != nil || !strings.Contains(got, "marked") {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := h.run(Check, 0); err != nil || !strings.HasPrefix(got, "all there: snapshots 6, ") {
		t.Errorf("%q, %v", got, err)
	}
}

// TestRead: the turns read everything, each a part, and find a flipped byte.
func TestRead(t *testing.T) {
	h := newHome(t)
	for range 8 { // a pack each, most of it this file's
		h.write("file", noise(256<<10))
		h.backup("laptop", time.Now())
	}
	h.c.Read, h.c.ReadAll = 24*time.Hour, 4*24*time.Hour
	found := 0
	for pack := range h.packs() {
		h.flip(pack)
		for round := range 4 {
			got, err := h.run(Read, round)
			if err == nil {
				if want := fmt.Sprintf("part %d of 4", round+1); !strings.HasSuffix(got, want) {
					t.Errorf("%q, want %s", got, want)
				}
				continue
			}
			found++
			wantTrouble(t, err, "1 objects of the backup are damaged")
		}
		h.flip(pack)
		break
	}
	if found != 1 {
		t.Errorf("the damage was found in %d of the turns, want 1", found)
	}
	for pack := range h.packs() {
		if err := os.Remove(pack); err != nil {
			t.Fatal(err)
		}
		break
	}
	_, err := h.run(Check, 0)
	wantTrouble(t, err, "damaged or missing")
}

// packs are the files upstream that hold data.
func (h *home) packs() map[string]bool {
	h.t.Helper()
	all := make(map[string]bool)
	err := filepath.WalkDir(filepath.Join(h.store, "repo", "packs"), func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			all[p] = true
		}
		return err
	})
	if err != nil || len(all) == 0 {
		h.t.Fatalf("%d packs: %v", len(all), err)
	}
	return all
}

// flip changes a byte in the middle of a file, or changes it back.
func (h *home) flip(file string) {
	h.t.Helper()
	b, err := os.ReadFile(file)
	if err == nil {
		b[len(b)/2] ^= 1
		err = errors.Join(os.Chmod(file, 0o600), os.WriteFile(file, b, 0o600))
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// noise is content that does not compress.
func noise(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return string(b)
}

// TestDrill: a sample comes back as it is here, and nothing of it stays.
func TestDrill(t *testing.T) {
	h := newHome(t)
	for i := range 30 {
		h.write(fmt.Sprintf("dir%d/sub/file%d", i%5, i), noise(5000+i))
	}
	h.backup("laptop", time.Now())
	if err := os.MkdirAll(filepath.Join(h.c.Dir, "left by one that was killed"), 0o700); err != nil {
		t.Fatal(err)
	}
	got, err := h.run(Drill, 0)
	if err != nil || !strings.HasPrefix(got, "files restored: 20 (") || !strings.Contains(got, "20 the same as on this machine, 0 changed") {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := os.Stat(h.c.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the sample stays: %v", err)
	}
	for i := range 30 { // the user goes on working
		h.write(fmt.Sprintf("dir%d/sub/file%d", i%5, i), "new")
	}
	if got, err := h.run(Drill, 1); err != nil || !strings.Contains(got, "0 the same as on this machine, 20 changed") {
		t.Errorf("%q, %v", got, err)
	}
	for pack := range h.packs() {
		h.flip(pack)
	}
	if got, err := h.run(Drill, 2); err == nil {
		t.Errorf("damaged, and the drill says %q", got)
	}
}

// TestDrillSilentChange: a disk that changes bytes leaves size and time alone.
func TestDrillSilentChange(t *testing.T) {
	h := newHome(t)
	h.write("file", "as it was")
	h.backup("laptop", time.Now())
	file := filepath.Join(h.source, "file")
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	h.write("file", "as it WAS")
	if err := os.Chtimes(file, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	_, err = h.run(Drill, 0)
	wantTrouble(t, err, "1 of 1 restored files")
}

// TestDrillSingleFile: a source may be one file, or nothing yet.
func TestDrillSingleFile(t *testing.T) {
	h := newHome(t)
	if got, err := h.run(Drill, 0); err != nil || !strings.HasPrefix(got, "files restored: 0 ") {
		t.Errorf("%q, %v", got, err)
	}
	h.write("one", "content")
	h.source = filepath.Join(h.source, "one")
	h.backup("laptop", time.Now())
	if got, err := h.run(Drill, 0); err != nil || !strings.Contains(got, "1 the same") {
		t.Errorf("%q, %v", got, err)
	}
}

func TestOpenFails(t *testing.T) {
	h := newHome(t)
	h.c.Open = func(context.Context) (Repo, error) { return nil, daemon.ErrLocked }
	for _, task := range Tasks(h.c) {
		if _, err := task.Run(t.Context(), 0); !errors.Is(err, daemon.ErrLocked) {
			t.Errorf("%s: got %v, want %v", task.Name, err, daemon.ErrLocked)
		}
	}
}
