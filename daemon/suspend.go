package daemon

import (
	"context"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

const (
	sleepCheck = 15 * time.Second // how often it is looked whether the machine slept
	sleepLimit = 10 * time.Second // what counts as sleep
	afterSleep = 10 * time.Second // until the network is up again, give or take a half
)

// timeAsleep is how long the machine has slept since it started. Other than the
// wall clock, the difference of the two clocks does not move when the time is set.
func timeAsleep() time.Duration {
	var boot, running unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &running) != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil {
		return 0
	}
	return time.Duration(boot.Nano() - running.Nano())
}

// watchSleep is also the pulse of the daemon. It has every source scanned after the machine slept: the timers stood
// still, other systems may have written to the disks, and inotify saw nothing.
func (d *Daemon) watchSleep(ctx context.Context) error {
	tick := time.NewTicker(sleepCheck)
	defer tick.Stop()
	before, waited := d.slept(), d.waiting(time.Now())
	for {
		d.Status() // takes every lock: one that is never given back ends the beats
		d.pulse.Beat()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		waited = d.follow(waited)
		now := d.slept()
		if slept := now - before; slept >= sleepLimit {
			d.log.Info("machine slept", zap.Duration("for", slept))
			d.events.publish(Event{Kind: Slept, Took: slept})
			sources, _ := d.find(nil)
			for _, s := range sources {
				s.scanSoon(jitter(afterSleep, 2))
			}
			d.upkeep.settle()
			at := time.Now()
			d.woke.Store(&at)
		}
		before = now
	}
}

// awake is how long the daemon has had to do its work.
func (d *Daemon) awake() time.Duration {
	if at := d.woke.Load(); at != nil {
		return time.Since(*at)
	}
	return time.Since(d.started)
}
