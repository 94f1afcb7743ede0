package backup

import (
	"slices"
	"sync"
	"testing"
)

// A tag changes nothing but the tags, and the snapshot it is put on is one at
// each step, wherever the storage stops answering.
func TestTag(t *testing.T) {
	f := newFixture(t)
	f.fill()
	f.settle()
	first, _ := f.backup()
	mem := f.bucket
	for n := int64(1); ; n++ {
		d := &dying{Bucket: mem, late: n%2 == 0}
		f.conf.Bucket = d
		d.left.Store(1)
		f.reopen()
		d.left.Store(n)
		_, err := f.repo.Tag(t.Context(), TagOptions{Source: "src", Add: []string{"b", "a"}})
		f.conf.Bucket = mem
		f.reopen()
		all, lerr := f.repo.Snapshots(t.Context())
		if lerr != nil || len(all) != 1 || all[0].root.Subtree != first.root.Subtree || !all[0].Time.Equal(first.Time) {
			t.Fatalf("after %d calls: %d snapshots, %v", n, len(all), lerr)
		}
		if err == nil && slices.Equal(all[0].Tags, []string{"a", "b"}) && all[0].ID != first.ID {
			break
		}
		if n > 100 {
			t.Fatal(err)
		}
	}
	if rep, err := f.repo.Check(t.Context(), CheckOptions{}); err != nil || len(rep.Problems)+len(rep.Rollbacks) > 0 {
		t.Errorf("check: %+v, %v", rep, err)
	}
	done, err := f.repo.Tag(t.Context(), TagOptions{Source: "src", Remove: []string{"a"}, Add: []string{"c"}})
	if err != nil || len(done) != 1 || !slices.Equal(done[0].Tags, []string{"b", "c"}) {
		t.Errorf("%+v, %v", done, err)
	}
	if done, err = f.repo.Tag(t.Context(), TagOptions{IDs: []string{done[0].ID[:8]}, Set: []string{}}); err != nil || len(done) != 1 || done[0].Tags != nil {
		t.Errorf("%+v, %v", done, err)
	}
	if done, err = f.repo.Tag(t.Context(), TagOptions{Host: "host", Remove: []string{"x"}}); err != nil || len(done) != 0 {
		t.Errorf("nothing to do: %+v, %v", done, err)
	}
	if _, err := f.repo.Tag(t.Context(), TagOptions{IDs: []string{"zzzz"}, Add: []string{"x"}}); err == nil {
		t.Error("tagged what is not there")
	}
}

// Two machines that tag one snapshot at once leave one snapshot with the tags of both.
func TestTagTogether(t *testing.T) {
	f := newFixture(t)
	f.write("a", []byte("a"))
	f.backup()
	for range 20 {
		var wg sync.WaitGroup
		for _, tag := range []string{"x", "y", "z"} {
			conf := f.conf
			conf.CacheDir = t.TempDir()
			r, err := Open(t.Context(), conf)
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				if _, err := r.Tag(t.Context(), TagOptions{Source: "src", Add: []string{tag}}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		all, err := f.repo.Snapshots(t.Context())
		if err != nil || len(all) != 1 || !slices.Equal(all[0].Tags, []string{"x", "y", "z"}) {
			t.Fatalf("%d snapshots, tags %v, %v", len(all), all[0].Tags, err)
		}
		if _, err := f.repo.Tag(t.Context(), TagOptions{Source: "src", Set: []string{}}); err != nil {
			t.Fatal(err)
		}
	}
	if rep, err := f.repo.Check(t.Context(), CheckOptions{}); err != nil || len(rep.Problems)+len(rep.Rollbacks) > 0 {
		t.Errorf("check: %+v, %v", rep, err)
	}
}
