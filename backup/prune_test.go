package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"coffer/backup/pack"
	"coffer/backup/store"
	"coffer/upstream"
)

func (f *fixture) prune(grace time.Duration) PruneReport {
	f.tb.Helper()
	rep, err := f.repo.Prune(context.Background(), PruneOptions{Grace: grace})
	must(f.tb, err)
	return rep
}

func (f *fixture) count(prefix string) (n int) {
	must(f.tb, f.bucket.List(context.Background(), prefix, "", func(upstream.Info) error { n++; return nil }))
	return n
}

// Rules keep what their words say.
func TestForgetRules(t *testing.T) {
	var group []*Snapshot
	day := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range 24 * 400 { // one an hour
		group = append(group, &Snapshot{ID: fmt.Sprintf("%032x", i), Time: day.Add(time.Duration(i) * time.Hour)})
	}
	group[5].Tags = []string{"pin"}
	for _, tt := range []struct {
		keep  Keep
		count int
		has   int // one that must be kept
	}{
		{Keep{Last: 3}, 3, 24*400 - 3},
		{Keep{Hourly: 5}, 5, 24*400 - 5},
		{Keep{Daily: 7}, 7, 24*400 - 1 - 24*6},
		{Keep{Weekly: 4}, 4, 24*400 - 1},
		{Keep{Monthly: 12}, 12, 24*400 - 1},
		{Keep{Yearly: 10}, 2, 24*365 - 1},
		{Keep{Within: 24 * time.Hour}, 24, 24*400 - 24},
		{Keep{Tags: []string{"pin"}}, 1, 5},
		{Keep{Last: 1, Daily: 2}, 2, 24*400 - 1},
	} {
		tt.keep.Location = time.UTC
		reasons := make(map[string][]string)
		tt.keep.reasons(group, reasons)
		if len(reasons) != tt.count || len(reasons[group[tt.has].ID]) == 0 {
			t.Errorf("%+v keeps %d, want %d, and %v", tt.keep, len(reasons), tt.count, group[tt.has].Time)
		}
	}
}

func TestForget(t *testing.T) {
	f := newFixture(t)
	f.fill()
	var ids []string
	for i := range 4 {
		f.write("edit", []byte(fmt.Sprint(i)))
		s, _ := f.backup(func(o *BackupOptions) { o.Time = time.Now().AddDate(0, 0, i-10) })
		ids = append(ids, s.ID)
	}
	if _, err := f.repo.Forget(t.Context(), ForgetOptions{}); err == nil {
		t.Error("without rules everything would be forgotten")
	}
	if _, err := f.repo.Forget(t.Context(), ForgetOptions{IDs: []string{"nothing"}}); !errors.Is(err, ErrNotExist) {
		t.Errorf("an id that is not there: %v", err)
	}
	rep, err := f.repo.Forget(t.Context(), ForgetOptions{Keep: Keep{Last: 2}, DryRun: true})
	if err != nil || len(rep.Removed) != 2 || f.count(store.SnapshotDir) != 4 {
		t.Errorf("dry run: %d removed, %v", len(rep.Removed), err)
	}
	// Another machine forgets: the first must not take that for a rollback.
	other := f.conf
	other.CacheDir = t.TempDir()
	r, err := Open(t.Context(), other)
	must(t, err)
	rep, err = r.Forget(t.Context(), ForgetOptions{Keep: Keep{Last: 2}})
	if err != nil || len(rep.Kept) != 2 || rep.Kept[0].ID != ids[2] || rep.Kept[1].ID != ids[3] {
		t.Errorf("kept %v: %v", rep.Kept, err)
	}
	for _, repo := range []*Repo{f.repo, r} {
		if c, err := repo.Check(t.Context(), CheckOptions{ReadData: true}); err != nil || len(c.Problems)+len(c.Rollbacks) > 0 {
			t.Errorf("%+v, %v", c, err)
		}
	}
}

// A prune removes what is not needed, in two runs, and nothing else.
func TestPrune(t *testing.T) {
	f := newFixture(t)
	f.fill()
	f.write("going", random(8, 700<<10))
	f.settle()
	f.backup()
	must(t, os.Remove(filepath.Join(f.src, "going")))
	must(t, os.Remove(filepath.Join(f.src, "dir1/file8")))
	f.write("mixed", append(random(1000, 150<<10), random(3, 50<<10)...)) // shares chunks with "large"
	f.settle()
	f.backup()
	packs := f.count(store.PackDir)
	if rep := f.prune(time.Hour); rep.Marked != 0 && rep.Rewritten == 0 {
		t.Errorf("everything is needed: %+v", rep)
	}
	f.loseCache()
	_, err := f.repo.Forget(t.Context(), ForgetOptions{Keep: Keep{Last: 1}})
	must(t, err)
	before := f.count(store.PackDir)
	first := f.prune(time.Nanosecond)
	if first.Marked < 10 || first.Removed > 0 || f.count(store.PackDir) < before {
		t.Errorf("first prune: %+v", first)
	}
	f.sound(f.src)
	second := f.prune(time.Nanosecond)
	if second.Removed < 10 || f.count(store.PackDir) > packs/2 {
		t.Errorf("second prune: %+v, %d of %d packs left", second, f.count(store.PackDir), packs)
	}
	f.sound(f.src)
	f.prune(time.Nanosecond)
	if third := f.prune(time.Nanosecond); third.Marked+third.Removed > 0 || f.count(store.DeletionsDir) > 0 {
		t.Errorf("later prunes find something to do: %+v, %d deletions", third, f.count(store.DeletionsDir))
	}
	if _, rep := f.backup(); rep.Read != 0 {
		t.Errorf("after a prune %d bytes were read again", rep.Read)
	}
	f.sound(f.src)
}

