package web

import (
	"context"
	"sync"
	"time"
)

const (
	askedFor  = 10 * time.Second // the longest answer
	firstWait = 3 * time.Second  // a view waits for the first one
)

// lately knows the last answer to a question that costs something: it is asked
// while somebody looks at the page, at most once in healthAge.
type lately[T any] struct {
	ask func(context.Context) (T, error) // nil: there is nobody to ask

	mu    sync.Mutex
	fresh chan struct{} // closed when the answer that is awaited is there; nil: none is
	at    time.Time     // of the answer; zero: none yet
	value T
	err   error
}

// look returns the last answer and when it came, zero while there is none. It
// asks anew when that is old, and waits only for the first one.
func (l *lately[T]) look(ctx context.Context, now time.Time, wait time.Duration) (v T, at time.Time, err error) {
	l.mu.Lock()
	if l.ask != nil && l.fresh == nil && now.Sub(l.at) >= healthAge {
		l.fresh = make(chan struct{})
		go l.again()
	}
	fresh, first := l.fresh, l.at.IsZero()
	l.mu.Unlock()
	if first && fresh != nil && wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-fresh:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.value, l.at, l.err
}

func (l *lately[T]) again() {
	ctx, cancel := context.WithTimeout(context.Background(), askedFor)
	defer cancel()
	v, err := l.ask(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.value, l.err, l.at = v, err, time.Now()
	close(l.fresh)
	l.fresh = nil
}
