package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"coffer/bench"
)

// load is a closed loop: each client does one thing after the other.
type load struct {
	clients int
	// do does one thing; client tells them apart. It returns errEmpty when
	// there is nothing left to do.
	do func(ctx context.Context, client int) error
	// check looks at what came back, when the clock has stopped; nil looks at nothing.
	check func() error
	// servers are the processes that do the work.
	servers []*bench.Process

	mu   sync.Mutex
	took []time.Duration

	cpuServers, cpuClients time.Duration // that the run took
}

var errEmpty = errors.New("nothing left")

// run lets the clients work for so long. The first error of any ends it.
func (l *load) run(ctx context.Context, each time.Duration) (done int, took time.Duration, err error) {
	servers, own := cpuOf(l.servers), bench.OwnCPU()
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
	l.cpuServers, l.cpuClients = cpuOf(l.servers)-servers, bench.OwnCPU()-own
	if err == nil && l.check != nil {
		err = l.check()
	}
	slices.Sort(l.took)
	return len(l.took), took, err
}

func cpuOf(procs []*bench.Process) (sum time.Duration) {
	for _, p := range procs {
		if d, err := p.CPU(); err == nil {
			sum += d
		}
	}
	return sum
}

func (l *load) quantile(q float64) time.Duration {
	if len(l.took) == 0 {
		return 0
	}
	return l.took[int(q*float64(len(l.took)-1))].Round(10 * time.Microsecond)
}