// Packs that a snapshot needs and no index describes must not be taken for garbage:
// a repair brings them back.
func TestPruneLostIndex(t *testing.T) {
	f := newFixture(t)
	f.fill()
	f.settle()
	f.backup()
	st := f.repo.st
	names, err := st.ListNames(t.Context(), store.IndexDir)
	must(t, err)
	var trees pack.Index // what is left: the packs with directories
	lost := 0
	must(t, st.EachIndex(t.Context(), names, st.FetchIndex, refuse, func(_ pack.Name, x *pack.Index) error {
		for _, rec := range x.Records {
			if slices.ContainsFunc(rec.Segments, func(s pack.Segment) bool { return s.Tree }) {
				trees.Records = append(trees.Records, rec)
			} else {
				lost++
			}
		}
		return nil
	}))
	if lost == 0 {
		t.Fatal("all packs have directories: the test lost its point")
	}
	_, _, err = st.PutIndex(t.Context(), &trees)
	must(t, err)
	for _, n := range names {
		must(t, f.bucket.Delete(t.Context(), store.IndexDir+n.String()))
	}
	f.loseCache()
	time.Sleep(2 * time.Millisecond)
	rep, err := f.repo.Prune(t.Context(), PruneOptions{Grace: time.Millisecond})
	if !errors.Is(err, store.ErrNoChunk) || rep.Marked+rep.Removed > 0 {
		t.Errorf("pruned without an index: %+v, %v", rep, err)
	}
	fixed, err := f.repo.Repair(t.Context(), RepairOptions{})
	if err != nil || fixed.Packs != lost {
		t.Errorf("%d packs were lost: %+v, %v", lost, fixed, err)
	}
	f.prune(time.Millisecond)
	f.sound(f.src)
}

// One prune that removes what is due, and so replaces the index, and then writes
// packs again, reads the index that it wrote.
func TestPruneRemovesAndRewrites(t *testing.T) {
	f := newFixture(t)
	f.fill()
	both := false
	for round := range 6 {
		f.write("dir0/growing", random(uint64(5000+round), 200<<10))
		must(t, os.RemoveAll(filepath.Join(f.src, fmt.Sprint("dir", round))))
		f.settle()
		f.backup()
		_, err := f.repo.Forget(t.Context(), ForgetOptions{Keep: Keep{Last: 1}})
		must(t, err)
		rep, err := f.repo.Prune(t.Context(), PruneOptions{Grace: time.Nanosecond, MaxUnused: 0.001})
		must(t, err)
		both = both || rep.Removed > 0 && rep.Rewritten > 0
	}
	if !both {
		t.Error("no prune did both: the test lost its point")
	}
	f.sound(f.src)
}

// A process that was open all the time must not rely on what was pruned by
// another: not in a backup, and not in a restore.
func TestPruneElsewhere(t *testing.T) {
	f := newFixture(t)
	f.fill()
	f.settle()
	f.backup()
	old := f.repo
	must(t, os.RemoveAll(filepath.Join(f.src, "dir1")))
	must(t, os.Remove(filepath.Join(f.src, "large")))
	other := f.conf
	other.CacheDir = t.TempDir()
	r, err := Open(t.Context(), other)
	must(t, err)
	f.repo = r
	f.backup()
	_, err = r.Forget(t.Context(), ForgetOptions{Keep: Keep{Last: 1}})
	must(t, err)
	f.prune(time.Nanosecond)
	f.prune(time.Nanosecond)
	f.fill() // the same content comes back
	f.repo = old
	f.backup()
	f.restore()
	f.sound(f.src)
}

