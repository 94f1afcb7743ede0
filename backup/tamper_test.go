package backup

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"coffer/backup/store"
	"coffer/upstream"
)

// all reads every object upstream.
func (f *fixture) all() map[string][]byte {
	f.tb.Helper()
	out := make(map[string][]byte)
	must(f.tb, f.bucket.List(context.Background(), "", "", func(i upstream.Info) error {
		rc, _, err := f.bucket.Get(context.Background(), i.Name, 0, -1)
		if err != nil {
			return err
		}
		defer rc.Close()
		out[i.Name], err = io.ReadAll(rc)
		return err
	}))
	return out
}

func (f *fixture) put(name string, b []byte) {
	f.tb.Helper()
	_, err := f.bucket.Put(context.Background(), name, bytes.NewReader(b), int64(len(b)), upstream.PutOptions{})
	must(f.tb, err)
}

// folderOf is the kind of an object.
func folderOf(name string) string { return strings.SplitN(name, "/", 3)[1] }

// harm returns what storage may do to an object: nil means that it is gone.
func harm(name string, b []byte, all map[string][]byte) map[string][]byte {
	flip := func(at int) []byte {
		c := bytes.Clone(b)
		c[at] ^= 0x10
		return c
	}
	out := map[string][]byte{
		"flipped at the start": flip(20), "flipped in the middle": flip(len(b) / 2), "flipped at the end": flip(len(b) - 1),
		"cut": b[:len(b)/2], "cut by one": b[:len(b)-1], "longer": append(bytes.Clone(b), 0), "empty": {}, "gone": nil,
	}
	for other, c := range all {
		if other != name && folderOf(other) == folderOf(name) {
			out["another of its kind"] = c
		}
	}
	return out
}

// Whatever storage does to an object, check names it, and a restore writes right
// bytes or none, naming it too.
func TestTampering(t *testing.T) {
	f := newFixture(t)
	f.fill()
	f.backup()
	f.write("dir1/more", random(5, 30<<10))
	f.settle()
	f.backup()
	all := f.all()
	kinds := make(map[string]int)
	for name, b := range all {
		kind := folderOf(name)
		if kinds[kind]++; kind == "packs" && kinds[kind]%4 != 1 {
			continue
		}
		for what, c := range harm(name, b, all) {
			if c == nil {
				must(t, f.bucket.Delete(t.Context(), name))
			} else {
				f.put(name, c)
			}
			f.harmed(name, what)
		}
		f.put(name, b)
	}
	for _, kind := range []string{"config", "packs", "index", "snapshots", "heads"} {
		if kinds[kind] == 0 {
			t.Errorf("no object of kind %s was there to tamper with", kind)
		}
	}
	f.sound(f.src)
}

// harmed expects that the damage is found, and that nothing wrong is read.
func (f *fixture) harmed(name, what string) {
	f.tb.Helper()
	conf := f.conf
	conf.CacheDir = ""
	r, err := Open(context.Background(), conf)
	if err != nil {
		if !strings.Contains(err.Error(), name) {
			f.tb.Errorf("%s %s: opening: %v", name, what, err)
		}
		return
	}
	rep, err := r.Check(context.Background(), CheckOptions{ReadData: true})
	named := slices.ContainsFunc(rep.Problems, func(p Problem) bool { return p.Object == name })
	taken := slices.ContainsFunc(rep.Rollbacks, func(s string) bool { return what == "gone" })
	// An index that is gone leaves chunks that nobody knows; a head or a snapshot
	// that is gone is a rollback, which needs the other or a memory to be seen.
	unknown := what == "gone" && (folderOf(name) == "index" && len(rep.Problems) > 0 || folderOf(name) == "heads")
	if err != nil || !named && !taken && !unknown {
		f.tb.Errorf("%s %s: check found %+v %v, %v", name, what, rep.Problems, rep.Rollbacks, err)
	}
	s, err := r.Find(context.Background(), "latest", "")
	if err != nil {
		if !strings.Contains(err.Error(), name) {
			f.tb.Errorf("%s %s: finding: %v", name, what, err)
		}
		return
	}
	to := filepath.Join(f.tb.TempDir(), "out")
	got, err := r.Restore(context.Background(), RestoreOptions{Snapshot: s, To: to})
	if err != nil {
		f.tb.Errorf("%s %s: restore: %v", name, what, err)
	}
	for _, e := range got.Failed {
		if !strings.Contains(e.Err, name) && !unknown {
			f.tb.Errorf("%s %s: %s: error does not name the object: %s", name, what, e.Path, e.Err)
		}
	}
	f.rightBytes(to, name+" "+what)
	os.RemoveAll(to)
}

// rightBytes compares the files that are there with the source.
func (f *fixture) rightBytes(dir, what string) {
	f.tb.Helper()
	must(f.tb, filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		got, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if want, err := os.ReadFile(filepath.Join(f.src, rel)); err != nil || !bytes.Equal(got, want) {
			f.tb.Errorf("%s: %s: wrong bytes (%v)", what, rel, err)
		}
		return nil
	}))
}

// A machine that has seen the newest snapshot notices that storage shows an
// older state; a new one notices a snapshot that is missing below its head.
func TestRollback(t *testing.T) {
	f := newFixture(t)
	f.fill()
	f.backup()
	before := f.all()
	f.write("new", []byte("new"))
	s, _ := f.backup()
	after := f.all()
	for name := range after {
		if _, ok := before[name]; !ok {
			must(t, f.bucket.Delete(t.Context(), name))
		}
	}
	rep, err := f.reopen().Check(t.Context(), CheckOptions{})
	if err != nil || len(rep.Rollbacks) != 1 || len(rep.Problems) != 0 {
		t.Errorf("all of the last run was taken back: %+v, %v", rep, err)
	}
	for name, b := range after {
		if name != store.SnapshotDir+s.ID {
			f.put(name, b)
		}
	}
	f.loseCache()
	rep, err = f.repo.Check(t.Context(), CheckOptions{})
	if err != nil || len(rep.Rollbacks) != 1 || !strings.Contains(rep.Rollbacks[0], s.ID) {
		t.Errorf("a snapshot was taken away: %+v, %v", rep, err)
	}
}

// A key of somebody else is told at once, and is not taken for damage.
func TestWrongKey(t *testing.T) {
	f := newFixture(t)
	conf := f.conf
	conf.Keys = newFixture(t).conf.Keys
	_, err := Open(t.Context(), conf)
	if err == nil || !strings.Contains(err.Error(), "another backup key") {
		t.Errorf("wrong key: %v", err)
	}
	must(t, f.bucket.Delete(t.Context(), store.ConfigName))
	if _, err = Open(t.Context(), f.conf); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("no repository: %v", err)
	}
	must(t, Init(t.Context(), f.conf))
	if err = Init(t.Context(), f.conf); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Errorf("second Init: %v", err)
	}
}
