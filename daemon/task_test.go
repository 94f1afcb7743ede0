package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// machineClock plays the clocks of a machine that sleeps, restarts and has its
// wall clock set.
type machineClock struct {
	mu    sync.Mutex
	boot  string
	wall  time.Duration // how far the wall clock is set from the true time
	awake time.Time     // when the machine started
	slept time.Duration // since then
}

func (c *machineClock) read() reading {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now().Add(c.slept)
	return reading{Wall: now.Round(0).Add(c.wall), Boot: c.boot, Up: now.Sub(c.awake)}
}

func (c *machineClock) set(fn func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fn()
}

// counted is a task that notes its rounds.
type counted struct {
	mu     sync.Mutex
	at     []time.Time
	rounds []int
	fault  error
	during func(ctx context.Context) error
}

func (c *counted) task(name string, every time.Duration) Task {
	return Task{Name: name, Every: every, Run: func(ctx context.Context, round int) (string, error) {
		c.mu.Lock()
		c.at, c.rounds = append(c.at, time.Now()), append(c.rounds, round)
		fault, during := c.fault, c.during
		c.mu.Unlock()
		if during != nil {
			if err := during(ctx); err != nil {
				return "", err
			}
		}
		return fmt.Sprintf("round %d", round), fault
	}}
}

func (c *counted) runs() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.at)
}

// withTask puts the task and the clock into a daemon.
func withTask(c *counted, clock *machineClock, every time.Duration) func(bench, *Config) {
	return func(_ bench, cfg *Config) {
		cfg.Tasks = []Task{c.task("check", every)}
		cfg.clocks = clock.read
	}
}

const week = 7 * 24 * time.Hour

func newMachineClock() *machineClock { return &machineClock{boot: "first", awake: time.Now()} }

// killed keeps the journal as it is, for what the end of b writes to be undone.
func killed(t *testing.T, b bench) (undo func()) {
	t.Helper()
	data, err := os.ReadFile(b.journal.file)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.WriteFile(b.journal.file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTaskInterval: a task comes round at its interval, the first time sooner,
// and is told which round it is.
func TestTaskInterval(t *testing.T) {
	inBubble(t, func(t *testing.T, state string, start time.Time) {
		c := new(counted)
		b := begin(t, state, withTask(c, newMachineClock(), week))
		time.Sleep(week/10 + week/20 + time.Hour)
		if n := c.runs(); n != 1 {
			t.Fatalf("%d runs in a day", n)
		}
		time.Sleep(15 * 24 * time.Hour)
		synctest.Wait()
		if n := c.runs(); n < 2 || n > 3 {
			t.Errorf("%d runs in sixteen days", n)
		}
		for i := 1; i < c.runs(); i++ {
			if gap := c.at[i].Sub(c.at[i-1]); gap < week*9/10 || gap > week*11/10 {
				t.Errorf("run %d after %v", i, gap)
			}
			if c.rounds[i] != i {
				t.Errorf("run %d is called round %d", i, c.rounds[i])
			}
		}
		st := b.Status().Tasks[0]
		if st.State != "idle" || st.Result == "" || st.LastOK.IsZero() || !st.Next.After(time.Now()) {
			t.Errorf("got %+v", st)
		}
	})
}

// TestTaskClockJumps: whatever the wall clock is set to while the daemon runs or
// is restarted, a daily task runs once a day.
func TestTaskClockJumps(t *testing.T) {
	for _, jump := range []time.Duration{-10 * 365 * 24 * time.Hour, -time.Hour, 30 * 24 * time.Hour} {
		t.Run(jump.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T, state string, start time.Time) {
				c, clock := new(counted), newMachineClock()
				b := begin(t, state, withTask(c, clock, 24*time.Hour))
				for step := range 21 {
					time.Sleep(8 * time.Hour)
					switch step {
					case 4, 13:
						clock.set(func() { clock.wall += jump })
					case 6, 15: // as kill -9 does: the journal is that of the last write
						copied := killed(t, b)
						b.stop()
						copied()
						b = begin(t, state, withTask(c, clock, 24*time.Hour))
					}
				}
				synctest.Wait()
				if n := c.runs(); n < 6 || n > 8 {
					t.Errorf("%d runs in a week", n)
				}
				for i := 1; i < c.runs(); i++ {
					if gap := c.at[i].Sub(c.at[i-1]); gap < 20*time.Hour || gap > 28*time.Hour {
						t.Errorf("run %d after %v", i, gap)
					}
				}
			})
		})
	}
}

