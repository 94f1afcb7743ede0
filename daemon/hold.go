package daemon

import (
	"errors"
	"time"

	"go.uber.org/zap"
)

// holds says why nothing begins by itself for now; "": nothing is in the way.
func (d *Daemon) holds() string {
	if d.c.Hold == nil {
		return ""
	}
	return d.c.Hold()
}

// waiting says why nothing begins by itself: "locked", "paused" or what Hold says.
func (d *Daemon) waiting(now time.Time) string {
	switch {
	case d.c.Key.Locked():
		return "locked"
	case d.pausedNow().active(now):
		return "paused"
	}
	return d.holds()
}

// follow acts when what is waited for changes between two looks: it stops what
// began by itself, or begins what became due. It returns the new reason.
func (d *Daemon) follow(before string) string {
	now := d.waiting(time.Now())
	if now == before {
		return now
	}
	if hold := d.holds(); hold != "" && now == hold {
		d.log.Info("nothing begins by itself", zap.String("reason", hold))
		d.stopAutomatic(errors.New(hold))
		return now
	}
	d.wakeAll()
	return now
}

// stopAutomatic stops what nobody asked for.
func (d *Daemon) stopAutomatic(why error) {
	d.upkeep.stop(why, false)
	sources, _ := d.find(nil)
	for _, s := range sources {
		s.mu.Lock()
		byHand := s.byHand
		s.mu.Unlock()
		if !byHand {
			s.stop(why)
		}
	}
}
