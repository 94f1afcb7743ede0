package upstream

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestWindows: the hours of a timetable, over midnight too.
func TestWindows(t *testing.T) {
	day := Window{From: 8 * time.Hour, To: 18 * time.Hour}
	night := Window{From: 22 * time.Hour, To: 6 * time.Hour}
	for _, tt := range []struct {
		at         time.Duration
		day, night bool
	}{
		{0, false, true}, {6*time.Hour - 1, false, true}, {6 * time.Hour, false, false}, {8 * time.Hour, true, false},
		{18*time.Hour - 1, true, false}, {18 * time.Hour, false, false}, {22 * time.Hour, false, true},
	} {
		if got := day.holds(tt.at); got != tt.day {
			t.Errorf("day at %v: %t", tt.at, got)
		}
		if got := night.holds(tt.at); got != tt.night {
			t.Errorf("night at %v: %t", tt.at, got)
		}
	}
}

// echo is a store that reads bodies and answers with as many bytes.
type echo struct{}

func (echo) RoundTrip(r *http.Request) (*http.Response, error) {
	n, err := io.Copy(io.Discard, r.Body)
	return &http.Response{StatusCode: 200, Body: io.NopCloser(bytes.NewReader(make([]byte, n)))}, err
}

// move sends and receives size bytes by several requests at once.
func move(t *testing.T, l *Limits, requests, size int) (up, down time.Duration) {
	t.Helper()
	meter, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	tr := &transport{base: echo{}, timeout: 5 * time.Second, metrics: meter, limits: l}
	var group sync.WaitGroup
	var mu sync.Mutex
	began := time.Now()
	for range requests {
		group.Go(func() {
			r, err := http.NewRequestWithContext(t.Context(), "PUT", "http://store/", io.NopCloser(bytes.NewReader(make([]byte, size))))
			if err != nil {
				t.Error(err)
				return
			}
			resp, err := tr.RoundTrip(r)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			up = max(up, time.Since(began))
			mu.Unlock()
			if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != int64(size) {
				t.Errorf("%d bytes, %v", n, err)
			}
			if err := resp.Body.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	return up, time.Since(began)
}

// TestLimits: all requests share one rate in each direction, waiting is no
// standstill of the store, and a change counts at once.
func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimits()
		if up, down := move(t, l, 4, 1<<20); up != 0 || down != 0 {
			t.Errorf("without a limit: %v, %v", up, down)
		}
		l.Set([]Window{{To: 24 * time.Hour, Upload: 100 << 10, Download: 400 << 10}})
		up, down := move(t, l, 4, 1<<20) // 40 s up, 10 s down
		if up < 38*time.Second || up > 41*time.Second || down-up > 11*time.Second || down < 40*time.Second {
			t.Errorf("4 MiB took %v up, %v in all", up, down)
		}
		go func() {
			time.Sleep(10 * time.Second)
			l.Set(nil)
		}()
		if up, _ := move(t, l, 4, 1<<20); up < 9*time.Second || up > 12*time.Second {
			t.Errorf("the limit ended after 10 s, the upload after %v", up)
		}
		// At midnight of synctest's clock, 2000-01-01 UTC, the day's window is not in force.
		zone := time.Local
		time.Local = time.UTC
		defer func() { time.Local = zone }()
		h, m, _ := time.Now().Clock()
		now := time.Duration(h)*time.Hour + time.Duration(m)*time.Minute
		l.Set([]Window{{From: now + 10*time.Minute, To: now + 20*time.Minute, Upload: 1 << 10}})
		if up, _ := move(t, l, 1, 1<<20); up > time.Second {
			t.Errorf("limited outside of its hours: %v", up)
		}
		time.Sleep(11 * time.Minute)
		if up, _ := move(t, l, 1, 100<<10); up < 80*time.Second {
			t.Errorf("not limited within its hours: %v", up)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := l.wait(ctx, 1<<20, true); err == nil {
			t.Error("a wait outlives its context")
		}
	})
}
