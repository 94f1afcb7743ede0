// Command gateway gives the same S3 work to coffer's gateway, to "rclone serve
// s3" over a crypt remote, and to the MinIO server that lies under both. It
// prints wall time and the processor seconds of every process, and last the
// ratios.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"coffer/bench"
)

func main() {
	b := new(benchmark)
	flag.StringVar(&b.bin, "bin", "bin", "folder of coffer and cofferd")
	flag.StringVar(&b.tools, "tools", ".cache/bin", "folder of minio and rclone")
	flag.Float64Var(&b.scale, "scale", 1, "size of the work, 1 is the full one")
	flag.IntVar(&b.reps, "reps", 3, "repetitions, of which the median counts")
	flag.StringVar(&b.profiles, "profiles", "", "folder for a processor profile of each work on coffer")
	only := flag.String("only", "", "regular expression for \"TARGET WORK\": the others are not done")
	tmp := flag.String("tmp", "/dev/shm", "folder for storage, best on tmpfs")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if b.only, err = regexp.Compile(*only); err == nil {
		var ok bool
		if ok, err = b.run(ctx, *tmp); err == nil && !ok {
			os.Exit(2)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// benchmark is one run.
type benchmark struct {
	bin, tools string
	scale      float64
	reps       int
	only       *regexp.Regexp
	profiles   string // folder; "" makes none

	dir     string
	server  *bench.MinIO
	costs   map[string][]bench.Cost // by "target work"
	idle    map[string]int64        // resident bytes by target
	peak    map[string]int64
	rebuild time.Duration
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
	if b.server, err = bench.StartMinIO(ctx, filepath.Join(b.tools, "minio"), storage); err != nil {
		return false, err
	}
	defer b.server.Stop()
	targets, stop, err := b.startTargets(ctx)
	defer stop()
	if err != nil {
		return false, err
	}
	for _, w := range works(b.scale) {
		for rep := range b.reps {
			for i := range targets {
				t := targets[(i+rep)%len(targets)]
				if t.name == "opaque" && w.name != bigPut || !b.only.MatchString(t.name+" "+w.name) {
					continue
				}
				if err := b.measure(ctx, t, w); err != nil {
					return false, fmt.Errorf("%s %s: %w", t.name, w.name, err)
				}
			}
		}
	}
	for _, t := range targets {
		if b.peak[t.name], err = t.proc.PeakRSS(); err != nil {
			return false, err
		}
	}
	if b.only.String() != "" {
		return true, nil
	}
	if b.rebuild, err = b.timeRebuild(ctx, targets); err != nil {
		return false, fmt.Errorf("rebuilding the index: %w", err)
	}
	return b.report(), nil
}

// measure runs one work on one target and notes wall time and the processor
// time of the target's own process. What the two others used is printed.
func (b *benchmark) measure(ctx context.Context, t *target, w work) error {
	before, err := b.processorTimes(t)
	if err != nil {
		return err
	}
	profiled := make(chan error, 1)
	go func() { profiled <- b.profile(ctx, t, w) }()
	wall, err := w.do(ctx, t)
	if err != nil {
		return err
	}
	after, err := b.processorTimes(t)
	if err != nil {
		return err
	}
	rss, err := t.proc.RSS()
	if err != nil {
		return err
	}
	var used [3]float64
	for i := range used {
		used[i] = (after[i] - before[i]).Seconds()
	}
	key := t.name + " " + w.name
	b.costs[key] = append(b.costs[key], bench.Cost{Wall: wall, CPU: after[0] - before[0]})
	fmt.Printf("%-7s %-10s wall %6.2f s  cpu %6.2f s (%.2f s/GiB)  minio %6.2f s  client %5.2f s  rss %d MiB\n", t.name, w.name, wall.Seconds(), used[0],
		used[0]/(float64(w.bytes)/(1<<30)), used[1], used[2], rss>>20)
	return <-profiled
}

// processorTimes are those of the target, of the server under it, and of this
// client.
func (b *benchmark) processorTimes(t *target) (times [3]time.Duration, err error) {
	if times[0], err = t.proc.CPU(); err != nil {
		return times, err
	}
	if times[1], err = b.server.Process().CPU(); err != nil {
		return times, err
	}
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		return times, err
	}
	times[2] = time.Duration(own.Utime.Nano() + own.Stime.Nano())
	return times, nil
}

func (b *benchmark) report() bool {
	wall := func(key string) float64 {
		return bench.Median(b.costs[key], func(c bench.Cost) float64 { return c.Wall.Seconds() })
	}
	perGiB := func(key string, w work) float64 {
		return bench.Median(b.costs[key], func(c bench.Cost) float64 { return c.CPU.Seconds() }) / (float64(w.bytes) / (1 << 30))
	}
	var ratios []bench.Ratio
	for _, w := range works(b.scale) {
		ratios = append(ratios,
			bench.Ratio{What: w.name + "/speed-over-rclone", Value: wall("rclone "+w.name) / wall("coffer "+w.name), Sign: ">=", Limit: 2},
			bench.Ratio{What: w.name + "/speed-over-minio", Value: wall("minio "+w.name) / wall("coffer "+w.name), Sign: ">=", Limit: 0})
		switch w.name {
		case bigPut:
			ratios = append(ratios,
				bench.Ratio{What: w.name + "/cpu-s-per-GiB-md5", Value: perGiB("coffer "+w.name, w), Sign: "<=", Limit: 2.6},
				bench.Ratio{What: w.name + "/cpu-s-per-GiB-opaque", Value: perGiB("opaque "+w.name, w), Sign: "<=", Limit: 1.3})
		case bigGet:
			ratios = append(ratios, bench.Ratio{What: w.name + "/cpu-s-per-GiB", Value: perGiB("coffer "+w.name, w), Sign: "<=", Limit: 0.6})
		}
	}
	ratios = append(ratios,
		bench.Ratio{What: "coffer/peak-MiB-over-idle", Value: float64(b.peak["coffer"]-b.idle["coffer"]) / (1 << 20), Sign: "<=", Limit: 64},
		bench.Ratio{What: "rclone/peak-MiB-over-idle", Value: float64(b.peak["rclone"]-b.idle["rclone"]) / (1 << 20), Sign: ">=", Limit: 0},
		bench.Ratio{What: "rebuild/ms-per-1000-objects", Value: b.rebuild.Seconds() * 1e6 / float64(objects(b.scale)), Sign: ">=", Limit: 0})
	return bench.Print(ratios)
}