// What a prune has marked while a backup was going on and relied on it, stays.
func TestPruneBesideBackup(t *testing.T) {
	f := newFixture(t)
	f.fill()
	f.settle()
	f.backup()
	pruner := f.conf
	pruner.CacheDir = t.TempDir()
	hook := &onPut{Bucket: f.bucket, prefix: store.SnapshotDir}
	hook.do = func() { // the index and the marks were read long ago
		r, err := Open(t.Context(), pruner)
		must(t, err)
		_, err = r.Forget(t.Context(), ForgetOptions{IDs: []string{f.latest()}})
		must(t, err)
		rep, err := r.Prune(t.Context(), PruneOptions{Grace: time.Second})
		if err != nil || rep.Marked == 0 {
			t.Errorf("%+v, %v", rep, err)
		}
	}
	f.conf.Bucket = hook
	f.reopen()
	f.backup()
	f.conf.Bucket = f.bucket
	f.reopen()
	time.Sleep(1100 * time.Millisecond)
	if rep := f.prune(time.Second); rep.Removed > 0 {
		t.Errorf("packs of a newer snapshot were removed: %+v", rep)
	}
	f.sound(f.src)
	// A run that takes too long does not rely on them: it begins anew.
	hook = &onPut{Bucket: f.bucket, prefix: store.PackDir}
	hook.do = func() {
		r, err := Open(t.Context(), pruner)
		must(t, err)
		_, err = r.Forget(t.Context(), ForgetOptions{IDs: []string{f.latest()}})
		must(t, err)
		for range 2 {
			_, err = r.Prune(t.Context(), PruneOptions{Grace: time.Nanosecond})
			must(t, err)
		}
	}
	f.conf.Bucket = hook
	f.write("more", random(6, 10<<10))
	f.settle()
	f.reopen()
	if _, rep := f.backup(); rep.Read < f.sourceBytes() {
		t.Errorf("a run that was overtaken stored nothing again: %+v", rep)
	}
	f.sound(f.src)
}

func (f *fixture) latest() string {
	f.tb.Helper()
	s, err := f.repo.Find(context.Background(), "latest", "")
	must(f.tb, err)
	return s.ID
}

// onPut does something once, before an object of a kind is written.
type onPut struct {
	Bucket
	prefix string
	once   sync.Once
	do     func()
}

func (b *onPut) Put(ctx context.Context, name string, body io.Reader, size int64, o upstream.PutOptions) (upstream.Info, error) {
	if strings.HasPrefix(name, b.prefix) {
		b.once.Do(b.do)
	}
	return b.Bucket.Put(ctx, name, body, size, o)
}

// Two writers and a pruner at once never lose what was acknowledged.
func TestWritersAndPruner(t *testing.T) {
	f := newFixture(t)
	f.fill()
	f.settle()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	want := make([]map[string]string, 2)
	last := make([]string, 2)
	var wg sync.WaitGroup
	for w := range 2 {
		conf := f.conf
		conf.CacheDir = t.TempDir()
		src := filepath.Join(t.TempDir(), "src")
		must(t, os.CopyFS(src, os.DirFS(f.src)))
		r, err := Open(t.Context(), conf)
		must(t, err)
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				// Files come and go, and both write the same ones.
				os.WriteFile(filepath.Join(src, "turn"), random(uint64(i%7), 40<<10), 0o644)
				os.WriteFile(filepath.Join(src, fmt.Sprint(i%5)), random(uint64(i%3), 90<<10), 0o644)
				os.Remove(filepath.Join(src, fmt.Sprint((i+2)%5)))
				s, _, err := r.Backup(t.Context(), BackupOptions{Source: fmt.Sprint("w", w), Paths: []string{src}, Host: "host"})
				if errors.Is(err, errOvertaken) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				last[w], want[w] = s.ID, describe(t, src)
			}
		})
	}
	conf := f.conf
	conf.CacheDir = t.TempDir()
	r, err := Open(t.Context(), conf)
	must(t, err)
	removed := 0
	for ctx.Err() == nil {
		_, err := r.Forget(t.Context(), ForgetOptions{Keep: Keep{Last: 1}})
		if err != nil && !errors.Is(err, ErrNotExist) {
			t.Error(err)
		}
		rep, err := r.Prune(t.Context(), PruneOptions{Grace: time.Second})
		if err != nil && !errors.Is(err, ErrNotExist) {
			t.Error(err)
		}
		removed += rep.Removed
	}
	wg.Wait()
	if removed == 0 {
		t.Error("nothing was removed: the test lost its point")
	}
	f.reopen()
	rep, err := f.repo.Check(t.Context(), CheckOptions{ReadData: true})
	if err != nil || len(rep.Problems)+len(rep.Rollbacks) > 0 {
		t.Errorf("%+v %v, %v", rep.Problems, rep.Rollbacks, err)
	}
	for w := range 2 {
		s, err := f.repo.Find(t.Context(), last[w], "")
		must(t, err)
		out := filepath.Join(t.TempDir(), "out")
		got, err := f.repo.Restore(t.Context(), RestoreOptions{Snapshot: s, To: out})
		if err != nil || len(got.Failed) > 0 {
			t.Errorf("%v, %v", got.Failed, err)
		}
		if a := describe(t, out); lines(a) != lines(want[w]) {
			t.Errorf("writer %d: restored\n%s\nwant\n%s", w, lines(a), lines(want[w]))
		}
	}
}
