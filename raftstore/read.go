package raftstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// View calls fn with the state as this node has applied it, which may be behind
// the leader's: call Barrier first where that matters. fn sees one moment, must
// not write, must not keep kv and should be short, as it holds up a raft
// snapshot that arrives.
func (s *Store) View(fn func(KV) error) error {
	n := s.node.Load()
	if n == nil {
		return errors.New("raftstore: node does not run")
	}
	return n.state.view(fn)
}

// Barrier returns once View shows everything that was committed before the
// call. Only the leader can tell: others answer ErrNotLeader. It writes nothing,
// except once after each election.
func (s *Store) Barrier(ctx context.Context) error {
	n := s.node.Load()
	if n == nil {
		return fmt.Errorf("%w: node does not run", ErrNoEffect)
	}
	if n.raft.State() != raft.Leader {
		return n.notLeader()
	}
	term := n.raft.CurrentTerm()
	if n.readyTerm.Load() != term {
		// What earlier leaders committed is known after an entry of this term.
		if err := s.wait(ctx, n.raft.Barrier(0)); err != nil {
			return n.meaning(err)
		}
		if n.raft.CurrentTerm() != term {
			return n.notLeader()
		}
		n.readyTerm.Store(term)
	}
	// All that is committed is stored here, so the newest stored entry is a
	// bound. A quorum must confirm afterwards that nobody else leads.
	last := n.logs.lastForMachine.Load()
	if err := s.wait(ctx, n.raft.VerifyLeader()); err != nil {
		return n.meaning(err)
	}
	if n.raft.CurrentTerm() != term {
		return n.notLeader()
	}
	if err := n.state.wait(ctx, last); err != nil {
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	return nil
}

// wait is f.Error until ctx ends.
func (s *Store) wait(ctx context.Context, f raft.Future) error {
	done := make(chan error, 1)
	go func() { done <- f.Error() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-s.failed:
		return s.cause
	case <-time.After(maxWait):
		return fmt.Errorf("no answer in %v", maxWait)
	}
}

// maxWait bounds a wait whose caller gave no deadline.
const maxWait = time.Minute
