package backup

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"coffer/backup/store"
	"coffer/seal"
	"coffer/upstream"
)

// After a rekey the new key opens everything and the old one nothing, wherever it
// was interrupted, and no machine takes it for a rollback.
func TestRekey(t *testing.T) {
	f := newFixture(t)
	f.fill()
	f.settle()
	first, _ := f.backup()
	f.write("more", random(7, 50<<10))
	f.settle()
	f.backup()
	if rep, err := f.repo.Check(t.Context(), CheckOptions{}); err != nil || len(rep.Rollbacks) > 0 { // this machine has seen the heads
		t.Fatalf("%+v, %v", rep, err)
	}
	from, to := f.conf.Keys, seal.NewKey().Keys(f.conf.Keys.Store())
	mem, total := f.bucket, 0
	for n := int64(3); ; n += 7 {
		d := &dying{Bucket: mem, late: n%2 == 0}
		d.left.Store(n)
		rep, err := Rekey(t.Context(), d, from, to, nil)
		total += rep.Objects
		if err == nil {
			break
		}
		if !errors.Is(err, upstream.ErrUnavailable) || n > 2000 {
			t.Fatal(err)
		}
	}
	objects := 0
	err := mem.List(t.Context(), store.Root, "", func(i upstream.Info) error {
		objects++
		body, _, err := mem.Get(t.Context(), i.Name, 0, -1)
		if err != nil {
			return err
		}
		sealed, err := io.ReadAll(body)
		if err != nil {
			return err
		}
		if _, err := from.Open(i.Name, sealed); !errors.Is(err, seal.ErrKey) {
			t.Errorf("%s with the old key: %v", i.Name, err)
		}
		if _, err := to.Open(i.Name, sealed); err != nil {
			t.Errorf("%s with the new key: %v", i.Name, err)
		}
		return nil
	})
	if err != nil || objects < 10 || total < objects/2 {
		t.Errorf("%d objects, %d sealed anew, %v", objects, total, err)
	}
	if _, err := Open(t.Context(), f.conf); !errors.Is(err, seal.ErrKey) {
		t.Errorf("opened with the old key: %v", err)
	}
	f.conf.Keys = to
	f.reopen()
	if rep, err := f.repo.Check(t.Context(), CheckOptions{ReadData: true}); err != nil || len(rep.Problems)+len(rep.Rollbacks) > 0 || rep.Snapshots != 2 {
		t.Errorf("check: %+v, %v", rep, err)
	}
	out, _ := f.restore()
	same(t, out, f.src)
	f.write("later", []byte("later"))
	f.settle()
	if _, rep := f.backup(); rep.New != 1 || rep.Read > 100 {
		t.Errorf("the next backup read %d bytes, %d files are new", rep.Read, rep.New)
	}
	if rep, err := f.repo.Check(t.Context(), CheckOptions{}); err != nil || len(rep.Problems)+len(rep.Rollbacks) > 0 {
		t.Errorf("check after the next backup: %+v, %v", rep, err)
	}
	if got := readAll(t, f.repo, first, "/large", 0, -1); !bytes.Equal(got, random(1000, 300<<10)) {
		t.Error("an old snapshot reads other bytes")
	}
	if rep, err := Rekey(t.Context(), mem, from, to, nil); err != nil || rep.Objects != 0 {
		t.Errorf("once more: %+v, %v", rep, err)
	}
	if rep, err := Rekey(t.Context(), mem, from, seal.NewKey().Keys(from.Store()), nil); err != nil || rep.Objects != 0 || len(rep.Foreign) == 0 {
		t.Errorf("objects under neither key: %+v, %v", rep, err)
	}
}
