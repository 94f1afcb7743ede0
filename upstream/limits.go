package upstream

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Window is how fast bytes may move at some hours.
type Window struct {
	From, To time.Duration // since midnight, local time; From > To goes over midnight
	Upload   int64         // bytes a second; 0: no limit
	Download int64
}

// holds tells whether a time of day, since midnight, lies in the window.
func (w Window) holds(at time.Duration) bool {
	if w.From <= w.To {
		return w.From <= at && at < w.To
	}
	return at >= w.From || at < w.To
}

// Limits bound the bytes that all S3 buckets which share it send and receive
// together. A nil one bounds nothing. It is safe for concurrent use.
type Limits struct {
	mu      sync.Mutex
	windows []Window
	checked time.Time // when the rates were last set
	up      *rate.Limiter
	down    *rate.Limiter
}

const (
	// limitPiece is how much moves at once: small enough that a slow line flows
	// evenly, and the most that a change of the rate comes too late for.
	limitPiece = 16 << 10

	limitAge = time.Second // after which the time of day is looked at again
)

// NewLimits has no limit until Set.
func NewLimits() *Limits {
	return &Limits{up: rate.NewLimiter(rate.Inf, limitPiece), down: rate.NewLimiter(rate.Inf, limitPiece)}
}

// Set replaces the windows, of which the first that holds counts. What is under
// way goes on at the new rate.
func (l *Limits) Set(windows []Window) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.windows, l.checked = windows, time.Time{}
	l.refresh(time.Now())
}

// refresh sets the rates of this time of day. l.mu is held.
func (l *Limits) refresh(now time.Time) {
	if now.Sub(l.checked) < limitAge {
		return
	}
	l.checked = now
	hour, minute, second := now.Clock()
	at := time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute + time.Duration(second)*time.Second
	up, down := rate.Inf, rate.Inf
	for _, w := range l.windows {
		if !w.holds(at) {
			continue
		}
		if w.Upload > 0 {
			up = rate.Limit(w.Upload)
		}
		if w.Download > 0 {
			down = rate.Limit(w.Download)
		}
		break
	}
	l.up.SetLimit(up)
	l.down.SetLimit(down)
}

func (l *Limits) limiter(upload bool) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refresh(time.Now())
	if upload {
		return l.up
	}
	return l.down
}

// piece shortens a buffer to what may move at once.
func (l *Limits) piece(p []byte, upload bool) []byte {
	if l == nil || len(p) <= limitPiece || l.limiter(upload).Limit() == rate.Inf {
		return p
	}
	return p[:limitPiece]
}

// wait returns when n bytes may move, or ctx ends.
func (l *Limits) wait(ctx context.Context, n int, upload bool) error {
	if l == nil || n == 0 {
		return nil
	}
	r := l.limiter(upload)
	for n > 0 && r.Limit() != rate.Inf { // more than a piece if the limit has just begun
		step := min(n, limitPiece)
		if err := r.WaitN(ctx, step); err != nil {
			return err
		}
		n -= step
	}
	return nil
}
