package raftstore

import (
	"context"
	"errors"
	"fmt"
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

// Propose puts cmd into the order that all nodes agree on, and returns the
// machine's answer on this node once a majority holds the command and this node
// has applied it. Every error is one of ErrNotLeader, ErrNoEffect or ErrUnknown.
func (s *Store) Propose(ctx context.Context, cmd []byte) ([]byte, error) {
	return nil, ErrNoEffect
}

// View calls fn with the state as this node has applied it, which may be behind
// the leader's: call Barrier first where that matters. fn sees one moment, and
// must not write nor keep kv.
func (s *Store) View(fn func(KV) error) error { return nil }

// Barrier returns once View shows everything that was committed before the
// call. Only the leader can tell: others answer ErrNotLeader.
func (s *Store) Barrier(ctx context.Context) error { return nil }
