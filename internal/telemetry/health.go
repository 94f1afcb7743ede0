package telemetry

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Health asks the parts of a program how they are. The zero value is healthy.
type Health struct {
	mu          sync.Mutex
	live, ready []check
}

type check struct {
	name string
	ask  func() error
}

// Live adds a part without which the process is broken beyond repair: when ask
// fails, the watchdog has the process killed and started anew. ask must return
// at once.
func (h *Health) Live(name string, ask func() error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.live = append(h.live, check{name, ask})
}

// Ready adds a part without which the program cannot do its work for now, as a
// storage out of reach. ask must return at once.
func (h *Health) Ready(name string, ask func() error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ready = append(h.ready, check{name, ask})
}

// CheckLive joins the faults of all live parts; nil when there is none.
func (h *Health) CheckLive() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return ask(h.live)
}

// CheckReady joins the faults of all live and ready parts; nil when there is none.
func (h *Health) CheckReady() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return errors.Join(ask(h.live), ask(h.ready))
}

func ask(checks []check) error {
	var errs []error
	for _, c := range checks {
		if err := c.ask(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.name, err))
		}
	}
	return errors.Join(errs...)
}

// Pulse is kept up by a loop that calls Beat; once Beat is late by more than the
// limit, Check fails. Before the first Beat it does not.
type Pulse struct {
	limit time.Duration
	last  atomic.Pointer[time.Time]
}

// NewPulse makes a pulse that may pause for limit.
func NewPulse(limit time.Duration) *Pulse { return &Pulse{limit: limit} }

// Beat says that the loop goes round.
func (p *Pulse) Beat() {
	now := time.Now()
	p.last.Store(&now)
}

// Check fails when the last beat is too long ago. A machine that slept does not
// count: the monotonic clock stood still with it.
func (p *Pulse) Check() error {
	last := p.last.Load()
	if last == nil {
		return nil
	}
	if late := time.Since(*last); late > p.limit {
		return fmt.Errorf("no sign of life for %v", late.Round(time.Millisecond))
	}
	return nil
}