// TestTaskBrokenClock: a machine whose clock begins anew at each start, and that
// is on for six hours a day, still comes round: the hours it was on count.
func TestTaskBrokenClock(t *testing.T) {
	inBubble(t, func(t *testing.T, state string, start time.Time) {
		c := new(counted)
		for day := range 60 {
			clock := &machineClock{boot: fmt.Sprint("boot ", day), awake: time.Now(), wall: time.Until(start)}
			b := begin(t, state, withTask(c, clock, week))
			time.Sleep(6 * time.Hour)
			b.stop()
			time.Sleep(18 * time.Hour)
		}
		if n := c.runs(); n < 2 || n > 4 { // 360 hours on
			t.Errorf("%d runs", n)
		}
	})
}

// TestTaskCatchUp: what became due while the machine was off or slept runs once,
// some minutes after the backups.
func TestTaskCatchUp(t *testing.T) {
	inBubble(t, func(t *testing.T, state string, start time.Time) {
		c, clock := new(counted), newMachineClock()
		b := begin(t, state, withTask(c, clock, week))
		time.Sleep(2 * 24 * time.Hour)
		b.stop()
		time.Sleep(5 * week) // off
		clock.set(func() { clock.boot, clock.awake = "second", time.Now() })
		b = begin(t, state, withTask(c, clock, week))
		time.Sleep(time.Minute)
		if n := c.runs(); n != 1 {
			t.Errorf("%d runs before the backups", n)
		}
		time.Sleep(time.Hour)
		if n := c.runs(); n != 2 {
			t.Errorf("%d runs after five weeks off", n)
		}
		clock.set(func() { clock.slept += 3 * week })
		b.upkeep.settle() // what watchSleep does
		time.Sleep(time.Hour)
		if n := c.runs(); n != 3 {
			t.Errorf("%d runs after three weeks of sleep", n)
		}
		time.Sleep(24 * time.Hour)
		if n := c.runs(); n != 3 {
			t.Errorf("%d runs, twice for one turn", n)
		}
	})
}

// TestTaskKilled: one that was cut off by kill -9 runs again.
func TestTaskKilled(t *testing.T) {
	inBubble(t, func(t *testing.T, state string, start time.Time) {
		c, clock := new(counted), newMachineClock()
		c.during = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		b := begin(t, state, withTask(c, clock, week))
		time.Sleep(2 * 24 * time.Hour)
		if st := b.Status().Tasks[0]; st.State != "running" {
			t.Errorf("got %+v", st)
		}
		b.stop()
		c.during = nil
		b = begin(t, state, withTask(c, clock, week))
		time.Sleep(time.Hour)
		synctest.Wait()
		if fmt.Sprint(c.rounds) != "[0 0]" || b.Status().Tasks[0].LastOK.IsZero() {
			t.Errorf("rounds %v, %+v", c.rounds, b.Status().Tasks[0])
		}
	})
}

