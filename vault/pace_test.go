package vault

import (
	"math"
	"runtime/debug"
	"testing"
)

// The environment decides, where it says something.
func TestPaceCollector(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(math.MaxInt64))
	for _, tt := range []struct {
		percent, limit string
		want           int
		wantLimit      int64
	}{{"100", "1GiB", 100, math.MaxInt64}, {"", "", 400, 512 << 20}} {
		t.Setenv("GOGC", tt.percent)
		t.Setenv("GOMEMLIMIT", tt.limit)
		PaceCollector()
		percent := debug.SetGCPercent(100)
		debug.SetGCPercent(percent)
		if limit := debug.SetMemoryLimit(-1); percent != tt.want || limit != tt.wantLimit {
			t.Errorf("GOGC=%q GOMEMLIMIT=%q: %d, %d", tt.percent, tt.limit, percent, limit)
		}
	}
}
