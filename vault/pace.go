package vault

import (
	"os"
	"runtime/debug"
)

// PaceCollector has the collector of a program that runs a node run seldom: the heap is
// small, for what is large lies in pebble's caches outside it, and guesses fill it
// so fast that the collector took a sixth of the processor. The program calls it once, at
// its start. GOGC and GOMEMLIMIT of the environment take precedence.
func PaceCollector() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(512 << 20) // from here on it runs as often as it must
	}
}
