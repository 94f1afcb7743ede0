package daemon

import (
	"errors"
	"time"
)

// ErrFixed means that the daemon cannot read its configuration again.
var ErrFixed = errors.New("daemon: the configuration is fixed")

// Configured is how the configuration was last read.
type Configured struct {
	Loaded  time.Time `json:"loaded,omitzero"`   // what is in force
	Error   string    `json:"error,omitempty"`   // why a newer file is not
	Restart []string  `json:"restart,omitempty"` // settings that have changed and need a restart
}

// ReloadConfig reads the configuration again. A file with a fault changes
// nothing, but is told in the status until it is mended.
func (d *Daemon) ReloadConfig() (Configured, error) {
	if d.c.Reload == nil {
		return Configured{}, ErrFixed
	}
	d.reloading.Lock()
	defer d.reloading.Unlock()
	now := d.c.Reload()
	d.mu.Lock()
	if now.Error != "" {
		now.Loaded, now.Restart = d.configured.Loaded, d.configured.Restart
	}
	d.configured = now
	d.mu.Unlock()
	d.events.publish(Event{Kind: Reloaded, Error: now.Error})
	return now, nil
}
