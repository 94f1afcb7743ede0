package backup

import (
	"math"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// TestLimitMemory: the limit follows what cannot be freed, and comes back.
func TestLimitMemory(t *testing.T) {
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	old := debug.SetGCPercent(-1)
	defer func() { debug.SetGCPercent(old) }()
	defer debug.SetMemoryLimit(math.MaxInt64)
	debug.SetGCPercent(old)
	LimitMemory()
	if got := debug.SetMemoryLimit(-1); got != memoryLimit {
		t.Fatalf("the limit is %d, want %d", got, memoryLimit)
	}
	kept := make([]byte, 300<<20)
	waitLimit(t, func(limit int64) bool { return limit > 400<<20 })
	runtime.KeepAlive(kept)
	kept = nil
	waitLimit(t, func(limit int64) bool { return limit == memoryLimit })
}

// TestPercent: a small heap is not collected for a few megabytes, a large one
// has no more than half of itself to spare.
func TestPercent(t *testing.T) {
	for live, want := range map[int64]int{0: 3200, 4 << 20: 700, 16 << 20: 100, 30 << 20: 50, 1 << 30: 50} {
		if got := percentFor(live); got != want {
			t.Errorf("%d bytes in use: %d percent, want %d", live, got, want)
		}
	}
}

func waitLimit(t *testing.T, ok func(int64) bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		runtime.GC()
		if ok(debug.SetMemoryLimit(-1)) {
			return
		}
	}
	t.Fatalf("the limit stays %d", debug.SetMemoryLimit(-1))
}
