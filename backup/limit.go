package backup

import (
	"os"
	"runtime"
	"runtime/debug"
	collector "runtime/metrics"
)

// memoryLimit is what Go may take for a backup of usual size. Three packs lie
// outside it, as the code of the program does: together they stay under 200 MiB.
const memoryLimit = 80 << 20

// LimitMemory has the collector of this process keep memory small rather than
// run seldom. A program calls it once, at its start. An index or a directory that
// is larger than what there is room for raises the limit: the collector must never
// spend its time on what cannot be freed. GOGC and GOMEMLIMIT of the environment
// take precedence.
func LimitMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
		afterCollection(memoryLimit)
	}
}

// afterCollection looks at what has survived after each collection and adapts
// the limit, which is now limit.
func afterCollection(limit int64) {
	each := new([64]byte) // too large to share its memory with others that live longer
	runtime.SetFinalizer(each, func(*[64]byte) {
		live := []collector.Sample{{Name: "/gc/heap/live:bytes"}}
		collector.Read(live)
		if next := limitFor(int64(live[0].Value.Uint64())); next != limit {
			limit = next
			debug.SetMemoryLimit(limit)
		}
		afterCollection(limit)
	})
}

// limitFor is the limit for so many bytes that are in use, in steps so that it
// seldom changes.
func limitFor(live int64) int64 {
	const step = 16 << 20
	return max(memoryLimit, (live+live/2)/step*step)
}
