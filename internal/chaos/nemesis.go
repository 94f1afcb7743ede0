package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// nemesis breaks the fleet, one fault at a time, and mends it.
type nemesis struct {
	fleet    *fleet
	rng      *rand.Rand
	logf     func(string, ...any)
	done     map[string]int // faults by kind
	problems []string
}

// fault is one kind; its do returns with everything mended. An error of it ends the run:
// the machine did not do as it was told, or a node did not come back.
type fault struct {
	name string
	do   func(*nemesis, context.Context) error
}

// faults come round in this order first, then at random.
var faults = []fault{
	{"kill", (*nemesis).killOne}, {"pause", (*nemesis).pauseOne}, {"clock", (*nemesis).clock}, {"partition", (*nemesis).partition},
	{"disk-full", (*nemesis).fillDisk}, {"rollback", (*nemesis).rollBack}, {"one-way", (*nemesis).oneWay},
	{"kill-all", (*nemesis).killAll}, {"slow-link", (*nemesis).slowLink}, {"apart", (*nemesis).apart},
	{"pause-most", (*nemesis).pauseMost}, {"kill-most", (*nemesis).killMost},
}

func (n *nemesis) run(ctx context.Context) error {
	n.done = make(map[string]int)
	for i := 0; ctx.Err() == nil; i++ {
		if n.calm(ctx, 1500) != nil {
			break
		}
		f := faults[i%len(faults)]
		if i >= len(faults) {
			f = faults[n.rng.IntN(len(faults))]
		}
		began := time.Now()
		err := f.do(n, ctx)
		n.logf("nemesis: %-10s %v", f.name, time.Since(began).Round(time.Millisecond))
		if err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		n.done[f.name]++
	}
	return nil
}

// calm waits for half of ms to one and a half of it.
func (n *nemesis) calm(ctx context.Context, ms int) error {
	return pause(ctx, time.Duration(ms/2+n.rng.IntN(ms))*time.Millisecond)
}

// some returns k nodes, in any order.
func (n *nemesis) some(k int) []*node {
	var out []*node
	for _, i := range n.rng.Perm(len(n.fleet.nodes))[:k] {
		out = append(out, n.fleet.nodes[i])
	}
	return out
}

func (n *nemesis) minority() []*node {
	return n.some(max(1, n.rng.IntN(len(n.fleet.nodes)/2+1)))
}

func (n *nemesis) majority() []*node { return n.some(len(n.fleet.nodes)/2 + 1) }

func (n *nemesis) kill(ctx context.Context, nodes []*node) error {
	for _, v := range nodes {
		v.kill()
	}
	n.calm(ctx, 2000)
	var err error
	for _, v := range nodes {
		err = errors.Join(err, v.start())
	}
	return err
}

func (n *nemesis) killOne(ctx context.Context) error  { return n.kill(ctx, n.minority()) }
func (n *nemesis) killMost(ctx context.Context) error { return n.kill(ctx, n.majority()) }
func (n *nemesis) killAll(ctx context.Context) error  { return n.kill(ctx, n.fleet.nodes) }

func (n *nemesis) freeze(ctx context.Context, nodes []*node) error {
	for _, v := range nodes {
		v.signal(syscall.SIGSTOP)
	}
	n.calm(ctx, 4000)
	for _, v := range nodes {
		v.signal(syscall.SIGCONT)
	}
	return nil
}

func (n *nemesis) pauseOne(ctx context.Context) error  { return n.freeze(ctx, n.minority()) }
func (n *nemesis) pauseMost(ctx context.Context) error { return n.freeze(ctx, n.majority()) }

// cut pulls the cables of nodes.
func (n *nemesis) cut(ctx context.Context, nodes []*node) error {
	var err error
	for _, v := range nodes {
		err = errors.Join(err, tool("ip", "link", "set", v.link, "down"))
	}
	n.calm(ctx, 4500)
	for _, v := range nodes {
		err = errors.Join(err, tool("ip", "link", "set", v.link, "up"))
	}
	return err
}

