// Command backup gives the same directories to coffer and to restic, both over
// the same MinIO server, interleaved, and prints coffer's cost as a fraction of
// restic's: first backup, unchanged run, an edit in the middle of a large file,
// full restore, which is compared with the source, and the prune after half of
// the files are gone and all snapshots but the last are forgotten.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"coffer/bench"
)

func main() {
	coffer := flag.String("coffer", "bin/coffer", "the coffer program")
	restic := flag.String("restic", ".cache/bin/restic", "the restic program")
	minio := flag.String("minio", ".cache/bin/minio", "the MinIO server")
	tmp := flag.String("tmp", "", "folder for sources and storage, best on tmpfs; default the system's")
	scale := flag.Float64("scale", 1, "size of the work, 1 is the full one")
	reps := flag.Int("reps", 3, "repetitions, of which the median counts")
	work := flag.String("work", "large,small,tree,big", "which directories")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	r := &runner{programs: map[string]string{"coffer": *coffer, "restic": *restic}, minioProgram: *minio,
		scale: *scale, reps: *reps, work: strings.Split(*work, ",")}
	ok, err := r.run(ctx, *tmp)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	if !ok {
		os.Exit(2)
	}
}

// runner holds one benchmark run.
type runner struct {
	programs     map[string]string
	minioProgram string
	scale        float64
	reps         int
	work         []string

	dir    string
	minio  *bench.MinIO
	costs  map[string][]bench.Cost // by "tool work step"
	stored map[string][]int64      // bytes upstream after that
}

// steps of each kind of work, with the limits of coffer's wall time as a
// fraction of restic's.
var limits = map[string]float64{
	"large/first": 0.35, "small/first": 0.35, "tree/first": 0.35, "big/first": 0.35,
	"large/unchanged": 0.2, "small/unchanged": 0.2, "tree/unchanged": 0.2,
	"big/insert":    0.35,
	"large/restore": 0.5, "big/restore": 0.5, "small/restore": 0.3, "tree/restore": 0.3,
	"large/prune": 0.5, "small/prune": 0.5, "tree/prune": 0.5,
}

func (r *runner) run(ctx context.Context, tmp string) (ok bool, err error) {
	for name, p := range r.programs {
		if r.programs[name], err = filepath.Abs(p); err != nil {
			return false, err
		}
	}
	if r.dir, err = os.MkdirTemp(tmp, "coffer-bench-"); err != nil {
		return false, err
	}
	defer os.RemoveAll(r.dir)
	r.costs, r.stored = make(map[string][]bench.Cost), make(map[string][]int64)
	for _, work := range r.work {
		if err := makeSource(filepath.Join(r.dir, work), work, r.scale); err != nil {
			return false, err
		}
		for rep := range r.reps {
			if err := r.repetition(ctx, work, rep); err != nil {
				return false, err
			}
		}
		os.RemoveAll(filepath.Join(r.dir, work))
	}
	return r.report(), nil
}

// repetition runs every step of one kind of work with both tools in turn, over
// a fresh server. Who begins changes from one repetition to the next.
func (r *runner) repetition(ctx context.Context, work string, rep int) error {
	storage := filepath.Join(r.dir, "storage")
	if err := os.MkdirAll(storage, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(storage)
	server, err := bench.StartMinIO(ctx, r.minioProgram, storage)
	if err != nil {
		return err
	}
	defer server.Stop()
	r.minio = server
	tools := []tool{newCoffer(r, work), newRestic(r, work)}
	if rep%2 == 1 {
		tools[0], tools[1] = tools[1], tools[0]
	}
	steps := []string{"first", "unchanged", "restore", "prune"}
	if work == "big" {
		steps = []string{"first", "insert", "restore"}
	}
	for _, t := range tools {
		if err := server.MakeBucket(ctx, t.name()); err != nil {
			return err
		}
		if err := t.prepare(ctx); err != nil {
			return err
		}
	}
	for _, step := range steps {
		if step == "insert" {
			if err := insertByte(filepath.Join(r.dir, work, "big.bin")); err != nil {
				return err
			}
		}
		if step == "prune" {
			half, err := takeHalf(filepath.Join(r.dir, work), filepath.Join(r.dir, "aside"))
			if err != nil {
				return err
			}
			defer half.putBack()
		}
		for _, t := range tools {
			if err := r.measure(ctx, t, work, step); err != nil {
				return err
			}
		}
	}
	return nil
}

// measure runs one step and notes what it took. What a prune needs beforehand is
// not measured.
func (r *runner) measure(ctx context.Context, t tool, work, step string) error {
	if step == "prune" {
		if _, err := t.backup(ctx); err != nil {
			return err
		}
		if err := t.forget(ctx); err != nil {
			return err
		}
	}
	received, requests, err := r.minio.Counters(ctx)
	if err != nil {
		return err
	}
	target := filepath.Join(r.dir, "restored")
	var cost bench.Cost
	switch step {
	case "restore":
		cost, err = t.restore(ctx, target)
	case "prune":
		cost, err = t.prune(ctx)
	default:
		cost, err = t.backup(ctx)
	}
	if err != nil {
		return err
	}
	received2, requests2, err := r.minio.Counters(ctx)
	if err != nil {
		return err
	}
	cost.Sent, cost.Requests = received2-received, requests2-requests
	stored, err := r.minio.Stored(ctx, t.name())
	if err != nil {
		return err
	}
	key := t.name() + " " + work + "/" + step
	r.costs[key] = append(r.costs[key], cost)
	r.stored[key] = append(r.stored[key], stored)
	fmt.Printf("%-7s %-16s wall %7.2f s  cpu %7.2f s  peak %4d MiB  sent %8.1f MB  requests %6d  stored %8.1f MB\n", t.name(), work+"/"+step,
		cost.Wall.Seconds(), cost.CPU.Seconds(), cost.PeakRSS>>20, float64(cost.Sent)/1e6, cost.Requests, float64(stored)/1e6)
	return r.verify(ctx, t, work, step, target)
}

// verify compares what was restored with the source, and restores after a prune
// to do so.
func (r *runner) verify(ctx context.Context, t tool, work, step, target string) error {
	switch step {
	case "restore":
	case "prune":
		if _, err := t.restore(ctx, target); err != nil {
			return err
		}
	default:
		return nil
	}
	defer os.RemoveAll(target)
	if err := compare(filepath.Join(r.dir, work), t.restored(target)); err != nil {
		return fmt.Errorf("%s restored something else: %w", t.name(), err)
	}
	return nil
}
