package raftstore

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// gate decides which messages of peers reach raft. The library believes what a
// message says of its sender and panics on a malformed configuration; here a
// node speaks for itself only, and what raft would choke on is refused.
type gate struct {
	// retired tells ids that were removed from the group: they never come back,
	// so a node that does not know of its removal cannot disturb.
	retired func(id string) bool
	raft    atomic.Pointer[raft.Raft] // set once it runs
}

// admit returns an error for a message of peer that raft must not see.
func (g *gate) admit(peer string, cmd any) error {
	h, ok := cmd.(raft.WithRPCHeader)
	if !ok {
		return errors.New("message without a header")
	}
	if hd := h.GetRPCHeader(); string(hd.ID) != peer || string(hd.Addr) != peer {
		return fmt.Errorf("node %s speaks for %q at %q", peer, hd.ID, hd.Addr)
	}
	if g.retired(peer) {
		return fmt.Errorf("node %s was removed from the group", peer)
	}
	switch q := cmd.(type) {
	case *raft.AppendEntriesRequest:
		return checkEntries(q)
	case *raft.InstallSnapshotRequest:
		if q.SnapshotVersion != raft.SnapshotVersionMax || q.Size < 0 {
			return fmt.Errorf("raft snapshot of version %d, %d bytes", q.SnapshotVersion, q.Size)
		}
		return checkConfiguration(q.Configuration)
	case *raft.RequestVoteRequest, *raft.RequestPreVoteRequest: // raft asks for membership itself
	case *raft.TimeoutNowRequest:
		if !g.leads(peer) {
			return fmt.Errorf("node %s is not the leader", peer)
		}
	default:
		return errors.New("message of unknown type")
	}
	return nil
}

// leads tells whether raft takes peer for the leader.
func (g *gate) leads(peer string) bool {
	r := g.raft.Load()
	if r == nil {
		return false
	}
	_, id := r.LeaderWithID()
	return string(id) == peer
}

func checkEntries(q *raft.AppendEntriesRequest) error {
	term := q.PrevLogTerm
	for i, e := range q.Entries {
		if e == nil || e.Index != q.PrevLogEntry+1+uint64(i) || e.Term < term || e.Term > q.Term {
			return fmt.Errorf("entry %d after %d is out of order", i, q.PrevLogEntry)
		}
		term = e.Term
		switch e.Type {
		case raft.LogCommand, raft.LogNoop, raft.LogBarrier:
			if len(e.Data) > MaxEntry {
				return fmt.Errorf("entry %d has %d bytes, at most %d", e.Index, len(e.Data), MaxEntry)
			}
		case raft.LogConfiguration:
			if err := checkConfiguration(e.Data); err != nil {
				return err
			}
		default:
			return fmt.Errorf("entry %d is of type %v", e.Index, e.Type)
		}
	}
	return nil
}

// maxConfiguration bounds an encoded configuration: some hundred nodes.
const maxConfiguration = 32 << 10

// checkConfiguration decodes b as raft will, which panics where it fails.
func checkConfiguration(b []byte) (err error) {
	if len(b) > maxConfiguration {
		return fmt.Errorf("configuration of %d bytes", len(b))
	}
	defer func() {
		if recover() != nil {
			err = errors.New("configuration is malformed")
		}
	}()
	for _, s := range raft.DecodeConfiguration(b).Servers {
		if s.ID == "" || string(s.ID) != string(s.Address) {
			return fmt.Errorf("configuration names node %q at %q", s.ID, s.Address)
		}
	}
	return nil
}