// TestTaskFailures: an error is tried again with growing delays; damage is said
// and waits for the next turn.
func TestTaskFailures(t *testing.T) {
	inBubble(t, func(t *testing.T, state string, start time.Time) {
		c := &counted{fault: errors.New("no route to host")}
		b := begin(t, state, withTask(c, newMachineClock(), week))
		time.Sleep(3 * 24 * time.Hour)
		if n := c.runs(); n < 30 || n > 90 { // an hour apart from some point on
			t.Errorf("%d attempts", n)
		}
		c.mu.Lock()
		c.fault = &Trouble{Err: errors.New("2 objects are damaged"), Hint: "coffer repair", Lasting: true}
		c.mu.Unlock()
		time.Sleep(2 * time.Hour)
		n := c.runs()
		time.Sleep(5 * 24 * time.Hour)
		if c.runs() != n {
			t.Error("damage was looked for again at once")
		}
		if st := b.Status().Tasks[0]; st.State != "failed" || st.Hint != "coffer repair" || !st.Lasting || st.Error != "2 objects are damaged" {
			t.Errorf("got %+v", st)
		}
		c.mu.Lock()
		c.fault = nil
		c.mu.Unlock()
		if st, err := b.RunTask(t.Context(), "check"); err != nil || st.Failures != 0 || st.Error != "" || st.Result != "round 0" {
			t.Errorf("%+v, %v", st, err)
		}
		if _, err := b.RunTask(t.Context(), "chekc"); !errors.Is(err, ErrUnknownTask) {
			t.Errorf("got %v, want %v", err, ErrUnknownTask)
		}
	})
}

// TestTaskWaits: paused, locked or held, nothing begins by itself; what was asked
// for does, and is spared when a hold begins.
func TestTaskWaits(t *testing.T) {
	inBubble(t, func(t *testing.T, state string, start time.Time) {
		c := new(counted)
		var mu sync.Mutex
		hold := "on battery, 12 %"
		b := begin(t, state, func(b bench, cfg *Config) {
			withTask(c, newMachineClock(), week)(b, cfg)
			cfg.Sources = []Source{testSource("docs", "/docs")}
			cfg.Hold = func() string { mu.Lock(); defer mu.Unlock(); return hold }
		})
		time.Sleep(3 * 24 * time.Hour)
		if st := b.Status(); c.runs() != 0 || st.Hold != "on battery, 12 %" || st.Tasks[0].State != "waiting" || st.Sources[0].State != "held" {
			t.Errorf("%d runs, %+v", c.runs(), st)
		}
		wantRuns(t, b, start)
		mu.Lock()
		hold = ""
		mu.Unlock()
		time.Sleep(time.Minute)
		if n := c.runs(); n != 1 {
			t.Errorf("%d runs when the hold ended", n)
		}
		if n := len(b.repo.runs()); n != 1 {
			t.Errorf("%d backups when the hold ended", n)
		}
		b.repo.set(func() { b.repo.takes = time.Hour })
		b.change()
		time.Sleep(10 * time.Second)
		mu.Lock()
		hold = "metered network"
		mu.Unlock()
		time.Sleep(time.Minute)
		if st := b.Status().Sources[0]; st.State != "held" || st.Failures != 0 || st.PendingSince.IsZero() {
			t.Errorf("a backup that began by itself goes on: %+v", st)
		}
		asked := make(chan []Event, 1)
		go func() {
			last, err := b.Backup(t.Context(), nil, nil)
			if err != nil {
				t.Error(err)
			}
			asked <- last
		}()
		if last := <-asked; len(last) != 1 || last[0].Kind != Saved {
			t.Errorf("asked for: %+v", last)
		}
	})
}

// TestBootID: the journal's clock names the start of the machine.
func TestBootID(t *testing.T) {
	want, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	if id := readClocks().Boot; len(id) != 32 || id[:8] != string(want[:8]) {
		t.Errorf("got %q, the kernel says %s", id, want)
	}
	t.Setenv("COFFER_BOOT_ID", "0123")
	if id := readClocks().Boot; id != "0123" {
		t.Errorf("got %q", id)
	}
	a := readClocks()
	b := readClocks()
	if b.Up <= 0 || b.since(a) < 0 || b.since(a) > time.Minute {
		t.Errorf("%+v after %+v", b, a)
	}
}
