package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"coffer/backup"
)

// fakeRepo is a repository that notes what it is asked, takes its time, and
// fails when told to.
type fakeRepo struct {
	mu      sync.Mutex
	begun   []time.Time
	options []backup.BackupOptions
	running map[string]int
	most    int // at the same time, of any source
	takes   time.Duration
	fault   error
	during  func() // called while a backup runs
	failed  []backup.FileError
}

func (r *fakeRepo) Backup(ctx context.Context, o backup.BackupOptions) (*backup.Snapshot, backup.Report, error) {
	r.mu.Lock()
	if r.running == nil {
		r.running = make(map[string]int)
	}
	r.begun = append(r.begun, time.Now())
	r.options = append(r.options, o)
	r.running[o.Source]++
	if r.running[o.Source] > 1 {
		panic("two backups of one source")
	}
	all := 0
	for _, n := range r.running {
		all += n
	}
	r.most = max(r.most, all)
	id := fmt.Sprintf("snapshot-%d", len(r.begun))
	takes, fault, during, failed := r.takes, r.fault, r.during, r.failed
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.running[o.Source]--
		r.mu.Unlock()
	}()
	if during != nil {
		during()
	}
	o.Progress(backup.Progress{Phase: "store", Files: 1})
	select {
	case <-ctx.Done():
		return nil, backup.Report{}, ctx.Err()
	case <-time.After(takes):
	}
	if fault != nil {
		return nil, backup.Report{}, fault
	}
	return &backup.Snapshot{ID: id}, backup.Report{Failed: failed}, nil
}

func (r *fakeRepo) runs() []time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]time.Time(nil), r.begun...)
}

func (r *fakeRepo) set(fn func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fn()
}

// fakeKey is a keyring with one right key.
type fakeKey struct {
	mu     sync.Mutex
	locked bool
}

var rightKey = [32]byte{1, 2, 3}

func (k *fakeKey) Unlock(_ context.Context, key [32]byte) error {
	if key != rightKey {
		return errors.New("not the key of this store")
	}
	k.set(false)
	return nil
}

func (k *fakeKey) Lock() { k.set(true) }

func (k *fakeKey) Locked() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.locked
}

func (k *fakeKey) set(locked bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.locked = locked
}

// bench is a daemon with fakes around it.
type bench struct {
	*Daemon
	repo *fakeRepo
	key  *fakeKey
	stop func()
}

func testSource(name, path string) Source {
	return Source{Name: name, Path: path, ScanOnly: true, Quiet: 5 * time.Second, MaxWait: time.Minute, Scan: time.Hour}
}

// begin runs a daemon until the test ends.
func begin(t *testing.T, state string, change func(bench, *Config), sources ...Source) bench {
	t.Helper()
	b := bench{repo: &fakeRepo{takes: time.Second}, key: &fakeKey{}}
	c := Config{
		Sources: sources, StateDir: state, Key: b.key,
		Open: func(context.Context) (Repo, error) {
			if b.key.Locked() {
				return nil, ErrLocked
			}
			return b.repo, nil
		},
	}
	if change != nil {
		change(b, &c)
	}
	d, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	b.Daemon = d
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	b.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(b.stop)
	return b
}

// change plays the watcher of the first source.
func (b bench) change() {
	sources, _ := b.find(nil)
	sources[0].changed()
}

// wantRuns checks when backups began, in seconds after start.
func wantRuns(t *testing.T, b bench, start time.Time, want ...float64) {
	t.Helper()
	synctest.Wait()
	var got []float64
	for _, at := range b.repo.runs() {
		got = append(got, at.Sub(start).Seconds())
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("backups began after %v s, want %v", got, want)
	}
}

// inBubble runs fn with time that passes when all wait.
func inBubble(t *testing.T, fn func(t *testing.T, state string, start time.Time)) {
	state := t.TempDir()
	// Months pass in a bubble, and the journal is written each hour: not to a disk.
	if dir, err := os.MkdirTemp("/dev/shm", "coffer-test-"); err == nil {
		state = dir
		defer os.RemoveAll(dir)
	}
	synctest.Test(t, func(t *testing.T) { fn(t, state, time.Now()) })
}

