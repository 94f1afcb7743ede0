// Command vault counts guesses: how many a second a fleet of three nodes commits
// over the client protocol, beside etcd's puts and its get-plus-compare-and-swap,
// which is what a counter in etcd would cost. Both have three members on this
// machine, TLS, a disk that syncs, and the same number of clients; the runs
// take turns. The nodes keep their keys in memory: no HSM is measured. Also the
// log alone, without network and TLS to the clients, and the time of a recovery.
// Last, nodes with SoftHSM beside what one SoftHSM does alone; see measureHSM.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"time"

	"coffer/bench"
)

func main() {
	b := new(benchmark)
	flag.DurationVar(&b.each, "each", 3*time.Second, "length of one measurement")
	flag.IntVar(&b.reps, "reps", 3, "repetitions, of which the median counts")
	flag.IntVar(&b.accounts, "accounts", 6000, "accounts to guess at; each gives 30 guesses")
	flag.BoolVar(&b.hsmOnly, "hsm", false, "measure only nodes with SoftHSM")
	flag.IntVar(&b.scale, "scale", 0, "measure only one node with so many accounts: ten million take half an hour and 25 GB")
	tmp := flag.String("tmp", os.TempDir(), "folder for logs and states: on the disk that is to be measured")
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

type benchmark struct {
	each     time.Duration
	reps     int
	accounts int
	hsmOnly  bool
	scale    int
	dir      string
	perS     map[string][]float64 // by "what clients"
	cpu      map[string][]float64 // likewise: microseconds of all servers for one
}

// clients are the numbers of them to measure with.
var clients = []int{16, 128, 1024}

func (b *benchmark) run(ctx context.Context, tmp string) (ok bool, err error) {
	if b.dir, err = os.MkdirTemp(tmp, "coffer-bench-"); err != nil {
		return false, err
	}
	defer os.RemoveAll(b.dir)
	if b.scale > 0 {
		ratios, err := measureScale(ctx, b.scale, b.dir)
		return err == nil && bench.Print(ratios), err
	}
	b.perS, b.cpu = make(map[string][]float64), make(map[string][]float64)
	node := filepath.Join(b.dir, "node")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", node, "coffer/bench/vault/node").CombinedOutput(); err != nil {
		return false, fmt.Errorf("building the node: %w\n%s", err, out)
	}
	if b.hsmOnly {
		r, err := b.measureHSM(ctx, node)
		return err == nil && bench.Print(r), err
	}
	f, err := startFleet(ctx, b.dir, node, keysInMemory)
	if err != nil {
		return false, err
	}
	defer f.stop()
	e, err := startEtcd(ctx, filepath.Join(b.dir, "etcd"))
	if err != nil {
		return false, err
	}
	defer e.stop()
	g, err := register(ctx, f, b.accounts)
	if err != nil {
		return false, err
	}
	recover50, err := g.recoverTime(ctx, 40)
	if err != nil {
		return false, err
	}
	fmt.Printf("recover on an idle fleet: p50 %v, without Argon2\n", recover50.Round(10*time.Microsecond))
	if err := b.measureAll(ctx, g, e); err != nil {
		return false, err
	}
	inside, err := g.proposeInside(ctx)
	if err != nil {
		return false, err
	}
	fmt.Printf("in-process, 128 proposers: %.0f guesses/s\n", inside)
	f.stop()
	e.stop()
	hsm, err := b.measureHSM(ctx, node)
	if err != nil {
		return false, err
	}
	return b.report(inside, recover50, hsm), nil
}

// measureAll lets the three kinds of work take turns.
func (b *benchmark) measureAll(ctx context.Context, g *guesses, e *etcd) error {
	share := len(g.pool) / (len(clients)*b.reps + 4) // what one measurement may use up
	for _, n := range clients {
		kinds := []struct {
			what string
			load func(ctx context.Context) (*load, error)
		}{
			{"guess", func(ctx context.Context) (*load, error) { return g.load(ctx, n, perConn, share) }},
			{"put", func(ctx context.Context) (*load, error) { return e.puts(ctx, n) }},
			{"cas", func(ctx context.Context) (*load, error) { return e.swaps(ctx, n) }},
		}
		for rep := range b.reps {
			for i := range kinds {
				k := kinds[(i+rep)%len(kinds)]
				l, err := k.load(ctx)
				if err != nil {
					return fmt.Errorf("%s, %d clients: %w", k.what, n, err)
				}
				done, took, err := l.run(ctx, b.each)
				if err != nil {
					return fmt.Errorf("%s, %d clients: %w", k.what, n, err)
				}
				rate := float64(done) / took.Seconds()
				key := fmt.Sprint(k.what, " ", n)
				b.perS[key] = append(b.perS[key], rate)
				servers, own := float64(l.cpuServers.Microseconds())/float64(done), float64(l.cpuClients.Microseconds())/float64(done)
				b.cpu[key] = append(b.cpu[key], servers)
				fmt.Printf("%-5s %4d clients  %8.0f /s  p50 %v  p99 %v  CPU of the servers %.0f us, of the clients %.0f us\n",
					k.what, n, rate, l.quantile(0.5), l.quantile(0.99), servers, own)
			}
		}
	}
	for _, n := range clients[1:] { // what sharing connections is worth: no ratio
		l, err := g.load(ctx, n, 1, share)
		if err != nil {
			return err
		}
		done, took, err := l.run(ctx, b.each)
		if err != nil {
			return fmt.Errorf("guesses over a connection each: %w", err)
		}
		fmt.Printf("guess %4d clients, a connection each: %.0f /s  p50 %v\n", n, float64(done)/took.Seconds(), l.quantile(0.5))
	}
	return nil
}

func (b *benchmark) report(inside float64, recover50 time.Duration, hsm []bench.Ratio) bool {
	of := func(m map[string][]float64, what string, n int) float64 {
		v := slices.Sorted(slices.Values(m[fmt.Sprint(what, " ", n)]))
		return v[len(v)/2]
	}
	median := func(what string, n int) float64 { return of(b.perS, what, n) }
	for _, n := range clients { // what a busy machine does not change
		fmt.Printf("%4d clients: CPU of all servers for a guess %.0f us, for a put %.0f us, for a get and swap %.0f us\n",
			n, of(b.cpu, "guess", n), of(b.cpu, "put", n), of(b.cpu, "cas", n))
	}
	var ratios []bench.Ratio
	for _, n := range clients {
		ratios = append(ratios,
			bench.Ratio{What: fmt.Sprintf("guesses-%d/over-etcd-put", n), Value: median("guess", n) / median("put", n), Sign: ">=", Limit: 1.5},
			bench.Ratio{What: fmt.Sprintf("guesses-%d/over-etcd-get-cas", n), Value: median("guess", n) / median("cas", n), Sign: ">=", Limit: 3})
	}
	ratios = append(ratios,
		bench.Ratio{What: "in-process-128/per-s", Value: inside, Sign: ">=", Limit: 50000},
		bench.Ratio{What: "recover-p50/ms-over-argon2", Value: float64(recover50.Microseconds()) / 1000, Sign: "<=", Limit: 30})
	return bench.Print(append(ratios, hsm...))
}
