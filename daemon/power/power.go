// Package power says when a machine should be left alone: when it runs on a
// battery that is low, or its network is paid for by volume.
package power

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
	"go.uber.org/zap"
)

// Config says what counts. The zero value lets everything run.
type Config struct {
	Battery int         // percent: wait while on battery and below; 0: never, 101: always when on battery
	Metered bool        // wait while the network is metered
	Log     *zap.Logger // nil logs nothing

	Supplies string // folder of the kernel's power supplies; "": /sys/class/power_supply
	Bus      string // address of the bus where NetworkManager is; "": the system's
}

const (
	look    = 30 * time.Second // how often
	timeout = 5 * time.Second  // for NetworkManager's answer
)

// Watcher looks again and again.
type Watcher struct {
	log *zap.Logger

	mu       sync.Mutex
	c        Config
	hold     string
	answered bool // NetworkManager has, so that its silence is worth a line
}

// New makes one that has looked once.
func New(c Config) *Watcher {
	w := &Watcher{log: c.Log}
	if w.log == nil {
		w.log = zap.NewNop()
	}
	w.Reload(c)
	return w
}

// Hold says why to wait, as "on battery, 12 %"; "": there is no reason.
func (w *Watcher) Hold() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hold
}

// Reload replaces the configuration and looks.
func (w *Watcher) Reload(c Config) {
	if c.Supplies == "" {
		c.Supplies = "/sys/class/power_supply"
	}
	if c.Bus == "" {
		c.Bus = systemBus()
	}
	w.mu.Lock()
	w.c = c
	w.mu.Unlock()
	w.look(context.Background())
}

func systemBus() string {
	if a := os.Getenv("DBUS_SYSTEM_BUS_ADDRESS"); a != "" {
		return a
	}
	return "unix:path=/run/dbus/system_bus_socket"
}

// Run looks until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			w.look(ctx)
		}
	}
}

func (w *Watcher) look(ctx context.Context) {
	w.mu.Lock()
	c := w.c
	w.mu.Unlock()
	hold := ""
	if level, ok := onBattery(c.Supplies); ok && level < c.Battery {
		hold = fmt.Sprintf("on battery, %d %%", level)
	}
	if hold == "" && c.Metered {
		metered, err := isMetered(ctx, c.Bus)
		w.mu.Lock()
		if err != nil && w.answered { // a machine without NetworkManager never had one
			w.log.Warn("the network is taken for not metered", zap.Error(err))
		}
		w.answered = err == nil
		w.mu.Unlock()
		if metered {
			hold = "metered network"
		}
	}
	w.mu.Lock()
	w.hold = hold
	w.mu.Unlock()
}

// onBattery gives the charge in percent of a machine that runs on its battery;
// false when it has none, or outer power.
func onBattery(dir string) (level int, ok bool) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, false
	}
	sum, n, discharging := 0, 0, false
	for _, e := range entries {
		read := func(name string) string {
			b, err := os.ReadFile(filepath.Join(dir, e.Name(), name))
			if err != nil {
				return ""
			}
			return strings.TrimSpace(string(b))
		}
		switch read("type") {
		case "Battery":
			level, err := strconv.Atoi(read("capacity"))
			if err != nil || read("scope") == "Device" { // of a mouse
				continue
			}
			sum, n = sum+level, n+1
			discharging = discharging || read("status") == "Discharging"
		case "Mains", "USB", "Wireless":
			if read("online") == "1" {
				return 0, false
			}
		}
	}
	if n == 0 || !discharging {
		return 0, false
	}
	return sum / n, true
}

// The answers of NetworkManager (NMMetered) that mean "metered".
const (
	meteredYes     = 1
	meteredGuessed = 3
)

// isMetered asks NetworkManager, and does not start it.
func isMetered(ctx context.Context, bus string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := dbus.Connect(bus, dbus.WithContext(ctx))
	if err != nil {
		return false, fmt.Errorf("asking NetworkManager: %w", err)
	}
	defer conn.Close()
	var v dbus.Variant
	err = conn.Object("org.freedesktop.NetworkManager", "/org/freedesktop/NetworkManager").CallWithContext(ctx,
		"org.freedesktop.DBus.Properties.Get", dbus.FlagNoAutoStart, "org.freedesktop.NetworkManager", "Metered").Store(&v)
	if err != nil {
		return false, fmt.Errorf("asking NetworkManager: %w", err)
	}
	state, ok := v.Value().(uint32)
	if !ok {
		return false, errors.New("asking NetworkManager: not the answer it documents")
	}
	return state == meteredYes || state == meteredGuessed, nil
}
