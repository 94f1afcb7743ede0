package backup

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"coffer/backup/store"
	"coffer/upstream"
)

var (
	rounds     = flag.Int("rounds", 40, "of work over storage that lies")
	roundsSeed = flag.Uint64("rounds-seed", 1, "of its faults")
)

// unreliable is storage at its worst: calls fail or hang until they time out,
// effects take place though the answer is lost, lists are those of a while ago,
// bodies are cut, altered, or those of another object.
type unreliable struct {
	*memory
	mu    sync.Mutex
	rng   *rand.Rand
	rate  int // of a thousand calls so many go wrong; 0: none
	old   []upstream.Info
	wrong map[string]int // what was done, by kind
}

func (u *unreliable) fault(kinds ...string) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.rng.IntN(1000) >= u.rate {
		return ""
	}
	kind := kinds[u.rng.IntN(len(kinds))]
	u.wrong[kind]++
	return kind
}

func (u *unreliable) change(kind string, do func() error) error {
	switch kind {
	case "fails":
		return fmt.Errorf("refused: %w", upstream.ErrUnavailable)
	case "hangs":
		return fmt.Errorf("no answer: %w: %w", upstream.ErrUnavailable, context.DeadlineExceeded)
	}
	err := do()
	if err == nil && kind == "answer lost" {
		err = fmt.Errorf("connection reset: %w", upstream.ErrUnavailable)
	}
	return err
}

func (u *unreliable) Put(ctx context.Context, name string, body io.Reader, size int64, o upstream.PutOptions) (i upstream.Info, err error) {
	err = u.change(u.fault("fails", "hangs", "answer lost"), func() error { i, err = u.memory.Put(ctx, name, body, size, o); return err })
	return i, err
}

func (u *unreliable) Delete(ctx context.Context, name string) error {
	return u.change(u.fault("fails", "hangs", "answer lost"), func() error { return u.memory.Delete(ctx, name) })
}

func (u *unreliable) Head(ctx context.Context, name string) (i upstream.Info, err error) {
	err = u.change(u.fault("fails", "hangs"), func() error { i, err = u.memory.Head(ctx, name); return err })
	return i, err
}

func (u *unreliable) List(ctx context.Context, prefix, after string, fn func(upstream.Info) error) error {
	kind := u.fault("fails", "list stale")
	if kind != "list stale" {
		return u.change(kind, func() error { return u.memory.List(ctx, prefix, after, fn) })
	}
	u.mu.Lock()
	old := u.old
	u.mu.Unlock()
	for _, i := range old {
		if strings.HasPrefix(i.Name, prefix) && i.Name > after {
			if err := fn(i); err != nil {
				return err
			}
		}
	}
	return nil
}

func (u *unreliable) Get(ctx context.Context, name string, off, n int64) (rc io.ReadCloser, i upstream.Info, err error) {
	kind := u.fault("fails", "hangs", "cut", "shorter", "flipped", "swapped")
	asked := name
	if kind == "swapped" {
		u.mu.Lock()
		if len(u.old) > 0 {
			name = u.old[u.rng.IntN(len(u.old))].Name
		}
		u.mu.Unlock()
	}
	err = u.change(kind, func() error { rc, i, err = u.memory.Get(ctx, name, off, n); return err })
	if err != nil {
		return nil, upstream.Info{}, err
	}
	i.Name = asked
	b, err := io.ReadAll(rc)
	if err != nil {
		return nil, i, err
	}
	var end io.Reader = strings.NewReader("")
	switch b = bytes.Clone(b); {
	case len(b) == 0:
	case kind == "flipped":
		b[len(b)/2] ^= 4
	case kind == "cut":
		b = b[:len(b)/2]
		end = failing{}
	case kind == "shorter":
		b = b[:len(b)/2]
	}
	return io.NopCloser(io.MultiReader(bytes.NewReader(b), end)), i, nil
}

// failing is a connection that breaks off.
type failing struct{}

// Read implements [io.Reader].
func (failing) Read([]byte) (int, error) {
	return 0, fmt.Errorf("reading: %w: %w", upstream.ErrUnavailable, io.ErrUnexpectedEOF)
}

// remember makes what is there the lists and the objects of a while ago.
func (u *unreliable) remember() {
	var now []upstream.Info
	u.memory.List(context.Background(), "", "", func(i upstream.Info) error { now = append(now, i); return nil })
	u.mu.Lock()
	u.old = now
	u.mu.Unlock()
}

