package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"coffer/bench"
	"coffer/bench/vault/device"
	"coffer/vault"
)

// hsmClients ask at the same time, both of the fleet and of the token alone.
const hsmClients = 128

// hsmTakes is what an evaluation by an HSM takes that is to be the bottleneck:
// SoftHSM at full speed is none where three nodes and their clients share two
// processors with it.
const hsmTakes = 4 * time.Millisecond

// keysInToken has the node keep its keys in a SoftHSM token of its own.
func keysInToken(home string) (pin [32]byte, identity [33]byte, err error) {
	if pin, _, err = keysInMemory(home); err != nil {
		return pin, identity, err
	}
	identity, err = device.Provision(context.Background(), home)
	return pin, identity, err
}

// measureHSM compares guesses a second at a node with a token, each counted by
// three nodes, evaluated and answered for, with what the same token does alone at
// saturation: for each guess one evaluation and as many signatures as the node made.
// With a token that takes its time the node must keep it busy. At SoftHSM's own
// speed fleet and token compete for the processors with each other and with
// whatever else runs here; so there processor time is compared: what this machine's
// processors do when nothing else uses them, over the one that the token alone has.
func (b *benchmark) measureHSM(ctx context.Context, program string) ([]bench.Ratio, error) {
	fast, err := b.besideAlone(ctx, program, 0)
	if err != nil {
		return nil, err
	}
	slow, err := b.besideAlone(ctx, program, hsmTakes)
	return []bench.Ratio{
		{What: "guesses-softhsm-by-cpu/over-the-hsm-alone", Value: fast.cpu, Sign: ">=", Limit: 0.85},
		{What: "guesses-hsm-" + hsmTakes.String() + "/over-the-hsm-alone", Value: slow.rate, Sign: ">=", Limit: 0.85},
	}, err
}

// beside is a node's guesses a second over those of its token alone.
type beside struct {
	rate float64 // as measured
	cpu  float64 // if this machine's processors did nothing else
}

// besideAlone returns the median ratio of pairs of measurements that take turns,
// so that a busy machine hurts both.
func (b *benchmark) besideAlone(ctx context.Context, program string, takes time.Duration) (median beside, err error) {
	dir := filepath.Join(b.dir, "hsm-"+takes.String())
	f, err := startFleet(ctx, dir, program, keysInToken, "-hsm-takes", takes.String())
	if err != nil {
		return median, err
	}
	defer f.stop()
	g, err := register(ctx, f, max(b.accounts/20, 200))
	if err != nil {
		return median, err
	}
	a, err := newAlone(ctx, filepath.Join(dir, "alone"), takes)
	if err != nil {
		return median, err
	}
	defer a.device.Close()
	var rates, cpus []float64
	for range b.reps {
		l, w, err := g.evaluated(ctx, hsmClients, len(g.pool)/b.reps)
		if err != nil {
			return median, err
		}
		done, took, err := l.run(ctx, b.each)
		if err != nil {
			return median, fmt.Errorf("guesses with SoftHSM: %w", err)
		}
		signatures := float64(len(w.signed)) / float64(max(done, 1))
		alone, aloneCPU, err := a.rate(ctx, b.each, signatures)
		if err != nil {
			return median, err
		}
		each := func(d time.Duration) time.Duration { return (d / time.Duration(max(done, 1))).Round(time.Microsecond) }
		nodes, clients := each(l.cpuServers), each(l.cpuClients)
		rate := float64(done) / took.Seconds()
		fmt.Printf("SoftHSM, %v: guesses %.0f /s  p50 %v  p99 %v  %.2f signatures each; alone %.0f /s; processor time of a guess: alone %v, nodes %v, clients %v\n",
			takes, rate, l.quantile(0.5), l.quantile(0.99), signatures, alone, aloneCPU, nodes, clients)
		rates = append(rates, rate/alone)
		cpus = append(cpus, float64(runtime.NumCPU())*aloneCPU.Seconds()/(nodes+clients).Seconds())
	}
	slices.Sort(rates)
	slices.Sort(cpus)
	return beside{rates[len(rates)/2], cpus[len(cpus)/2]}, nil
}

// evaluated is clients that each have the leader count a guess and evaluate it.
func (g *guesses) evaluated(ctx context.Context, clients, share int) (*load, *wire, error) {
	w, err := g.leader(ctx, clients, perConn)
	if err != nil {
		return nil, nil, err
	}
	todo := g.take(share)
	var next atomic.Int64
	return &load{clients: clients, servers: g.f.procs, check: w.close, do: func(ctx context.Context, client int) error {
		i := int(next.Add(1)) - 1
		if i >= len(todo) {
			return errEmpty
		}
		for _, q := range []struct {
			kind vault.Kind
			body any
		}{{vault.KindAttempt, &todo[i]}, {vault.KindEval, (*vault.EvalBody)(&todo[i])}} {
			a, err := w.ask(ctx, client, q.kind, q.body)
			if err != nil {
				return err
			}
			if a.Code != vault.CodeOK {
				return fmt.Errorf("the leader answers %q", a.Code)
			}
		}
		return nil
	}}, w, nil
}

// alone is a token that nobody else uses.
type alone struct {
	device  *device.Device
	record  []byte
	element [33]byte
}

func newAlone(ctx context.Context, home string, takes time.Duration) (*alone, error) {
	a := new(alone)
	var err error
	if a.element, err = device.Provision(ctx, home); err != nil { // any point will do
		return nil, err
	}
	if a.device, err = device.Open(ctx, home, takes); err != nil {
		return nil, err
	}
	a.record, _, err = a.device.NewKey(ctx, []byte("owner"))
	return a, err
}

// rate is how often a second the token does a guess's work, an evaluation and so many
// signatures, and the processor time of one.
func (a *alone) rate(ctx context.Context, each time.Duration, signatures float64) (perSecond float64, cpu time.Duration, err error) {
	began, own := time.Now(), bench.OwnCPU()
	var done atomic.Int64
	work, ctx := errgroup.WithContext(ctx)
	for range hsmClients {
		work.Go(func() error {
			for time.Since(began) < each {
				if _, err := a.device.Evaluate(ctx, []byte("owner"), a.record, a.element); err != nil {
					return err
				}
				n := float64(done.Add(1))
				for range int(n*signatures) - int((n-1)*signatures) {
					if _, err := a.device.Sign(ctx, sha256.Sum256(nil)); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	err = work.Wait()
	n := done.Load()
	return float64(n) / time.Since(began).Seconds(), ((bench.OwnCPU() - own) / time.Duration(n+1)).Round(time.Microsecond), err
}
