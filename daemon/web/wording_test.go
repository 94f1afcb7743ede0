package web

import (
	"strings"
	"testing"
	"time"

	"coffer/backup"
	"coffer/daemon"
)

func TestWording(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000"} {
		if got := countText(n); got != want {
			t.Errorf("count %d: got %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "under 1 ms", 20 * time.Millisecond: "20 ms", 1500 * time.Millisecond: "1.5 s", 59 * time.Second: "59 s",
		90 * time.Second: "1 min 30 s", time.Hour: "1 h", 125 * time.Minute: "2 h 5 min", 50 * time.Hour: "2 d 2 h"} {
		if got := tookText(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
	now := time.Now()
	for d, want := range map[time.Duration]string{0: "just now", time.Minute: "1 minute ago", 2 * time.Hour: "2 hours ago", 72 * time.Hour: "3 days ago", -30 * time.Second: "in a moment", -61 * time.Minute: "in 1 hour"} {
		if got := moment(now.Add(-d), now, ""); got.Text != want || got.ISO == "" {
			t.Errorf("%v: got %+v, want %q", d, got, want)
		}
	}
	if got := moment(time.Time{}, now, "never"); got != (stamp{Text: "never"}) {
		t.Errorf("got %+v", got)
	}
	for in, want := range map[string]string{"Grüße": "Grüße", "a\nb": "a\uFFFDb", "a\u202eb\u2066": "a\uFFFDb\uFFFD", "\xff": "\uFFFD", "\x9b": "\uFFFD", "\u0085": "\uFFFD"} {
		if got := printable(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// TestHeadline: the worst is said first, and nothing that is wrong is called well.
func TestHeadline(t *testing.T) {
	s := newSite(t, nil)
	now := time.Now()
	for _, tt := range []struct {
		name   string
		change func(*daemon.Status)
		text   string
		tone   string
	}{
		{"well", func(*daemon.Status) {}, "Everything is backed up", toneOK},
		{"locked", func(st *daemon.Status) { st.Locked = true }, "Locked: nothing is backed up", toneBad},
		{"overdue", func(st *daemon.Status) { st.Sources[1].LastSaved = now.Add(-25 * time.Hour) }, "Overdue: photos", toneBad},
		{"overdue though it runs", func(st *daemon.Status) {
			st.Sources[1].LastSaved, st.Sources[1].State = now.Add(-25*time.Hour), "running"
		}, "Overdue: photos", toneBad},
		{"never", func(st *daemon.Status) { st.Sources[0].LastSaved = time.Time{} }, "Overdue: documents", toneBad},
		{"not yet", func(st *daemon.Status) {
			st.Started, st.Sources[0].LastSaved = now.Add(-time.Minute), time.Time{}
		}, "Not saved yet: documents", toneIdle},
		{"failed", func(st *daemon.Status) { st.Sources[2].Failures = 1 }, "The last backup failed: mail", toneWarn},
		{"running", func(st *daemon.Status) { st.Sources[0].State, st.Sources[2].State = "running", "running" }, "Backing up documents and mail", toneBusy},
		{"paused", func(st *daemon.Status) { st.Paused = true }, "Paused until you resume", toneWarn},
		{"unreadable", func(st *daemon.Status) { st.Sources[0].Unreadable = 3 }, "Backed up, with remarks", toneWarn},
		{"nothing", func(st *daemon.Status) { st.Sources = nil }, "There is nothing to back up yet", toneIdle},
	} {
		st := s.daemon.Status()
		tt.change(&st)
		if v := s.view(st, now); v.Headline != tt.text || v.Tone != tt.tone {
			t.Errorf("%s: got %q, %s, want %q, %s", tt.name, v.Headline, v.Tone, tt.text, tt.tone)
		}
	}
	if got := listed([]string{"a", "b", "c", "d", "e", "f"}); got != "a, b, c and 3 more" {
		t.Errorf("got %q", got)
	}
}

// TestProgress: nothing is promised before all is counted.
func TestProgress(t *testing.T) {
	now := time.Now()
	p := &backup.Progress{Started: now.Add(-10 * time.Second), Files: 5, Bytes: 100 << 20, AllFiles: 10, AllBytes: 300 << 20, Current: "/a\u202eb"}
	v := viewProgress(p, now)
	if v.Max != 0 || !strings.HasSuffix(v.Text, "found so far") || v.Current != "/a\uFFFDb" {
		t.Errorf("counting: %+v", v)
	}
	p.Counted = true
	if v = viewProgress(p, now); v.Max != 300<<20 || v.Value != 100<<20 || v.Rate != "10 MB/s, less than a minute left" {
		t.Errorf("counted: %+v", v)
	}
	if v = viewProgress(nil, now); v.Text == "" || v.Max != 0 {
		t.Errorf("nothing told: %+v", v)
	}
}

// TestCharts: the drawing holds every point and stays inside its frame; the
// table has the same figures.
func TestCharts(t *testing.T) {
	s := newSite(t, nil)
	v := drawCharts("photos", s.repo.snaps)
	if len(v.Charts) != 3 || len(v.Rows) != chartPoints {
		t.Fatalf("%d charts, %d rows", len(v.Charts), len(v.Rows))
	}
	for _, c := range v.Charts {
		if len(c.Bars) != chartPoints || c.About == "" || !strings.Contains(c.About, "60 snapshots") {
			t.Errorf("%s: %d bars, %q", c.Title, len(c.Bars), c.About)
		}
		for _, b := range c.Bars {
			if strings.HasPrefix(b.Y, "-") || strings.HasPrefix(b.X, "-") || strings.Contains(b.Y+b.H, "NaN") {
				t.Errorf("%s: %+v is outside", c.Title, b)
			}
		}
	}
	if v := drawCharts("none", nil); len(v.Charts) != 3 || v.Charts[0].Line != "" {
		t.Errorf("of nothing: %+v", v)
	}
	_, body := s.get(t, s.login(t), "/charts")
	if strings.Count(body, "<svg viewBox=\"0 0 600 120\"") != 6 || !strings.Contains(body, v.Rows[0].Time) || !strings.Contains(body, `role="img"`) {
		t.Error("the charts are not in the page")
	}
}