// foreseen reports whether an error is one that such storage excuses.
func foreseen(err error) bool {
	return err == nil || errors.Is(err, upstream.ErrUnavailable) || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrNotExist) ||
		errors.Is(err, ErrVersion) || errors.Is(err, errOvertaken) || strings.Contains(err.Error(), "another backup key")
}

// However storage fails or lies while work goes on: no snapshot that was
// acknowledged and not forgotten is lost or wrong, and once it tells the truth
// again, so does check. Lists may be as old as the grace time is long.
func TestUnreliableUpstream(t *testing.T) {
	f := newFixture(t)
	u := &unreliable{memory: f.bucket.(*memory), rng: rand.New(rand.NewPCG(*roundsSeed, 4)), wrong: make(map[string]int)}
	f.conf.Bucket = u
	f.fill()
	f.settle()
	known := make(map[string]map[string]string)
	acknowledged, failed := 0, 0
	for round := range *rounds {
		u.remember()
		u.rate = 50
		if round%6 == 5 {
			u.rate = 0 // something must succeed
		}
		f.write(fmt.Sprintf("turn%d", round%9), random(uint64(round), 30<<10))
		f.write("same", random(uint64(round%3), 60<<10))
		os.Remove(filepath.Join(f.src, fmt.Sprintf("turn%d", (round+3)%9)))
		f.settle()
		if round%4 == 0 {
			f.conf.CacheDir = t.TempDir()
		}
		r, err := Open(t.Context(), f.conf)
		if err == nil {
			switch round % 3 {
			case 0, 1:
				var s *Snapshot
				s, _, err = r.Backup(t.Context(), BackupOptions{Source: "src", Paths: []string{f.src}, Host: "host"})
				if err == nil {
					acknowledged++
					known[s.ID] = describe(t, f.src)
				}
			case 2:
				var rep ForgetReport
				rep, err = r.Forget(t.Context(), ForgetOptions{Keep: Keep{Last: 4}})
				for _, s := range rep.Removed {
					delete(known, s.ID)
				}
				if err == nil {
					_, err = r.Prune(t.Context(), PruneOptions{Grace: 200 * time.Millisecond, MaxUnused: 0.05})
				}
			}
		}
		if !foreseen(err) {
			t.Fatalf("seed %d, round %d: %v", *roundsSeed, round, err)
		}
		if err != nil {
			failed++
		}
		u.rate = 0
		f.intact(t, known, fmt.Sprintf("seed %d, round %d (%v)", *roundsSeed, round, err))
	}
	if acknowledged < *rounds/8 || failed < *rounds/5 || len(u.wrong) < 6 {
		t.Errorf("%d acknowledged, %d failed, faults %v: the test lost its point", acknowledged, failed, u.wrong)
	}
	t.Logf("%d acknowledged, %d failed, faults %v, %d packs", acknowledged, failed, u.wrong, f.count(store.PackDir))
}

// intact verifies all data, and that the snapshots that are known restore to what
// they were taken of.
func (f *fixture) intact(t *testing.T, known map[string]map[string]string, when string) {
	t.Helper()
	conf := f.conf
	conf.CacheDir = ""
	r, err := Open(t.Context(), conf)
	must(t, err)
	rep, err := r.Check(t.Context(), CheckOptions{ReadData: true})
	if err != nil || len(rep.Problems)+len(rep.Rollbacks) > 0 {
		t.Fatalf("%s: check: %+v %v, %v", when, rep.Problems, rep.Rollbacks, err)
	}
	newest := ""
	for id := range known {
		s, err := r.Find(t.Context(), id, "")
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		newest = s.ID
	}
	if newest == "" {
		return
	}
	s, err := r.Find(t.Context(), newest, "")
	must(t, err)
	to := filepath.Join(t.TempDir(), "out")
	got, err := r.Restore(t.Context(), RestoreOptions{Snapshot: s, To: to})
	if err != nil || len(got.Failed) > 0 {
		t.Fatalf("%s: restore: %v, %v", when, got.Failed, err)
	}
	if a := describe(t, to); lines(a) != lines(known[newest]) {
		t.Fatalf("%s: restored\n%s\nwant\n%s", when, lines(a), lines(known[newest]))
	}
	os.RemoveAll(to)
}
