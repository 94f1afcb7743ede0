package daemon

import (
	"errors"
	"time"

	"go.uber.org/zap"
)

// errPaused is why a running backup stopped.
var errPaused = errors.New("paused")

// pause says whether and until when nothing begins by itself.
type pause struct {
	On    bool      `json:"on,omitempty"`
	Until time.Time `json:"until,omitzero"` // zero: until Resume
}

// active says whether the pause holds at now.
func (p pause) active(now time.Time) bool {
	return p.On && (p.Until.IsZero() || now.Before(p.Until))
}

// Pause stops running backups and begins none by itself for that long, or until
// [Daemon.Resume] when it is 0. Changes are noted meanwhile, and a backup that
// is asked for by name still runs. The pause survives a restart.
func (d *Daemon) Pause(length time.Duration) {
	p := pause{On: true}
	if length > 0 {
		p.Until = time.Now().Add(length)
	}
	d.setPause(p)
	d.log.Info("paused", zap.Duration("for", length))
	d.events.publish(Event{Kind: Paused, Until: p.Until})
	d.stopAll(errPaused)
}

// Resume ends a pause and begins what became due.
func (d *Daemon) Resume() {
	d.setPause(pause{})
	d.log.Info("resumed")
	d.events.publish(Event{Kind: Resumed})
	d.wakeAll()
}

func (d *Daemon) setPause(p pause) {
	d.mu.Lock()
	d.pause = p
	d.mu.Unlock()
	d.journal.setPause(p)
}

func (d *Daemon) pausedNow() pause {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pause
}
