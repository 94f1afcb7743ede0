package backup

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"coffer/backup/store"
	"coffer/upstream"
)

// lockingBucket notes what is locked anew; upstream/s3_lock_test.go does it for real.
type lockingBucket struct {
	Bucket
	mu       sync.Mutex
	extended map[string]time.Time
	err      error
}

func (b *lockingBucket) Locks(string) bool { return true }

func (b *lockingBucket) Extend(_ context.Context, name string, written time.Time) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.extended[name] = written
	return true, b.err
}

func (b *lockingBucket) Hidden(context.Context, string) (upstream.Hidden, error) {
	return upstream.Hidden{Objects: 3, Bytes: 1000}, nil
}

// TestRelock: a prune locks anew what is needed, not the packs that it has marked.
func TestRelock(t *testing.T) {
	f := newFixture(t)
	f.fill()
	f.settle()
	f.backup()
	b := &lockingBucket{Bucket: f.bucket, extended: make(map[string]time.Time)}
	f.conf.Bucket = b
	f.reopen()
	marks, err := f.repo.deletions(t.Context())
	must(t, err)
	if len(marks) != 0 {
		t.Fatalf("%d deletions", len(marks))
	}
	rep := f.prune(time.Hour)
	total := f.count(store.Root)
	if rep.Locks != (Relocked{Extended: total, Hidden: 3, HiddenBytes: 1000}) || len(b.extended) != total {
		t.Errorf("%+v, of %d objects", rep.Locks, total)
	}
	if at, ok := b.extended[store.ConfigName]; !ok || !at.IsZero() {
		t.Error("the config, which setup wrote before there was a lock, may stay unlocked")
	}
	_, err = f.repo.Forget(t.Context(), ForgetOptions{Keep: Keep{Last: 1}})
	must(t, err)
	f.write("large", random(77, 100)) // what it held is needed no more
	f.settle()
	f.backup()
	_, err = f.repo.Forget(t.Context(), ForgetOptions{Keep: Keep{Last: 1}})
	must(t, err)
	clear(b.extended)
	marked := f.prune(time.Hour)
	if marked.Marked == 0 {
		t.Fatal("nothing was marked")
	}
	packs := 0
	for name := range b.extended {
		if len(name) > len(store.PackDir) && name[:len(store.PackDir)] == store.PackDir {
			packs++
		}
	}
	if want := f.count(store.PackDir) - marked.Marked; packs != want {
		t.Errorf("%d packs were locked anew, want %d", packs, want)
	}
	b.err = errors.New("hidden by a thief")
	if _, err := f.repo.Prune(t.Context(), PruneOptions{}); !errors.Is(err, b.err) {
		t.Errorf("a needed object cannot be locked: %v", err)
	}
}