// TestStart: nobody watched while the daemon was not there.
func TestStart(t *testing.T) {
	inBubble(t, func(t *testing.T, state string, start time.Time) {
		b := begin(t, state, nil, testSource("docs", "/docs"))
		time.Sleep(10 * time.Minute)
		wantRuns(t, b, start, 0)
		st := b.Status().Sources[0]
		if st.State != "idle" || st.Snapshot != "snapshot-1" || !st.PendingSince.IsZero() || !st.LastSaved.Equal(start.Add(time.Second)) {
			t.Errorf("got %+v", st)
		}
	})
}

// TestQuiet: a backup waits until the changes are quiet, but not for ever.
func TestQuiet(t *testing.T) {
	inBubble(t, func(t *testing.T, state string, start time.Time) {
		b := begin(t, state, nil, testSource("docs", "/docs"))
		time.Sleep(10 * time.Second)
		for range 4 { // at 10, 12, 14, 16
			b.change()
			time.Sleep(2 * time.Second)
		}
		time.Sleep(10 * time.Second) // 28
		wantRuns(t, b, start, 0, 21)
		time.Sleep(72 * time.Second) // 100
		for range 40 {               // not quiet at 100, 103.5, ... 236.5
			b.change()
			time.Sleep(3500 * time.Millisecond)
		}
		time.Sleep(20 * time.Second)
		wantRuns(t, b, start, 0, 21, 160, 223, 241.5) // MaxWait after 100 and 163, Quiet after 236.5
	})
}

// TestScan: the interval brings what the watcher missed, give or take a tenth.
func TestScan(t *testing.T) {
	inBubble(t, func(t *testing.T, state string, start time.Time) {
		b := begin(t, state, nil, testSource("docs", "/docs"))
		time.Sleep(24*time.Hour + time.Minute)
		synctest.Wait()
		runs := b.repo.runs()
		if len(runs) < 22 || len(runs) > 27 {
			t.Errorf("%d scans in a day at an hour's interval", len(runs))
		}
		same := 0
		for i := 1; i < len(runs); i++ {
			gap := runs[i].Sub(runs[i-1]) - time.Second
			if gap < 54*time.Minute || gap > 66*time.Minute {
				t.Errorf("scan %d after %v", i, gap)
			}
			if gap == time.Hour {
				same++
			}
		}
		if same > 2 {
			t.Error("no jitter: many machines would come at the same moment")
		}
	})
}

// TestChangeDuring: what changes while a backup runs belongs to the next one.
func TestChangeDuring(t *testing.T) {
	inBubble(t, func(t *testing.T, state string, start time.Time) {
		b := begin(t, state, nil, testSource("docs", "/docs"))
		time.Sleep(10 * time.Second)
		b.repo.set(func() { b.repo.takes = 30 * time.Second })
		b.change() // 10, runs 15 to 45
		time.Sleep(20 * time.Second)
		b.change() // 30
		time.Sleep(5 * time.Second)
		if st := b.Status().Sources[0]; st.State != "running" || st.Progress == nil || !st.PendingSince.Equal(start.Add(10*time.Second)) {
			t.Errorf("got %+v", st)
		}
		time.Sleep(14 * time.Second) // 49
		wantRuns(t, b, start, 0, 15, 45)
		if st := b.Status().Sources[0]; !st.PendingSince.Equal(start.Add(30 * time.Second)) {
			t.Errorf("pending since %v", st.PendingSince.Sub(start))
		}
	})
}

