// Command daemon has cofferd watch a large tree, and measures what it costs while
// nothing happens and how soon a saved file is safe upstream. It prints the
// figures, and last the ratios.
//
// The processor is counted in seconds of the process, so that a busy machine does
// not spoil it; times on the clock are those of the machine as it is.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"time"

	"coffer/bench"
	"coffer/daemon"
)

// The tree at scale 1.
const (
	fullDirs    = 20_000
	filesPerDir = 50
	quiet       = 5 * time.Second // the default of a source
)

func main() {
	b := new(benchmark)
	flag.StringVar(&b.bin, "bin", "bin", "folder of coffer and cofferd")
	flag.Float64Var(&b.scale, "scale", 1, "size of the tree, 1 is 20,000 directories with a million files")
	flag.IntVar(&b.saves, "saves", 9, "files saved, of which the median counts")
	flag.DurationVar(&b.idle, "idle", time.Minute, "how long nothing happens")
	tmp := flag.String("tmp", "/dev/shm", "folder for the tree and the upstream, best on tmpfs")
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
	bin   string
	scale float64
	saves int
	idle  time.Duration

	dir    string
	env    []string
	dirs   []string
	client *daemon.Client
}

func (b *benchmark) run(ctx context.Context, tmp string) (ok bool, err error) {
	if b.dir, err = os.MkdirTemp(tmp, "bench-daemon-"); err != nil {
		return false, err
	}
	defer os.RemoveAll(b.dir)
	if err := b.makeTree(); err != nil {
		return false, err
	}
	if err := b.setUp(ctx); err != nil {
		return false, err
	}
	began := time.Now()
	p, err := bench.Start(b.env, filepath.Join(b.dir, "log"), filepath.Join(b.bin, "cofferd"))
	if err != nil {
		return false, err
	}
	defer p.Stop()
	b.client = daemon.NewClient(filepath.Join(b.dir, "control.sock"))
	started, err := b.until(ctx, began, func(s daemon.SourceStatus) bool { return s.Watch.Directories >= len(b.dirs) })
	if err != nil {
		return false, err
	}
	startCPU, err := p.CPU()
	if err != nil {
		return false, err
	}
	fmt.Printf("start      %d directories watched after %v, %v of the processor (the first backup has begun meanwhile)\n", len(b.dirs), started, startCPU)
	first, err := b.until(ctx, began, func(s daemon.SourceStatus) bool { return !s.LastSaved.IsZero() && s.State == "idle" })
	if err != nil {
		return false, err
	}
	peak, err := p.PeakRSS()
	if err != nil {
		return false, err
	}
	fmt.Printf("first      backup saved after %v, %d MiB at its peak\n", first, peak>>20)
	return b.measure(ctx, p, started)
}

// measure prints what an idle daemon costs and how soon saves are safe.
func (b *benchmark) measure(ctx context.Context, p *bench.Process, started time.Duration) (ok bool, err error) {
	scan, err := b.cost(p, func() error {
		_, err := b.client.Backup(ctx, nil, nil)
		return err
	})
	if err != nil {
		return false, err
	}
	fmt.Printf("scan       of all files: %v, %v of the processor\n", scan.Wall, scan.CPU)
	idle, err := b.cost(p, func() error { return wait(ctx, b.idle) })
	if err != nil {
		return false, err
	}
	rss, err := p.RSS()
	if err != nil {
		return false, err
	}
	// A scan comes round once an hour.
	core := idle.CPU.Seconds()/idle.Wall.Seconds() + scan.CPU.Seconds()/time.Hour.Seconds()
	fmt.Printf("idle       %.3f %% of a core, the hourly scan included; %d MiB\n", 100*core, rss>>20)
	var safe []time.Duration
	all, err := b.cost(p, func() error {
		for i := range b.saves {
			took, err := b.save(ctx, i)
			if err != nil {
				return err
			}
			safe = append(safe, took)
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	slices.Sort(safe)
	p50 := safe[len(safe)/2]
	peak, err := p.PeakRSS()
	if err != nil {
		return false, err
	}
	load, _ := os.ReadFile("/proc/loadavg") // for who reads the figures
	fmt.Printf("safe       a saved file is upstream after %v (median), at most %v: a quiet time of %v, then %v of the processor; load %s",
		p50, safe[len(safe)-1], quiet, (all.CPU / time.Duration(b.saves)).Round(10*time.Millisecond), load)
	return bench.Print([]bench.Ratio{
		{What: "daemon-start-seconds", Value: started.Seconds(), Sign: "<=", Limit: 10},
		{What: "daemon-idle-core", Value: core, Sign: "<=", Limit: 0.01},
		{What: "daemon-idle-MiB", Value: float64(rss) / (1 << 20), Sign: "<=", Limit: 200},
		{What: "daemon-peak-MiB", Value: float64(peak) / (1 << 20), Sign: "<=", Limit: 200},
		{What: "daemon-safe-p50-seconds", Value: p50.Seconds(), Sign: "<=", Limit: 10},
	}), nil
}

// cost is what the daemon uses while fn runs.
func (b *benchmark) cost(p *bench.Process, fn func() error) (c bench.Cost, err error) {
	before, err := p.CPU()
	if err != nil {
		return c, err
	}
	began := time.Now()
	if err := fn(); err != nil {
		return c, err
	}
	c.Wall = time.Since(began)
	after, err := p.CPU()
	c.CPU = after - before
	return c, err
}

// save writes a file and waits until a snapshot that has it is upstream.
func (b *benchmark) save(ctx context.Context, i int) (time.Duration, error) {
	st, err := b.client.Status(ctx)
	if err != nil {
		return 0, err
	}
	before := st.Sources[0].Snapshot
	began := time.Now()
	if err := os.WriteFile(filepath.Join(b.dirs[(i*7919)%len(b.dirs)], fmt.Sprintf("saved-%d", i)), fmt.Appendf(nil, "save %d", i), 0o600); err != nil {
		return 0, err
	}
	return b.until(ctx, began, func(s daemon.SourceStatus) bool { return s.Snapshot != before })
}

// until asks the daemon again and again, and says how long after began it was so.
func (b *benchmark) until(ctx context.Context, began time.Time, is func(daemon.SourceStatus) bool) (time.Duration, error) {
	for {
		st, err := b.client.Status(ctx)
		if err == nil && len(st.Sources) == 1 {
			if s := st.Sources[0]; s.LastError != "" {
				return 0, fmt.Errorf("the daemon says: %s", s.LastError)
			} else if is(s) {
				return time.Since(began).Round(10 * time.Millisecond), nil
			}
		}
		if time.Since(began) > time.Hour {
			return 0, fmt.Errorf("the daemon takes longer than an hour: %w", err)
		}
		if err := wait(ctx, 50*time.Millisecond); err != nil {
			return 0, err
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
