package backup

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"coffer/backup/store"
)

func TestDiff(t *testing.T) {
	f := newFixture(t)
	f.fill()
	f.settle()
	a, _ := f.backup()
	f.write("dir1/new/file", []byte("new"))
	f.write("text", []byte("changed"))
	must(t, os.Remove(filepath.Join(f.src, "dir2/file2")))
	must(t, os.RemoveAll(filepath.Join(f.src, "dir3")))
	must(t, os.WriteFile(filepath.Join(f.src, "dir3"), nil, 0o644))
	must(t, os.Chmod(filepath.Join(f.src, "large"), 0o600))
	f.settle()
	b, _ := f.backup()
	var got []string
	collect := func(c Change) error {
		if c.Kind != "metadata" || c.New.Type != "dir" {
			got = append(got, c.Kind+" "+c.Path)
		}
		return nil
	}
	must(t, f.repo.Diff(t.Context(), a, b, "/", collect))
	want := []string{"added /dir1/new", "added /dir1/new/file", "removed /dir2/file2", "type /dir3"}
	for _, n := range []string{"10", "17", "24", "3", "31", "38", "45", "52", "59"} {
		want = append(want, "removed /dir3/file"+n)
	}
	want = append(want, "metadata /large", "content /text")
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	got = nil
	must(t, f.repo.Diff(t.Context(), a, a, "/", collect))
	must(t, f.repo.Diff(t.Context(), a, b, "dir1", collect))
	if want = want[:2]; !slices.Equal(got, want) {
		t.Errorf("below dir1: %q", got)
	}
	var found []string
	must(t, f.repo.Search(t.Context(), "file5*", nil, func(s *Snapshot, p string, _ Entry) error {
		found = append(found, s.ID[:1]+p)
		return nil
	}))
	if len(found) != 20 { // file5 and file50 to file59; two of them are gone from the second
		t.Errorf("found %d: %q", len(found), found)
	}
	s, err := f.repo.Stats(t.Context())
	if err != nil || s.Snapshots != 2 || s.Logical <= s.Plain || s.Stored == 0 || s.Indexes != 2 {
		t.Errorf("%+v, %v", s, err)
	}
}

// Without index objects, or with damaged ones, the footers of the packs are
// enough; and so they are for the config.
func TestRepair(t *testing.T) {
	f := newFixture(t)
	f.fill()
	f.settle()
	f.backup()
	f.write("more", random(3, 100<<10))
	f.settle()
	f.backup()
	for name, b := range f.all() {
		switch {
		case folderOf(name) == "index" && len(b)%2 == 0:
			b[len(b)/2] ^= 1
			f.put(name, b)
		case folderOf(name) == "index":
			must(t, f.bucket.Delete(t.Context(), name))
		}
	}
	f.loseCache()
	if rep, err := f.repo.Check(t.Context(), CheckOptions{}); err != nil || len(rep.Problems) == 0 {
		t.Errorf("nothing to repair: %+v, %v", rep, err)
	}
	rep, err := f.repo.Repair(t.Context(), RepairOptions{})
	if err != nil || rep.Packs != f.count(store.PackDir) || len(rep.Lost) > 0 {
		t.Errorf("%+v, %v", rep, err)
	}
	f.sound(f.src)
	if _, rep := f.backup(); rep.Read != 0 {
		t.Errorf("after a repair %d bytes were read again", rep.Read)
	}
	if err := RepairConfig(t.Context(), f.conf); !errors.Is(err, ErrExists) {
		t.Errorf("a config that is well: %v", err)
	}
	for _, damage := range []func(){
		func() { must(t, f.bucket.Delete(t.Context(), store.ConfigName)) },
		func() { f.put(store.ConfigName, []byte("damaged")) },
	} {
		damage()
		if _, err := Open(t.Context(), f.conf); err == nil {
			t.Error("opened without config")
		}
		must(t, RepairConfig(t.Context(), f.conf))
		f.reopen()
		f.sound(f.src)
	}
}

