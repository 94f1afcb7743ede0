package daemon

import (
	"context"
)

// Backup backs up the named sources, all when none is named, even if the daemon
// is paused, and waits for the end. What it saves includes every change made
// before the call. fn, when not nil, hears of the events of these sources as
// they happen. It returns the last event of each: Saved, Failed or Stopped.
func (d *Daemon) Backup(ctx context.Context, names []string, fn func(Event)) ([]Event, error) {
	sources, err := d.find(names)
	if err != nil {
		return nil, err
	}
	if d.c.Key.Locked() {
		return nil, ErrLocked
	}
	events, cancel := d.events.subscribe(d.events.last())
	defer cancel()
	ours := make(map[string]bool)
	done := make(chan Event, len(sources))
	for _, s := range sources {
		ours[s.c.Name] = true
		s.ask(done)
	}
	var last []Event
	for len(last) < len(sources) {
		select {
		case <-ctx.Done():
			return last, ctx.Err()
		case e := <-events:
			if fn != nil && ours[e.Source] && !e.final() {
				fn(e)
			}
		case e := <-done:
			last = append(last, e)
			if fn != nil {
				fn(e)
			}
		}
	}
	return last, nil
}

// final says whether e ends a backup.
func (e Event) final() bool {
	return e.Kind == Saved || e.Kind == Failed || e.Kind == Stopped
}