// TestFailures: delays double up to an hour, and a success ends them.
func TestFailures(t *testing.T) {
	inBubble(t, func(t *testing.T, state string, start time.Time) {
		b := begin(t, state, func(b bench, _ *Config) { b.repo.fault = errors.New("no route to host") }, testSource("docs", "/docs"))
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		runs := b.repo.runs()
		if n := len(runs); n < 22 || n > 40 {
			t.Errorf("%d attempts in a day", n)
		}
		for i := 1; i < len(runs); i++ {
			want := min(time.Minute<<(i-1), time.Hour)
			if i > 10 {
				want = time.Hour
			}
			gap := runs[i].Sub(runs[i-1]) - time.Second
			if gap < want*3/4 || gap > want*5/4 {
				t.Errorf("attempt %d after %v, want about %v", i+1, gap, want)
			}
		}
		st := b.Status().Sources[0]
		if st.State != "retrying" || st.Failures != len(runs) || st.LastError != "no route to host" || !st.PendingSince.Equal(start) {
			t.Errorf("got %+v", st)
		}
		// A change does not make it hammer.
		before := len(runs)
		b.change()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(b.repo.runs()) - before; n > 1 {
			t.Errorf("%d attempts in a minute", n)
		}
		b.repo.set(func() { b.repo.fault = nil })
		time.Sleep(80 * time.Minute)
		if st := b.Status().Sources[0]; st.Failures != 0 || st.LastError != "" || !st.PendingSince.IsZero() {
			t.Errorf("after a success: %+v", st)
		}
	})
}

// TestUnreadable: files that cannot be read do not make the run a failure.
func TestUnreadable(t *testing.T) {
	inBubble(t, func(t *testing.T, state string, start time.Time) {
		b := begin(t, state, func(b bench, _ *Config) { b.repo.failed = []backup.FileError{{Path: "/docs/a", Err: "denied"}} }, testSource("docs", "/docs"))
		time.Sleep(10 * time.Second)
		if st := b.Status().Sources[0]; st.State != "idle" || st.Unreadable != 1 {
			t.Errorf("got %+v", st)
		}
		wantRuns(t, b, start, 0)
	})
}

// TestLocked: without the key changes are noted, and saved when it comes.
func TestLocked(t *testing.T) {
	inBubble(t, func(t *testing.T, state string, start time.Time) {
		b := begin(t, state, func(b bench, _ *Config) { b.key.Lock() }, testSource("docs", "/docs"))
		time.Sleep(time.Minute)
		b.change()
		time.Sleep(3 * time.Hour)
		wantRuns(t, b, start)
		if st := b.Status(); !st.Locked || st.Sources[0].State != "locked" || !st.Sources[0].PendingSince.Equal(start.Add(time.Minute)) || !st.Sources[0].Next.IsZero() {
			t.Errorf("got %+v", st)
		}
		if _, err := b.Backup(t.Context(), nil, nil); !errors.Is(err, ErrLocked) {
			t.Errorf("got %v, want %v", err, ErrLocked)
		}
		if err := b.Unlock(t.Context(), [32]byte{9}); err == nil || !b.Status().Locked {
			t.Error("a wrong key was taken")
		}
		if err := b.Unlock(t.Context(), rightKey); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		wantRuns(t, b, start, 3*3600+60)
		if st := b.Status().Sources[0]; !st.PendingSince.IsZero() {
			t.Errorf("got %+v", st)
		}
	})
}

// TestLockStops: Lock ends a running backup, and that is no failure.
func TestLockStops(t *testing.T) {
	inBubble(t, func(t *testing.T, state string, start time.Time) {
		b := begin(t, state, func(b bench, _ *Config) { b.repo.takes = time.Hour }, testSource("docs", "/docs"))
		time.Sleep(time.Minute)
		b.Daemon.Lock()
		synctest.Wait()
		if st := b.Status().Sources[0]; st.State != "locked" || st.Failures != 0 || !st.PendingSince.Equal(start) {
			t.Errorf("got %+v", st)
		}
		b.repo.set(func() { b.repo.takes = time.Second })
		if err := b.Unlock(t.Context(), rightKey); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		wantRuns(t, b, start, 0, 60)
	})
}

