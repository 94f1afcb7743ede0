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
// run seldom, but not run for a few megabytes. A program calls it once, at its
// start. An index or a directory that is larger than what there is room for
// raises the limit: the collector must never spend its time on what cannot be
// freed. GOGC and GOMEMLIMIT of the environment take precedence.
func LimitMemory() {
	now := pace{percentFor(0), memoryLimit}
	if os.Getenv("GOGC") != "" {
		now.percent = 0
	}
	if os.Getenv("GOMEMLIMIT") != "" {
		now.limit = 0
	}
	now.set(pace{})
	afterCollection(now)
}

// pace is what the collector is told; a zero field is not ours to set.
type pace struct {
	percent int
	limit   int64
}

// set tells the collector what differs from before.
func (p pace) set(before pace) {
	if p.percent != before.percent {
		debug.SetGCPercent(p.percent)
	}
	if p.limit != before.limit {
		debug.SetMemoryLimit(p.limit)
	}
}

// afterCollection looks at what has survived after each collection and adapts
// the pace, which is now at now.
func afterCollection(now pace) {
	each := new([64]byte) // too large to share its memory with others that live longer
	runtime.SetFinalizer(each, func(*[64]byte) {
		sample := []collector.Sample{{Name: "/gc/heap/live:bytes"}}
		collector.Read(sample)
		live, next := int64(sample[0].Value.Uint64()), now
		if now.limit != 0 {
			next.limit = limitFor(live)
		}
		if now.percent != 0 {
			next.percent = percentFor(live)
		}
		next.set(now)
		afterCollection(next)
	})
}

// limitFor is the limit for so many bytes that are in use, in steps so that it
// seldom changes.
func limitFor(live int64) int64 {
	const step = 16 << 20
	return max(memoryLimit, (live+live/2)/step*step)
}

// percentFor lets half as much again be used as is in use, and always 32 MiB:
// S3 requests leave so much behind that a small heap would be collected all the
// time.
func percentFor(live int64) int {
	const floor, step = 32 << 20, 50
	spare := max(floor-live, 0) * 100 / max(live, 1<<20)
	return int(max(spare/step*step, 50))
}