func (n *nemesis) partition(ctx context.Context) error { return n.cut(ctx, n.minority()) }
func (n *nemesis) apart(ctx context.Context) error     { return n.cut(ctx, n.fleet.nodes) }

// oneWay lets nothing go from one node to another; the way back stays open, and
// clients see both.
func (n *nemesis) oneWay(ctx context.Context) error {
	if len(n.fleet.nodes) < 2 {
		return nil
	}
	v := n.some(2)
	err := v[0].inside("ip", "route", "add", "blackhole", v[1].addr+"/32")
	n.calm(ctx, 4500)
	return errors.Join(err, v[0].inside("ip", "route", "del", "blackhole", v[1].addr+"/32"))
}

// slowLink lets a node hear little, and late.
func (n *nemesis) slowLink(ctx context.Context) error {
	v := n.some(1)[0]
	err := tool("tc", "qdisc", "add", "dev", v.link, "root", "tbf", "rate", "100kbit", "burst", "3kb", "latency", "800ms")
	n.calm(ctx, 4500)
	return errors.Join(err, tool("tc", "qdisc", "del", "dev", v.link, "root"))
}

// clock sets clocks wrong, by ten minutes at most each, and right again: by less than
// what a leader is believed, and by far more than the deadline of a last attempt.
func (n *nemesis) clock(ctx context.Context) error {
	var err error
	for _, v := range n.some(1 + n.rng.IntN(len(n.fleet.nodes))) {
		wrong := time.Duration(n.rng.IntN(1200)-600) * time.Second
		err = errors.Join(err, os.WriteFile(v.skew(), []byte(wrong.String()), 0o600))
	}
	n.calm(ctx, 6000)
	for _, v := range n.fleet.nodes {
		if e := os.Remove(v.skew()); e != nil && !errors.Is(e, os.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// fillDisk leaves a node no room, then gives it back. The node may have ended:
// what it could not write it must not have acknowledged. It is started again in any
// case, as one that failed to write has to be.
func (n *nemesis) fillDisk(ctx context.Context) error {
	v := n.some(1)[0]
	ballast := filepath.Join(v.dir, "ballast")
	if err := fill(ballast); err != nil {
		return err
	}
	n.calm(ctx, 4000)
	v.kill()
	return errors.Join(os.Remove(ballast), v.start())
}

// fill makes a file as large as there is room.
func fill(file string) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	var size int64
	for step := int64(64 << 20); step >= 4096; {
		switch err := unix.Fallocate(int(f.Fd()), 0, size, step); {
		case err == nil:
			size += step
		case errors.Is(err, unix.ENOSPC):
			step /= 2
		case !errors.Is(err, unix.EINTR):
			return err
		}
	}
	return nil
}

// memory is the age of a disk that the other nodes must notice: they tell each other
// every ten seconds how long a ledger is, and where a log ends.
const memory = 12 * time.Second

// rollBack gives a node the disk that it had some seconds, and guesses, ago. The
// whole disk, SoftHSM's token and its anchor with it: only the others can tell. The
// node must end by itself and say why. Then its newest disk comes back.
func (n *nemesis) rollBack(ctx context.Context) error {
	if len(n.fleet.nodes) < 2 {
		return nil
	}
	v := n.some(1)[0]
	if err := n.fleet.await(ctx, n.fleet.nodes); err != nil {
		return err
	}
	v.kill()
	old, now := v.home()+".old", v.home()+".now"
	if err := copyTree(v.home(), old); err != nil {
		return err
	}
	defer os.RemoveAll(old)
	if err := errors.Join(v.start(), n.fleet.await(ctx, n.fleet.nodes)); err != nil {
		return err
	}
	if err := pause(ctx, memory); err != nil { // others guess, and remember
		return err
	}
	v.kill()
	if err := errors.Join(os.Rename(v.home(), now), os.Rename(old, v.home())); err != nil {
		return err
	}
	from := v.logSize()
	if err := v.start(); err != nil {
		return err
	}
	if err := v.refuses(from); err != nil {
		n.problems = append(n.problems, err.Error())
	}
	return errors.Join(os.RemoveAll(v.home()), os.Rename(now, v.home()), v.start())
}