// TestPause: nothing begins by itself, what is asked for does, and then it catches up.
func TestPause(t *testing.T) {
	inBubble(t, func(t *testing.T, state string, start time.Time) {
		b := begin(t, state, nil, testSource("docs", "/docs"))
		time.Sleep(100 * time.Second)
		b.Pause(2 * time.Hour)
		b.change()
		time.Sleep(100 * time.Second) // 200
		if last, err := b.Backup(t.Context(), []string{"docs"}, nil); err != nil || last[0].Kind != Saved {
			t.Errorf("got %v, %v", last, err)
		}
		b.change() // 201
		time.Sleep(time.Hour)
		wantRuns(t, b, start, 0, 200)
		if st := b.Status(); !st.Paused || !st.PausedUntil.Equal(start.Add(7300*time.Second)) || st.Sources[0].State != "paused" {
			t.Errorf("got %+v", st)
		}
		time.Sleep(time.Hour)
		wantRuns(t, b, start, 0, 200, 7300)
		b.Pause(0)
		time.Sleep(48 * time.Hour)
		wantRuns(t, b, start, 0, 200, 7300)
		b.Resume()
		time.Sleep(time.Minute)
		if n := len(b.repo.runs()); n != 4 {
			t.Errorf("%d backups, want 4: it did not catch up", n)
		}
	})
}

// TestPauseStops: a pause ends a running backup, and that is no failure.
func TestPauseStops(t *testing.T) {
	inBubble(t, func(t *testing.T, state string, start time.Time) {
		b := begin(t, state, func(b bench, _ *Config) { b.repo.takes = time.Hour }, testSource("docs", "/docs"))
		time.Sleep(time.Minute)
		b.Pause(time.Minute)
		synctest.Wait()
		if st := b.Status().Sources[0]; st.State != "paused" || st.Failures != 0 {
			t.Errorf("got %+v", st)
		}
		time.Sleep(time.Minute)
		wantRuns(t, b, start, 0, 120)
	})
}

