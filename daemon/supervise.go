package daemon

import (
	"context"
	"reflect"
	"sync"

	"go.uber.org/zap"
)

// supervise runs a goroutine for each source of fresh, and others after a reload.
func (d *Daemon) supervise(ctx context.Context, fresh []*source) error {
	var all sync.WaitGroup
	defer all.Wait()
	running := make(map[*source]func()) // stops one and waits for its end
	start := func(s *source) {
		one, cancel := context.WithCancel(ctx)
		ended := make(chan struct{})
		all.Go(func() {
			defer close(ended)
			s.run(one)
		})
		running[s] = func() { cancel(); <-ended }
	}
	for {
		for _, s := range fresh {
			start(s)
		}
		select {
		case <-ctx.Done():
			for _, stop := range running {
				defer stop()
			}
			return nil
		case next := <-d.reloads:
			fresh = d.replace(next, running)
		}
	}
}

// replace makes next the sources of the daemon. It stops those that are not
// among them, and returns those that are new.
func (d *Daemon) replace(next []Source, running map[*source]func()) (fresh []*source) {
	d.mu.Lock()
	old := make(map[string]*source)
	for _, s := range d.sources {
		old[s.c.Name] = s
	}
	var sources []*source
	for _, c := range next {
		s := old[c.Name]
		if s != nil && reflect.DeepEqual(s.c, c) {
			delete(old, c.Name)
		} else {
			s = newSource(d, c)
			fresh = append(fresh, s)
		}
		sources = append(sources, s)
	}
	d.sources = sources
	d.mu.Unlock()
	for _, s := range old { // before a new one of the same name begins
		running[s]()
		delete(running, s)
		s.answer(Event{Kind: Failed, Source: s.c.Name, Error: "the source was removed or changed"})
		d.log.Info("source stopped", zap.String("source", s.c.Name))
	}
	for _, s := range fresh {
		s.load()
	}
	return fresh
}
