package proxy

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coffer/seal"
)

// million is how many keys the benchmark of listings has.
const million = 1_000_000

// BenchmarkMillionKeys times pages of 1000 keys in a bucket of a million: the first
// one after the start, and all of them.
func BenchmarkMillionKeys(b *testing.B) {
	g := startGateway(b)
	w := newWire(b, g)
	w.must(call{method: "PUT", path: "/bucket"}, 200)
	ix, err := g.open(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	c := ix.change()
	for i := range million {
		c.put("bucket", fmt.Sprintf("folder-%03d/file-%06d", i%1000, i/1000), &row{
			Generation: uint64(i + 1), Size: 4096, ETag: fmt.Sprintf("%032x", i), Modified: time.Now().UnixNano(), Sealed: 5000, Header: make([]byte, 128),
			Checksums: []seal.Checksum{{Type: typeFull, Algo: "CRC64NVME", Value: "AAAAAAAAAAA="}},
		}, nil)
		if i%10_000 == 9_999 {
			if err := c.commit(); err != nil {
				b.Fatal(err)
			}
			c = ix.change()
		}
	}
	if err := c.commit(); err != nil {
		b.Fatal(err)
	}
	b.Run("first-page", func(b *testing.B) {
		best := time.Hour // of the rounds, the one that others disturbed least
		for range 5 * b.N {
			g.restart() // nothing is in a cache
			if _, err := g.open(b.Context()); err != nil {
				b.Fatal(err)
			}
			start := time.Now()
			if a := w.must(call{method: "GET", path: "/bucket", query: "list-type=2"}, 200); strings.Count(string(a.body), "<Key>") != 1000 {
				b.Fatal("a page has not 1000 keys")
			}
			best = min(best, time.Since(start))
		}
		ratio(b, "list-1M/first-page-ms", best.Seconds()*1000, 50)
	})
	b.Run("folders", func(b *testing.B) {
		for range b.N {
			w.must(call{method: "GET", path: "/bucket", query: "list-type=2&delimiter=/"}, 200)
		}
	})
	b.Run("all", func(b *testing.B) {
		start := time.Now()
		defer func() { ratio(b, "list-1M/all-pages-s", time.Since(start).Seconds()/float64(b.N), 1e9) }()
		for range b.N {
			count, after, last := 0, "", ""
			for {
				a := w.must(call{method: "GET", path: "/bucket", query: "marker=" + awsEncode(after, true)}, 200)
				keys := strings.Split(string(a.body), "<Key>")[1:]
				for _, k := range keys {
					k, _, _ = strings.Cut(k, "<")
					if k <= last {
						b.Fatalf("%q after %q", k, last)
					}
					last = k
				}
				if count += len(keys); len(keys) == 0 {
					break
				}
				after = last
			}
			if count != million {
				b.Fatalf("%d keys", count)
			}
		}
	})
}

// ratio prints a figure as package bench does, and fails beyond its limit.
func ratio(b *testing.B, what string, value, limit float64) {
	b.Helper()
	fmt.Printf("ratio %s %.3f want <= %g\n", what, value, limit)
	if value > limit {
		b.Errorf("%s is %.3f, want <= %g", what, value, limit)
	}
}

// BenchmarkRebuild times how an index of 2000 small objects is built from a folder.
func BenchmarkRebuild(b *testing.B) {
	const objects = 2000
	g := startGateway(b)
	w := newWire(b, g)
	w.must(call{method: "PUT", path: "/bucket"}, 200)
	for i := range objects {
		w.must(call{method: "PUT", path: fmt.Sprintf("/bucket/key-%d", i), body: []byte("small")}, 200)
	}
	for b.Loop() {
		g.stop()
		if err := os.RemoveAll(filepath.Join(g.config.StateDir, "index")); err != nil {
			b.Fatal(err)
		}
		g.start()
		if _, err := g.open(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*objects), "µs/object")
}
