package daemon

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// reading is what the clocks say at one moment. Of two readings that a restart
// lies between, it tells how much time has passed though the wall clock was set
// meanwhile.
type reading struct {
	Wall time.Time     `json:"wall"`
	Boot string        `json:"boot,omitempty"` // the start of the machine that Up counts from; "" when it is not known
	Up   time.Duration `json:"up"`             // since then, sleep included
}

// readClocks asks the kernel.
func readClocks() reading {
	r := reading{Wall: time.Now().Round(0), Boot: bootID()}
	var up unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &up) == nil {
		r.Up = time.Duration(up.Nano())
	}
	return r
}

// bootID names this start of the machine. The units pass it: in their sandbox
// /proc/sys is not there.
func bootID() string {
	if id := os.Getenv("COFFER_BOOT_ID"); id != "" {
		return id
	}
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.ReplaceAll(strings.TrimSpace(string(b)), "-", "") // as systemd writes it
}

// since says how long ago before was, never less than 0. While the machine runs
// the wall clock does not count. Over a restart of the machine it is all there is;
// one that was set back says nothing then, and what was waited before is kept.
func (r reading) since(before reading) time.Duration {
	if before.Wall.IsZero() {
		return 0
	}
	if r.Boot != "" && r.Boot == before.Boot {
		return max(r.Up-before.Up, 0)
	}
	return max(r.Wall.Sub(before.Wall), 0)
}