// TestSleep: after the machine slept, the source is scanned soon.
func TestSleep(t *testing.T) {
	inBubble(t, func(t *testing.T, state string, start time.Time) {
		var slept atomic.Int64
		repo := &fakeRepo{takes: time.Second}
		d, err := New(Config{Sources: []Source{testSource("docs", "/docs")}, StateDir: state, Key: &fakeKey{},
			Open: func(context.Context) (Repo, error) { return repo, nil }})
		if err != nil {
			t.Fatal(err)
		}
		d.slept = func() time.Duration { return time.Duration(slept.Load()) }
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- d.Run(ctx) }()
		time.Sleep(10 * time.Minute)
		slept.Add(int64(8 * time.Hour))
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if n := len(repo.runs()); n != 2 {
			t.Errorf("%d scans, want 2: at the start and after sleep", n)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestTimeAsleep(t *testing.T) {
	if d := timeAsleep(); d < 0 {
		t.Errorf("slept for %v", d)
	}
}

// TestJournal: what is pending, failed or paused survives a kill, which is a
// second daemon on the same folder once the lock is gone.
func TestJournal(t *testing.T) {
	inBubble(t, func(t *testing.T, state string, start time.Time) {
		b := begin(t, state, nil, testSource("docs", "/docs"))
		time.Sleep(time.Minute)
		b.repo.set(func() { b.repo.fault = errors.New("full") })
		b.change()
		time.Sleep(4 * time.Minute)
		b.Pause(time.Hour)
		failures := b.Status().Sources[0].Failures
		file := filepath.Join(state, "journal.json")
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		b.stop() // writes again
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		again := begin(t, state, nil, testSource("docs", "/docs"))
		synctest.Wait()
		st := again.Status()
		s := st.Sources[0]
		if !st.Paused || s.Failures != failures || failures == 0 || s.LastError != "full" || s.Snapshot != "snapshot-1" || !s.PendingSince.Equal(start.Add(time.Minute)) {
			t.Errorf("got %+v", st)
		}
		time.Sleep(2 * time.Hour)
		if s := again.Status().Sources[0]; s.Failures != 0 || !s.PendingSince.IsZero() {
			t.Errorf("it did not catch up: %+v", s)
		}
	})
}

// TestJournalBroken: a journal that is damaged, foreign or too large costs a scan.
func TestJournalBroken(t *testing.T) {
	for _, text := range []string{"", "{", `{"version":2,"sources":{}}`, `{"version":1,"sources":{"docs":{"failures":"many"}}}`, `{"version":1,"sources":null}`, string(make([]byte, maxJournal+1))} {
		inBubble(t, func(t *testing.T, state string, start time.Time) {
			if err := os.WriteFile(filepath.Join(state, "journal.json"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			b := begin(t, state, nil, testSource("docs", "/docs"))
			time.Sleep(time.Minute)
			wantRuns(t, b, start, 0)
		})
	}
}

// FuzzJournal: no journal makes the daemon panic.
func FuzzJournal(f *testing.F) {
	f.Add([]byte(`{"version":1,"pause":{"on":true},"sources":{"docs":{"failures":1,"retry_at":"2026-01-01T00:00:00Z"}}}`))
	f.Add([]byte(`{"version":1,"sources":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		file := filepath.Join(t.TempDir(), "journal.json")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := readJournal(file)
		if err == nil && c.Version != 1 {
			t.Errorf("version %d was taken", c.Version)
		}
	})
}

// TestTwoDaemons: two with one journal would undo each other's notes.
func TestTwoDaemons(t *testing.T) {
	inBubble(t, func(t *testing.T, state string, start time.Time) {
		b := begin(t, state, nil, testSource("docs", "/docs"))
		synctest.Wait()
		d, err := New(Config{StateDir: state, Key: b.key, Open: b.c.Open})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Run(t.Context()); !errors.Is(err, ErrRunning) {
			t.Errorf("got %v, want %v", err, ErrRunning)
		}
	})
}

// TestParallel: few sources at a time, and each gets its turn.
func TestParallel(t *testing.T) {
	inBubble(t, func(t *testing.T, state string, start time.Time) {
		var sources []Source
		for i := range 7 {
			sources = append(sources, testSource(fmt.Sprint("s", i), fmt.Sprint("/s", i)))
		}
		b := begin(t, state, nil, sources...)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(b.repo.runs()); n != 7 || b.repo.most != 2 {
			t.Errorf("%d backups, %d at a time", n, b.repo.most)
		}
	})
}

// TestBackupNow: what is asked for begins after the request, so that it holds
// every change made before, even when a backup runs at that moment.
func TestBackupNow(t *testing.T) {
	inBubble(t, func(t *testing.T, state string, start time.Time) {
		b := begin(t, state, nil, testSource("docs", "/docs"), testSource("pics", "/pics"))
		b.repo.set(func() { b.repo.takes = 10 * time.Second })
		time.Sleep(time.Minute)
		b.change() // docs runs from 65 to 75
		time.Sleep(7 * time.Second)
		var told []string
		last, err := b.Backup(t.Context(), []string{"docs", "docs"}, func(e Event) { told = append(told, string(e.Kind)) })
		if err != nil || len(last) != 1 || last[0].Kind != Saved || last[0].Snapshot != "snapshot-4" {
			t.Errorf("got %+v, %v", last, err)
		}
		if got := time.Since(start).Seconds(); got != 85 {
			t.Errorf("ended after %v s, want 85", got)
		}
		if want := "[started progress saved]"; fmt.Sprint(told) != want {
			t.Errorf("told of %v, want %v", told, want)
		}
		if _, err := b.Backup(t.Context(), []string{"nope"}, nil); !errors.Is(err, ErrUnknownSource) {
			t.Errorf("got %v, want %v", err, ErrUnknownSource)
		}
		b.repo.set(func() { b.repo.fault = errors.New("full") })
		last, err = b.Backup(t.Context(), nil, nil)
		if err != nil || len(last) != 2 || last[0].Kind != Failed || last[0].Error != "full" {
			t.Errorf("got %+v, %v", last, err)
		}
	})
}

// TestReload: a source that is the same goes on, one that is gone stops.
func TestReload(t *testing.T) {
	inBubble(t, func(t *testing.T, state string, start time.Time) {
		b := begin(t, state, func(b bench, _ *Config) { b.repo.takes = time.Minute }, testSource("docs", "/docs"), testSource("pics", "/pics"))
		time.Sleep(10 * time.Second)
		asked := make(chan []Event, 1)
		go func() {
			last, _ := b.Backup(t.Context(), []string{"pics"}, nil)
			asked <- last
		}()
		synctest.Wait()
		if err := b.Reload([]Source{{Name: "bad"}}, nil, Notices{}); err == nil {
			t.Error("a source without a path was taken")
		}
		if err := b.Reload([]Source{testSource("new", "/new"), testSource("docs", "/docs")}, nil, Notices{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		st := b.Status()
		if len(st.Sources) != 2 || st.Sources[0].Name != "new" || st.Sources[0].State != "running" || st.Sources[1].State != "running" {
			t.Errorf("got %+v", st.Sources)
		}
		if last := <-asked; len(last) != 1 || last[0].Kind != Stopped && last[0].Kind != Failed {
			t.Errorf("the request for the source that is gone: %+v", last)
		}
		time.Sleep(60 * time.Second)
		synctest.Wait()
		if st := b.Status().Sources[1]; !st.LastSaved.Equal(start.Add(time.Minute)) {
			t.Errorf("docs was disturbed: %+v", st)
		}
	})
}

// TestPrivate: the daemon's own folders change with each backup: in a source
// they would keep it busy for ever.
func TestPrivate(t *testing.T) {
	inBubble(t, func(t *testing.T, state string, start time.Time) {
		s := testSource("home", "/home/anna")
		s.Exclude = []string{"*.o"}
		b := begin(t, state, func(_ bench, c *Config) {
			c.Private = []string{"/home/anna/.cache/coffer", "/home/anna", "/var/lib/x", "/home/anna/a b[1]"}
		}, s)
		time.Sleep(time.Minute)
		synctest.Wait()
		got := fmt.Sprintf("%q", b.repo.options[0].Exclude)
		if want := `["*.o" "/.cache/coffer" "/a\\ b\\[1]"]`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

func TestConfig(t *testing.T) {
	open := func(context.Context) (Repo, error) { return nil, nil }
	good := testSource("a", "/a")
	bad := func(change func(*Source)) []Source {
		s := good
		change(&s)
		return []Source{s}
	}
	for name, c := range map[string]Config{
		"state":   {Open: open, Key: &fakeKey{}},
		"open":    {StateDir: "/s", Key: &fakeKey{}},
		"key":     {StateDir: "/s", Open: open},
		"twice":   {StateDir: "/s", Open: open, Key: &fakeKey{}, Sources: []Source{good, good}},
		"no name": {StateDir: "/s", Open: open, Key: &fakeKey{}, Sources: bad(func(s *Source) { s.Name = "" })},
		"path":    {StateDir: "/s", Open: open, Key: &fakeKey{}, Sources: bad(func(s *Source) { s.Path = "a" })},
		"quiet":   {StateDir: "/s", Open: open, Key: &fakeKey{}, Sources: bad(func(s *Source) { s.Quiet = 0 })},
		"wait":    {StateDir: "/s", Open: open, Key: &fakeKey{}, Sources: bad(func(s *Source) { s.MaxWait = 1 })},
		"scan":    {StateDir: "/s", Open: open, Key: &fakeKey{}, Sources: bad(func(s *Source) { s.Scan = 0 })},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
