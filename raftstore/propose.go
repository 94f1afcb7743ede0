package raftstore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// MaxEntry is the most bytes that one log entry holds, and so nearly the most
// that one command may have ([MaxCommand]): larger ones would hold up heartbeats.
const MaxEntry = 64 << 10

// MaxCommand is the longest command that Propose takes.
const MaxCommand = MaxEntry - 16

// What an error of Propose says about the command.
var (
	// ErrNoEffect means that the command was not carried out and never will be:
	// it may be proposed again.
	ErrNoEffect = errors.New("raftstore: command had no effect")
	// ErrUnknown means that the command may have been carried out, or may yet
	// be. Only asking the machine tells.
	ErrUnknown = errors.New("raftstore: outcome is unknown")
	// ErrNotLeader means that another node must be asked; see [NotLeaderError].
	// It implies ErrNoEffect.
	ErrNotLeader = errors.New("raftstore: not the leader")
)

// NotLeaderError is the ErrNotLeader that Propose returns. It names the leader
// that this node knows of, "" when it knows none.
type NotLeaderError struct{ Leader string }

func (e *NotLeaderError) Error() string {
	if e.Leader == "" {
		return ErrNotLeader.Error() + ", which is not known"
	}
	return fmt.Sprintf("%v, which is %s", ErrNotLeader, e.Leader)
}

// Is makes the error both ErrNotLeader and ErrNoEffect.
func (e *NotLeaderError) Is(target error) bool {
	return target == ErrNotLeader || target == ErrNoEffect
}

const (
	maxQueue    = 4096 // proposals that wait; more are refused
	maxInFlight = 4    // entries proposed and not answered; what waits meanwhile shares the next one
)

// proposal is a command on its way.
type proposal struct {
	cmd    []byte
	taken  atomic.Bool // set once, by the batcher that puts it into an entry or by Propose that gives up
	answer chan outcome
}

type outcome struct {
	answer []byte
	err    error
}

// Propose puts cmd into the order that all nodes agree on, and returns the
// machine's answer on this node once a majority holds the command and this node
// has applied it. Every error is one of ErrNotLeader, ErrNoEffect or ErrUnknown.
func (s *Store) Propose(ctx context.Context, cmd []byte) ([]byte, error) {
	start := time.Now()
	answer, err := s.proposeOne(ctx, cmd)
	s.metrics.proposed(err, time.Since(start))
	return answer, err
}

func (s *Store) proposeOne(ctx context.Context, cmd []byte) ([]byte, error) {
	if len(cmd) > MaxCommand {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrNoEffect, len(cmd), MaxCommand)
	}
	n := s.node.Load()
	if n == nil {
		return nil, fmt.Errorf("%w: node does not run", ErrNoEffect)
	}
	if n.raft.State() != raft.Leader {
		return nil, n.notLeader()
	}
	p := &proposal{cmd: append([]byte(nil), cmd...), answer: make(chan outcome, 1)}
	select {
	case s.queue <- p:
	default:
		return nil, fmt.Errorf("%w: %d proposals wait already", ErrNoEffect, maxQueue)
	}
	select {
	case o := <-p.answer:
		return o.answer, o.err
	case <-ctx.Done():
		return p.giveUp(ctx.Err())
	case <-n.down:
		return p.giveUp(errors.New("node stops"))
	}
}

// giveUp ends a proposal that nobody waits for any longer.
func (p *proposal) giveUp(cause error) ([]byte, error) {
	if p.taken.CompareAndSwap(false, true) {
		return nil, fmt.Errorf("%w: %w", ErrNoEffect, cause)
	}
	select { // the answer may have come just now
	case o := <-p.answer:
		return o.answer, o.err
	default:
		return nil, fmt.Errorf("%w: %w", ErrUnknown, cause)
	}
}

func (n *node) notLeader() error {
	_, id := n.raft.LeaderWithID()
	return &NotLeaderError{Leader: string(id)}
}

// propose is the batcher: it packs what waits into one entry at a time. It
// knows no timer: under load entries fill while earlier ones are under way.
func (s *Store) propose(ctx context.Context, n *node) {
	slots := make(chan struct{}, maxInFlight)
	var spill *proposal // did not fit into the last entry
	for {
		first := spill
		spill = nil
		if first == nil {
			select {
			case first = <-s.queue:
			case <-ctx.Done():
				s.refuseAll()
				return
			}
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			refuse(first)
			s.refuseAll()
			return
		}
		var batch []*proposal
		batch, spill = s.gather(first)
		if len(batch) == 0 {
			<-slots
			continue
		}
		cmds := make([][]byte, len(batch))
		for i, p := range batch {
			cmds[i] = p.cmd
		}
		f := n.raft.Apply(encodeCommands(cmds), 0)
		go func() {
			defer func() { <-slots }()
			deliver(batch, f, n)
		}()
	}
}

// gather takes first and what else waits and fits. Proposals that were given up
// are left out; one that does not fit is returned for the next entry.
func (s *Store) gather(first *proposal) (batch []*proposal, spill *proposal) {
	// Whoever can run at once may have a proposal, too. When nobody can this costs
	// nothing, and without it the first of a burst is an entry of its own.
	for n := -1; n != len(s.queue); runtime.Gosched() {
		n = len(s.queue)
	}
	size := 1 + 2 // kind and count
	for p := first; ; {
		if size += commandSize(p.cmd); size > MaxEntry {
			return batch, p
		}
		if p.taken.CompareAndSwap(false, true) {
			batch = append(batch, p)
		} else {
			size -= commandSize(p.cmd)
		}
		if len(batch) == maxBatch {
			return batch, nil
		}
		select {
		case p = <-s.queue:
		default:
			return batch, nil
		}
	}
}

// deliver waits for an entry and answers its proposers.
func deliver(batch []*proposal, f raft.ApplyFuture, n *node) {
	err := f.Error()
	var answers [][]byte
	if err == nil {
		var ok bool
		if answers, ok = f.Response().([][]byte); !ok || len(answers) != len(batch) {
			err = fmt.Errorf("%w: committed, but this node did not apply it: %v", ErrUnknown, f.Response())
		}
	} else {
		err = n.meaning(err)
	}
	for i, p := range batch {
		if err != nil {
			p.answer <- outcome{err: err}
		} else {
			p.answer <- outcome{answer: answers[i]}
		}
	}
}

// meaning says what raft's error means for an entry that was handed to Apply.
// Only errors that raft gives before it writes the entry are harmless.
func (n *node) meaning(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader):
		return n.notLeader()
	case errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, raft.ErrEnqueueTimeout), errors.Is(err, raft.ErrAbortedByRestore):
		return fmt.Errorf("%w: %w", ErrNoEffect, err)
	default:
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
}

func refuse(p *proposal) {
	if p.taken.CompareAndSwap(false, true) {
		p.answer <- outcome{err: fmt.Errorf("%w: node stops", ErrNoEffect)}
	}
}

// refuseAll answers what waits when the node stops. A proposal that comes later
// sees that no node runs, or waits until its context ends.
func (s *Store) refuseAll() {
	for {
		select {
		case p := <-s.queue:
			refuse(p)
		default:
			return
		}
	}
}
