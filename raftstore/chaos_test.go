package raftstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// counterModel is what clients may see: each increment of a key answers one
// more. An increment with unknown outcome may happen at any time after its call.
var counterModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := make(map[string][]porcupine.Operation)
		for _, op := range history {
			byKey[op.Input.(string)] = append(byKey[op.Input.(string)], op)
		}
		var parts [][]porcupine.Operation
		for _, ops := range byKey {
			parts = append(parts, ops)
		}
		return parts
	},
	Init: func() any { return 0 },
	Step: func(state, _, output any) (bool, any) {
		n, answer := state.(int)+1, output.(int)
		return answer == unknownAnswer || answer == n, n
	},
}

const unknownAnswer = -1

// chaos is a cluster with a nemesis.
type chaos struct {
	t     *testing.T
	c     testCluster
	fs    faults
	disks []*vfs.MemFS
	logs  []*slowLog
	rng   *rand.Rand

	// mu is held by a client while it calls a node, for writing while the
	// nemesis replaces one.
	mu []sync.RWMutex
}

// slowLog hangs while a test wants it to.
type slowLog struct {
	backend
	hang atomic.Bool
}

func (l *slowLog) StoreLogs(logs []*raft.Log) error {
	for l.hang.Load() {
		time.Sleep(time.Millisecond)
	}
	return l.backend.StoreLogs(logs)
}

// setting reads a number from the environment: SEED and CHAOS_SECONDS make the
// test another one, or longer.
func setting(t *testing.T, name string, or int) int {
	v := os.Getenv(name)
	if v == "" {
		return or
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// Clients count on many keys while nodes lose power, lose each other, hang and
// hand over. Every answer must be explained by one order that agrees with time.
func TestChaos(t *testing.T) {
	t.Parallel()
	seed, seconds := setting(t, "SEED", 1), setting(t, "CHAOS_SECONDS", 8)
	ch := &chaos{t: t, fs: make(faults, 3), disks: make([]*vfs.MemFS, 3), logs: make([]*slowLog, 3), mu: make([]sync.RWMutex, 3),
		rng: rand.New(rand.NewPCG(uint64(seed), 1))}
	ch.c = startCluster(t, 3, func(i int, c *Config) {
		ch.disks[i] = vfs.NewCrashableMem()
		c.Dir, c.hooks.fs = "node", ch.disks[i]
		c.Heartbeat, c.StallAfter, c.ExitAfter = 300*time.Millisecond, 200*time.Millisecond, time.Minute
		c.SnapshotEntries, c.TrailingEntries = 200, 50
		c.hooks.snapEvery, c.hooks.markEvery = 100*time.Millisecond, 100*time.Millisecond
		c.hooks.logs = func(b backend) backend {
			ch.logs[i] = &slowLog{backend: b}
			return ch.logs[i]
		}
		c.hooks.transport = func(tr *transport) raft.Transport {
			ch.fs[i] = newFaultTransport(t, tr, unguarded{})
			return ch.fs[i]
		}
	})
	ch.c.propose(t, "incr warm-up")
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(seconds)*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var history []porcupine.Operation
	start := time.Now()
	for client := range 8 {
		wg.Go(func() {
			ops := ch.client(ctx, client, start)
			mu.Lock()
			history = append(history, ops...)
			mu.Unlock()
		})
	}
	done := ch.nemesis(ctx)
	wg.Wait()
	ch.heal()
	ch.c.propose(t, "incr warm-up")
	ch.c.agree(t)
	known := 0
	for _, op := range history {
		if op.Output != unknownAnswer {
			known++
		}
	}
	t.Logf("seed %d: %d answers, %d unknown; nemesis %v", seed, known, len(history)-known, done)
	if known < 20*seconds {
		t.Errorf("only %d answers: the test shows nothing", known)
	}
	if got := porcupine.CheckOperationsTimeout(counterModel, history, 30*time.Second); got != porcupine.Ok {
		t.Errorf("history is %v", got)
	}
}

// client counts on a few keys that it shares with others, and goes to fresh ones
// after an unknown outcome, which would otherwise make the check explode.
func (ch *chaos) client(ctx context.Context, id int, start time.Time) (ops []porcupine.Operation) {
	rng := rand.New(rand.NewPCG(uint64(id), 2))
	round, node := 0, 0
	for ctx.Err() == nil {
		key := fmt.Sprintf("k%d-%d", rng.IntN(3), round)
		call := time.Since(start).Nanoseconds()
		n, err := ch.incr(ctx, node, key)
		op := porcupine.Operation{ClientId: id, Input: key, Call: call, Output: n, Return: time.Since(start).Nanoseconds()}
		switch {
		case err == nil:
			ops = append(ops, op)
		case errors.Is(err, ErrNoEffect):
			node = (node + 1) % len(ch.c)
			time.Sleep(time.Millisecond)
		default:
			op.Output, op.Return = unknownAnswer, 1<<62
			ops = append(ops, op)
			round++
			node = (node + 1) % len(ch.c)
		}
	}
	return ops
}

func (ch *chaos) incr(ctx context.Context, node int, key string) (int, error) {
	ch.mu[node].RLock()
	defer ch.mu[node].RUnlock()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	b, err := ch.c[node].store.Propose(ctx, []byte("incr "+key))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(b))
}

// nemesis does one bad thing after the other until ctx ends, and says what.
func (ch *chaos) nemesis(ctx context.Context) map[string]int {
	done := make(map[string]int)
	for ctx.Err() == nil {
		i := ch.rng.IntN(3)
		pause := time.Duration(ch.rng.IntN(800)) * time.Millisecond
		switch what := []string{"partition", "deaf", "mute", "power", "hang", "transfer"}[ch.rng.IntN(6)]; what {
		case "partition":
			ch.fs.cut(i, true)
			time.Sleep(pause)
			ch.fs.cut(i, false)
			done[what]++
		case "deaf":
			ch.fs[i].cutIn.Store(true)
			time.Sleep(pause)
			ch.fs[i].cutIn.Store(false)
			done[what]++
		case "mute":
			ch.fs[i].cutOut.Store(true)
			time.Sleep(pause)
			ch.fs[i].cutOut.Store(false)
			done[what]++
		case "power":
			ch.power(i)
			done[what]++
		case "hang":
			ch.logs[i].hang.Store(true)
			time.Sleep(pause)
			ch.logs[i].hang.Store(false)
			done[what]++
		case "transfer":
			if ch.c[i].store.Transfer(ctx, "") == nil {
				done[what]++
			}
		}
		time.Sleep(time.Duration(ch.rng.IntN(400)) * time.Millisecond)
	}
	return done
}

// power cuts the power of a node. It is silenced before its disk is copied:
// what it would say afterwards, it would say with a disk that is not its own.
func (ch *chaos) power(i int) {
	ch.fs.cut(i, true)
	time.Sleep(50 * time.Millisecond)
	ch.disks[i] = ch.disks[i].CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: ch.rng.IntN(101), RNG: ch.rng})
	ch.mu[i].Lock() // clients of the node have heard "unknown" or wait a little
	defer ch.mu[i].Unlock()
	ch.c[i].halt()
	ch.c[i].c.hooks.fs = ch.disks[i]
	ch.c[i].start()
}

func (ch *chaos) heal() {
	for i := range ch.c {
		ch.fs.cut(i, false)
		ch.logs[i].hang.Store(false)
	}
}
