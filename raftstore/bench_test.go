package raftstore

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// BenchmarkPropose is committed commands of 128 bytes, three nodes on one
// machine with real disks, proposers in the leader's process.
func BenchmarkPropose(b *testing.B) {
	for _, proposers := range []int{1, 16, 128, 1024} {
		b.Run(fmt.Sprint(proposers), func(b *testing.B) {
			c := startCluster(b, 3, nil)
			l := c.leader(b)
			cmd := append([]byte("set k "), make([]byte, 122)...)
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			var wg sync.WaitGroup
			for range proposers {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						if _, err := l.store.Propose(b.Context(), cmd); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
		})
	}
}
