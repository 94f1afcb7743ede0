// Command gateway gives the same S3 work to coffer's gateway, to "rclone serve
// s3" over a crypt remote, and to the MinIO server that lies under both. It
// prints wall time and the processor seconds of the gateway's own process, and
// last the ratios.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"coffer/bench"
)

func main() {
	b := new(benchmark)
	flag.StringVar(&b.bin, "bin", "bin", "folder of coffer and cofferd")
	flag.StringVar(&b.tools, "tools", ".cache/bin", "folder of minio and rclone")
	flag.StringVar(&b.etag, "etag", "md5", "the gateway's ETag: md5 or opaque")
	flag.Float64Var(&b.scale, "scale", 1, "size of the work, 1 is the full one")
	flag.IntVar(&b.reps, "reps", 3, "repetitions, of which the median counts")
	tmp := flag.String("tmp", "/dev/shm", "folder for storage, best on tmpfs")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ok, err := b.run(ctx, *tmp)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	if !ok {
		os.Exit(2)
	}
}

// benchmark is one run.
type benchmark struct {
	bin, tools, etag string
	scale            float64
	reps             int

	dir   string
	costs map[string][]bench.Cost // by "target work"
	peak  map[string]int64        // resident bytes by target
	idle  map[string]int64
}

func (b *benchmark) run(ctx context.Context, tmp string) (ok bool, err error) {
	if b.dir, err = os.MkdirTemp(tmp, "coffer-bench-"); err != nil {
		return false, err
	}
	defer os.RemoveAll(b.dir)
	b.costs, b.peak, b.idle = make(map[string][]bench.Cost), make(map[string]int64), make(map[string]int64)
	storage := filepath.Join(b.dir, "storage")
	if err := os.MkdirAll(storage, 0o755); err != nil {
		return false, err
	}
	server, err := bench.StartMinIO(ctx, filepath.Join(b.tools, "minio"), storage)
	if err != nil {
		return false, err
	}
	defer server.Stop()
	targets, stop, err := b.startTargets(ctx, server)
	defer stop()
	if err != nil {
		return false, err
	}
	for _, w := range works(b.scale) {
		for rep := range b.reps {
			for i := range targets {
				t := targets[(i+rep)%len(targets)]
				if err := b.measure(ctx, t, w); err != nil {
					return false, fmt.Errorf("%s %s: %w", t.name, w.name, err)
				}
			}
		}
	}
	return b.report(), nil
}

// measure runs one work on one target and notes wall time and the processor
// time of the target's own process.
func (b *benchmark) measure(ctx context.Context, t *target, w work) error {
	before, err := t.proc.CPU()
	if err != nil {
		return err
	}
	wall, err := w.do(ctx, t)
	if err != nil {
		return err
	}
	after, err := t.proc.CPU()
	if err != nil {
		return err
	}
	rss, err := t.proc.RSS()
	if err != nil {
		return err
	}
	b.peak[t.name] = max(b.peak[t.name], rss)
	key := t.name + " " + w.name
	b.costs[key] = append(b.costs[key], bench.Cost{Wall: wall, CPU: after - before})
	fmt.Printf("%-7s %-10s wall %7.2f s  cpu %6.2f s (%.2f s/GiB)  rss %d MiB\n", t.name, w.name, wall.Seconds(), (after - before).Seconds(),
		(after-before).Seconds()/(float64(w.bytes)/(1<<30)), rss>>20)
	return nil
}

func (b *benchmark) report() bool {
	wall := func(key string) float64 {
		return bench.Median(b.costs[key], func(c bench.Cost) float64 { return c.Wall.Seconds() })
	}
	cpu := func(key string) float64 {
		return bench.Median(b.costs[key], func(c bench.Cost) float64 { return c.CPU.Seconds() })
	}
	putLimit := 2.6
	if b.etag == "opaque" {
		putLimit = 1.3
	}
	var ratios []bench.Ratio
	for _, w := range works(b.scale) {
		ratios = append(ratios,
			bench.Ratio{What: w.name + "/speed-over-rclone", Value: wall("rclone "+w.name) / wall("coffer "+w.name), Sign: ">=", Limit: 2},
			bench.Ratio{What: w.name + "/speed-over-minio", Value: wall("minio "+w.name) / wall("coffer "+w.name), Sign: ">=", Limit: 0})
		gib := float64(w.bytes) / (1 << 30)
		switch w.name {
		case "put-1GiB":
			ratios = append(ratios, bench.Ratio{What: w.name + "/cpu-s-per-GiB-" + b.etag, Value: cpu("coffer "+w.name) / gib, Sign: "<=", Limit: putLimit})
		case "get-1GiB":
			ratios = append(ratios, bench.Ratio{What: w.name + "/cpu-s-per-GiB", Value: cpu("coffer "+w.name) / gib, Sign: "<=", Limit: 0.6})
		}
	}
	ratios = append(ratios, bench.Ratio{What: "coffer/MiB-over-idle", Value: float64((b.peak["coffer"] - b.idle["coffer"]) >> 20), Sign: "<=", Limit: 64})
	return bench.Print(ratios)
}
