package hsm

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"
)

// BenchmarkEvaluate measures whole evaluations by 1, 4 and 8 goroutines, each
// with a session.
func BenchmarkEvaluate(b *testing.B) {
	for _, mode := range modes {
		config := provisioned(b, mode)
		for _, n := range []int{1, 4, 8} {
			b.Run(fmt.Sprintf("%v/%d", mode, n), func(b *testing.B) {
				c := config()
				c.Sessions, c.Wait = n, time.Minute
				tok, err := Open(context.Background(), c)
				if err != nil {
					b.Fatal(err)
				}
				defer tok.Close()
				rec, _ := newKey(b, tok, anna)
				point := times(b, scalar(), base)
				b.ResetTimer()
				var wg sync.WaitGroup
				for g := range n {
					wg.Go(func() {
						for i := g; i < b.N; i += n {
							if _, err := tok.Evaluate(context.Background(), anna, rec, point); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "op/s")
			})
		}
	}
}

func BenchmarkNewKey(b *testing.B) {
	benchmark(b, func(t *Token) error { _, _, err := t.NewKey(context.Background(), anna); return err })
}
func BenchmarkSign(b *testing.B) {
	benchmark(b, func(t *Token) error { _, err := t.Sign(context.Background(), [32]byte{}); return err })
}
func BenchmarkSetAnchor(b *testing.B) {
	benchmark(b, func(t *Token) error { return t.SetAnchor(context.Background(), [40]byte{1}) })
}

func benchmark(b *testing.B, op func(*Token) error) {
	tok := open(b, provisioned(b, ModeWrapped)())
	b.ResetTimer()
	for range b.N {
		if err := op(tok); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMemory reports how much the process grows an evaluation, without
// recycling and with: what SoftHSM never frees.
func BenchmarkMemory(b *testing.B) {
	for _, recycle := range []int64{-1, 1000} {
		b.Run(fmt.Sprintf("recycle/%d", recycle), func(b *testing.B) {
			c := provisioned(b, ModeWrapped)()
			c.RecycleOps = recycle
			tok := open(b, c)
			rec, _ := newKey(b, tok, anna)
			point := times(b, scalar(), base)
			evaluate := func(n int) {
				for range n {
					if _, err := tok.Evaluate(context.Background(), anna, rec, point); err != nil {
						b.Fatal(err)
					}
				}
			}
			evaluate(1000) // until the heap has its size
			before := resident(b)
			b.ResetTimer()
			evaluate(b.N)
			b.ReportMetric(float64(resident(b)-before)/float64(b.N), "grown-B/op")
		})
	}
}

// resident returns the process's resident memory in bytes.
func resident(tb testing.TB) int {
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		tb.Fatal(err)
	}
	var size, pages int
	if _, err := fmt.Sscan(string(raw), &size, &pages); err != nil {
		tb.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// BenchmarkOpen is what a start, or a recycling, costs.
func BenchmarkOpen(b *testing.B) {
	config := provisioned(b, ModeWrapped)
	for b.Loop() {
		tok, err := Open(context.Background(), config())
		if err != nil {
			b.Fatal(err)
		}
		if err := tok.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
