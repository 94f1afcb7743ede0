package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// load is a closed loop: each client does one thing after the other.
type load struct {
	clients int
	// do does one thing; client tells them apart. It returns errEmpty when
	// there is nothing left to do.
	do func(ctx context.Context, client int) error

	mu   sync.Mutex
	took []time.Duration
}

var errEmpty = errors.New("nothing left")

// run lets the clients work for so long. The first error of any ends it.
func (l *load) run(ctx context.Context, each time.Duration) (done int, took time.Duration, err error) {
	stop := time.Now().Add(each)
	began := time.Now()
	var wg sync.WaitGroup
	for c := range l.clients {
		wg.Go(func() {
			var own []time.Duration
			var failed error
			for time.Now().Before(stop) {
				start := time.Now()
				if failed = l.do(ctx, c); failed != nil {
					break
				}
				own = append(own, time.Since(start))
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			l.took = append(l.took, own...)
			if failed != nil && !errors.Is(failed, errEmpty) {
				err = failed
			}
		})
	}
	wg.Wait()
	took = time.Since(began)
	slices.Sort(l.took)
	return len(l.took), took, err
}

func (l *load) quantile(q float64) time.Duration {
	if len(l.took) == 0 {
		return 0
	}
	return l.took[int(q*float64(len(l.took)-1))].Round(10 * time.Microsecond)
}
