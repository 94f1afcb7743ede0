package daemon

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"coffer/backup"
	"coffer/internal/calendar"
)

// told gathers notices.
type told struct {
	mu  sync.Mutex
	all []string
}

func (n *told) tell(notice Notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range notice.Problems {
		n.all = append(n.all, string(notice.Change)+" "+p.ID)
	}
}

// want checks what was told since the last call.
func (n *told) want(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	if fmt.Sprint(n.all) != fmt.Sprint(want) {
		t.Errorf("told %q, want %q", n.all, want)
	}
	n.all = nil
}

// withNotices has a daemon tell problems that last for ten minutes.
func withNotices(n *told, clock *machineClock) func(bench, *Config) {
	return func(b bench, c *Config) {
		c.Notify, c.Notices, c.clocks = n.tell, Notices{After: 10 * time.Minute, Remind: 3 * 24 * time.Hour}, clock.read
	}
}

// TestProblems: one that lasts is told once, again after days, and when it is
// over; weather is not told, and kill -9 does not have anything told twice.
func TestProblems(t *testing.T) {
	inBubble(t, func(t *testing.T, state string, start time.Time) {
		n, clock := new(told), newMachineClock()
		src := testSource("docs", "/docs")
		src.Overdue = 2 * 24 * time.Hour
		b := begin(t, state, withNotices(n, clock), src)
		time.Sleep(time.Minute)
		b.repo.set(func() { b.repo.fault = errors.New("no route to host") })
		for b.Status().Sources[0].Failures == 0 { // its jitter decides when
			time.Sleep(time.Minute)
		}
		b.repo.set(func() { b.repo.fault = nil })
		time.Sleep(20 * time.Minute)
		n.want(t)
		b.repo.set(func() { b.repo.fault = errors.New("no route to host") })
		time.Sleep(5 * time.Hour)
		n.want(t, "problem failing:docs")
		if st := b.Status(); len(st.Problems) != 1 || !strings.Contains(st.Problems[0].Text, "no route to host") || strings.Contains(st.Problems[0].General, "docs") ||
			!strings.HasSuffix(st.String(), "1 problem, 1 retrying, last saved "+st.Sources[0].LastSaved.Format(time.DateTime)) {
			t.Errorf("%s: %+v", st, st.Problems)
		}
		undo := killed(t, b)
		b.stop()
		undo()
		b = begin(t, state, func(x bench, c *Config) {
			withNotices(n, clock)(x, c)
			x.repo.fault = errors.New("no route to host")
		}, src)
		time.Sleep(3 * time.Hour)
		n.want(t)
		time.Sleep(2 * 24 * time.Hour)
		n.want(t, "problem overdue:docs")
		time.Sleep(24 * time.Hour)
		n.want(t, "reminder failing:docs")
		b.repo.set(func() { b.repo.fault = nil })
		time.Sleep(2 * time.Hour)
		n.want(t, "solved failing:docs", "solved overdue:docs")
		if st := b.Status(); len(st.Problems) != 0 {
			t.Errorf("got %+v", st.Problems)
		}
	})
}

// TestProblemKinds: what each is called, and that all but the weather has a hint.
func TestProblemKinds(t *testing.T) {
	inBubble(t, func(t *testing.T, state string, start time.Time) {
		c := &counted{fault: &Trouble{Err: errors.New("2 objects are damaged"), Hint: "coffer repair", Lasting: true}}
		b := begin(t, state, func(b bench, cfg *Config) {
			withTask(c, newMachineClock(), week)(b, cfg)
			cfg.Reload = func() Configured { return Configured{Error: "coffer.toml:1:1: sorce: unknown key"} }
			b.repo.failed = []backup.FileError{{Path: "/docs/secret-name", Err: "denied"}}
		}, testSource("docs", "/docs"))
		time.Sleep(3 * 24 * time.Hour)
		if now, err := b.ReloadConfig(); err != nil || now.Error == "" || now.Loaded.IsZero() {
			t.Errorf("%+v, %v", now, err)
		}
		b.Lock()
		var got []string
		for _, p := range b.Status().Problems {
			got = append(got, p.ID)
			if p.Hint == "" || p.Text == "" || p.General == "" || p.Since.IsZero() || strings.Contains(p.Text+p.General, "secret-name") {
				t.Errorf("got %+v", p)
			}
		}
		if want := "[locked config unreadable:docs task:check]"; fmt.Sprint(got) != want {
			t.Errorf("got %v, want %s", got, want)
		}
	})
}

