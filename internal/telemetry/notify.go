package telemetry

import (
	"context"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"
)

// Notifier tells systemd how the service is, sd_notify(3). Outside of a
// service every call does nothing.
type Notifier struct {
	log *zap.Logger
}

// NewNotifier logs to log what systemd could not be told; nil logs nothing.
func NewNotifier(log *zap.Logger) *Notifier {
	if log == nil {
		log = zap.NewNop()
	}
	return &Notifier{log}
}

// Ready says that the start, or a reload, is done.
func (n *Notifier) Ready() { n.send(daemon.SdNotifyReady) }

// Reloading says that the configuration is being read again; Ready must follow.
func (n *Notifier) Reloading() {
	n.send(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
}

// Stopping says that the shutdown has begun.
func (n *Notifier) Stopping() { n.send(daemon.SdNotifyStopping) }

// Status is the one line that "systemctl status" shows.
func (n *Notifier) Status(line string) { n.send("STATUS=" + line) }

func (n *Notifier) send(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		n.log.Warn("systemd could not be told", zap.Error(err))
	}
}

// Watchdog pings systemd twice per WatchdogSec for as long as every live part of
// h is well, and returns nil when ctx ends. A part that hangs ends the pings, so
// that systemd kills the process and starts it again. Without WatchdogSec it
// only waits.
func (n *Notifier) Watchdog(ctx context.Context, h *Health) error {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		n.log.Warn("watchdog is off", zap.Error(err))
	}
	if interval <= 0 {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(interval / 2)
	defer tick.Stop()
	for {
		if err := h.CheckLive(); err != nil {
			n.log.Error("not alive, the watchdog is not fed", zap.Error(err))
		} else {
			n.send(daemon.SdNotifyWatchdog)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
