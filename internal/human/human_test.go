package human

import (
	"math"
	"testing"
)

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{
		-1: "0 B", 0: "0 B", 7: "7 B", 999: "999 B", 1000: "1.0 kB", 1536: "1.5 kB", 23_400_000: "23 MB", 4_000_000_000: "4.0 GB", math.MaxInt64: "9.2 EB",
	} {
		if got := Size(n); got != want {
			t.Errorf("%d bytes: got %q, want %q", n, got, want)
		}
	}
}