// TestOverdue: a machine that was off has its chance first.
func TestOverdue(t *testing.T) {
	inBubble(t, func(t *testing.T, state string, start time.Time) {
		n, clock := new(told), newMachineClock()
		src := testSource("docs", "/docs")
		src.Overdue = 24 * time.Hour
		b := begin(t, state, withNotices(n, clock), src)
		time.Sleep(time.Hour)
		b.stop()
		time.Sleep(5 * 24 * time.Hour)
		clock.set(func() { clock.boot, clock.awake = "second", time.Now() })
		b = begin(t, state, func(x bench, c *Config) {
			withNotices(n, clock)(x, c)
			x.repo.takes = 30 * time.Minute
		}, src)
		time.Sleep(20 * time.Minute)
		if st := b.Status(); len(st.Problems) != 0 {
			t.Errorf("overdue before its chance: %+v", st.Problems)
		}
		time.Sleep(2 * time.Hour)
		n.want(t)
		b.Pause(0)
		time.Sleep(26 * time.Hour)
		n.want(t, "problem overdue:docs")
		if st := b.Status(); len(st.Problems) != 1 || st.Problems[0].Hint != "coffer backup docs" || !strings.Contains(st.Problems[0].Text, "hours") {
			t.Errorf("got %+v", st.Problems)
		}
	})
}

// TestUnmounted: a folder that became empty, as the mount point of a disk that is
// not there, is no reason to believe that everything was deleted.
func TestUnmounted(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	inBubble(t, func(t *testing.T, state string, start time.Time) {
		b := begin(t, state, nil, testSource("disk", dir))
		time.Sleep(time.Minute)
		if err := os.Remove(dir + "/file"); err != nil {
			t.Fatal(err)
		}
		last, err := b.Backup(t.Context(), nil, nil) // not even when it is asked for
		if err != nil || last[0].Kind != Failed || !strings.Contains(last[0].Error, "is empty and was not before") || !strings.Contains(last[0].Hint, "allow_unmounted = true") {
			t.Errorf("%+v, %v", last, err)
		}
		if st := b.Status(); st.Sources[0].Hint == "" || len(st.Problems) != 1 || st.Problems[0].ID != "failing:disk" {
			t.Errorf("got %+v", st)
		}
		wantRuns(t, b, start, 0)
		allowed := testSource("disk", dir)
		allowed.AllowUnmounted = true
		if err := b.Reload([]Source{allowed}, nil, Notices{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if last, err = b.Backup(t.Context(), nil, nil); err != nil || last[0].Kind != Saved || b.Status().Sources[0].Hint != "" {
			t.Errorf("%+v, %v", last, err)
		}
		allowed.AllowUnmounted = false
		if err := b.Reload([]Source{allowed}, nil, Notices{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if st := b.Status().Sources[0]; st.Failures != 0 {
			t.Errorf("empty before and now: %+v", st)
		}
	})
}

// TestSchedule: with a schedule nothing else begins a backup, and one that was
// missed is made up for once, whatever the clock is set to.
func TestSchedule(t *testing.T) {
	at, err := calendar.Parse([]string{"02:30"})
	if err != nil {
		t.Fatal(err)
	}
	src := testSource("docs", "/docs")
	src.Schedule = at
	inBubble(t, func(t *testing.T, state string, start time.Time) {
		b := begin(t, state, nil, src)
		time.Sleep(time.Minute)
		wantRuns(t, b, start, 0) // the first need not wait
		b.change()
		time.Sleep(72 * time.Hour)
		synctest.Wait()
		runs := b.repo.runs()
		if len(runs) != 4 {
			t.Fatalf("%d backups in three days: %v", len(runs), runs)
		}
		for _, r := range runs[1:] {
			late := r.Sub(time.Date(r.Year(), r.Month(), r.Day(), 2, 30, 0, 0, time.Local))
			if late < 0 || late > scheduleJitter+wallCheck {
				t.Errorf("%v is %v late", r, late)
			}
		}
		b.stop()
		time.Sleep(7 * 24 * time.Hour)
		b = begin(t, state, nil, src)
		time.Sleep(10 * time.Minute)
		if n := len(b.repo.runs()); n != 1 {
			t.Errorf("%d backups after a week off", n)
		}
		if st := b.Status().Sources[0]; st.Reason != "schedule" || st.Next.Hour() != 2 {
			t.Errorf("got %+v", st)
		}
	})
}