// A copy holds the same repository, is cheap to repeat, and repairs what is lost.
func TestCopy(t *testing.T) {
	f := newFixture(t)
	f.fill()
	f.settle()
	f.backup()
	to := newMemory()
	first, err := Copy(t.Context(), f.bucket, to, func(Progress) {})
	if err != nil || first.Objects != f.count(store.Root) || first.Present != 0 {
		t.Errorf("%+v of %d, %v", first, f.count(store.Root), err)
	}
	f.write("more", random(3, 100<<10))
	f.settle()
	f.backup()
	second, err := Copy(t.Context(), f.bucket, to, nil)
	if err != nil || second.Present != first.Objects || second.Objects == 0 {
		t.Errorf("%+v, %v", second, err)
	}
	f.bucket, f.conf.Bucket = to, to
	f.sound(f.src)
}

// Check names each damaged pack and exactly the files that it touches; a restore
// has all others. After a repair the next backup stores again what was damaged, and
// then old snapshots are whole too.
func TestRepairHeals(t *testing.T) {
	f := newFixture(t)
	f.fill()
	f.settle()
	first, _ := f.backup()
	var packs []string
	for name := range f.all() {
		if folderOf(name) == "packs" {
			packs = append(packs, name)
		}
	}
	slices.Sort(packs)
	f.loseCache()
	clean, err := f.repo.Check(t.Context(), CheckOptions{ReadData: true})
	if err != nil || len(clean.Problems) > 0 {
		t.Fatalf("%+v, %v", clean, err)
	}
	for i, name := range packs {
		if i%3 == 0 {
			must(t, f.bucket.Delete(t.Context(), name))
		} else if i%3 == 1 {
			b := f.all()[name]
			b[len(b)/3] ^= 1
			f.put(name, b)
		}
	}
	f.loseCache()
	rep, err := f.repo.Check(t.Context(), CheckOptions{ReadData: true})
	must(t, err)
	touched := make(map[string]bool)
	for _, p := range rep.Problems {
		if !slices.Contains(packs, p.Object) {
			t.Errorf("check blames %s", p.Object)
		}
		for _, name := range p.Touches {
			touched[strings.TrimPrefix(name, first.ID[:8]+":")] = true
		}
	}
	out := filepath.Join(t.TempDir(), "out")
	got, err := f.repo.Restore(t.Context(), RestoreOptions{Snapshot: first, To: out})
	must(t, err)
	for _, e := range got.Failed {
		rel := filepath.Clean("/" + strings.TrimPrefix(e.Path, out))
		if !touched[rel] && !touched[filepath.Dir(rel)] {
			t.Errorf("%s cannot be restored, and check did not say so: %s", rel, e.Err)
		}
	}
	if len(rep.Problems) < len(packs)/2 || len(touched) == 0 || len(got.Failed) == 0 {
		t.Errorf("%d of %d packs were damaged: %d problems, %d files touched, %d not restored", len(packs)*2/3, len(packs), len(rep.Problems), len(touched), len(got.Failed))
	}
	fixed, err := f.repo.Repair(t.Context(), RepairOptions{ReadData: true})
	if err != nil || len(fixed.Again) != len(rep.Problems) {
		t.Errorf("check found %d, repair %+v, %v", len(rep.Problems), fixed, err)
	}
	f.backup()
	f.loseCache()
	healed := filepath.Join(t.TempDir(), "healed")
	got, err = f.repo.Restore(t.Context(), RestoreOptions{Snapshot: first, To: healed})
	if err != nil || len(got.Failed) > 0 {
		t.Errorf("after a repair and a backup: %+v, %v", got.Failed, err)
	}
	same(t, healed, f.src)
	if again, err := f.repo.Repair(t.Context(), RepairOptions{ReadData: true}); err != nil || len(again.Again) > 0 {
		t.Errorf("a second repair: %+v, %v", again, err)
	}
}
