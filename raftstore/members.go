package raftstore

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/raft"
)

// Leader returns the node that leads as far as this one knows, "" for none,
// its address from Peers, and whether it is this one.
func (s *Store) Leader() (id, addr string, mine bool) {
	n := s.node.Load()
	if n == nil {
		return "", "", false
	}
	_, leader := n.raft.LeaderWithID()
	id = string(leader)
	return id, s.address(id), id == s.c.NodeID && n.raft.State() == raft.Leader
}

// address is the node's in the present list of peers, "" if it is not in it.
func (s *Store) address(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.c.Peers {
		if p.ID == id {
			return p.Addr
		}
	}
	return ""
}

// SetPeers makes a node that runs follow a newer list of peers, and show another
// certificate where its pin has changed. Connections that the new list does not allow
// are closed. It changes no membership: for that see [Store.AddNonvoter], [Store.Remove].
func (s *Store) SetPeers(peers []Peer, own tls.Certificate) error {
	n := s.node.Load()
	if n == nil {
		return errors.New("raftstore: node does not run")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.c
	c.Peers, c.Certificate = slices.Clone(peers), own
	if err := c.complete(); err != nil {
		return err
	}
	s.c.Peers, s.c.Certificate = c.Peers, c.Certificate
	n.transport.follow(c.Peers, c.Certificate)
	return nil
}

// Status is what an operator sees of a node.
type Status struct {
	ID       string   `json:"id"`
	State    string   `json:"state"`  // leader, follower, candidate, stopped
	Leader   string   `json:"leader"` // "" for none
	Term     uint64   `json:"term"`
	Commit   uint64   `json:"commit"`
	Applied  uint64   `json:"applied"`
	Last     uint64   `json:"last"`  // last index of the log
	Chain    string   `json:"chain"` // hex hash over every entry and write up to Applied
	Snapshot uint64   `json:"snapshot"`
	Stalled  bool     `json:"stalled"` // a write to disk hangs
	Members  []Member `json:"members"`
}

// Member is a node in the group's present configuration.
type Member struct {
	ID    string `json:"id"`
	Addr  string `json:"addr"`
	Voter bool   `json:"voter"`
	Acked uint64 `json:"acked"` // as the leader knows it: the last index that the node holds durably
}

var stateNames = map[raft.RaftState]string{
	raft.Leader: "leader", raft.Follower: "follower", raft.Candidate: "candidate", raft.Shutdown: "stopped",
}

// Status reads this node's view; it asks nobody.
func (s *Store) Status() Status {
	n := s.node.Load()
	if n == nil {
		return Status{ID: s.c.NodeID, State: "stopped"}
	}
	_, leader := n.raft.LeaderWithID()
	pos := n.state.position()
	st := Status{
		ID:      s.c.NodeID,
		State:   stateNames[n.raft.State()],
		Leader:  string(leader),
		Term:    n.raft.CurrentTerm(),
		Commit:  n.raft.CommitIndex(),
		Applied: pos.Index,
		Last:    n.raft.LastIndex(),
		Chain:   hex.EncodeToString(pos.Chain[:]),
		Stalled: n.longestWrite() > s.c.StallAfter,
	}
	if metas, err := n.snaps.list(); err == nil && len(metas) > 0 {
		st.Snapshot = metas[0].Raft.Index
	}
	for _, m := range n.raft.GetConfiguration().Configuration().Servers {
		id := string(m.ID)
		acked := n.transport.acked.inTerm(id, st.Term)
		if id == s.c.NodeID {
			acked = st.Last
		}
		st.Members = append(st.Members, Member{ID: id, Addr: s.address(id), Voter: m.Suffrage == raft.Voter, Acked: acked})
	}
	return st
}

func voters(r *raft.Raft) []raft.ServerID {
	var ids []raft.ServerID
	for _, m := range r.GetConfiguration().Configuration().Servers {
		if m.Suffrage == raft.Voter {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// lead returns the running node if it leads.
func (s *Store) lead() (*node, error) {
	n := s.node.Load()
	if n == nil {
		return nil, fmt.Errorf("%w: node does not run", ErrNoEffect)
	}
	if n.raft.State() != raft.Leader {
		return nil, n.notLeader()
	}
	return n, nil
}

// Transfer hands leadership to the node, or to the most up to date one for "".
func (s *Store) Transfer(ctx context.Context, to string) error {
	n, err := s.lead()
	if err != nil {
		return err
	}
	f := n.raft.LeadershipTransfer
	if to != "" {
		f = func() raft.Future {
			return n.raft.LeadershipTransferToServer(raft.ServerID(to), raft.ServerAddress(to))
		}
	}
	if err := s.wait(ctx, f()); err != nil {
		return fmt.Errorf("transferring leadership: %w", err)
	}
	return nil
}

// AddNonvoter lets a node of Peers receive the log without a vote: the first
// step of joining. A node that was removed cannot come back under its id.
func (s *Store) AddNonvoter(ctx context.Context, id string) error {
	n, err := s.lead()
	if err != nil {
		return err
	}
	switch {
	case s.address(id) == "":
		return fmt.Errorf("%w: node %q is not in the list of peers", ErrNoEffect, id)
	case n.state.isRetired(id):
		return fmt.Errorf("%w: node %s was removed before; give it a new id", ErrNoEffect, id)
	}
	return s.change(ctx, n, n.raft.AddNonvoter(raft.ServerID(id), raft.ServerAddress(id), 0, 0))
}

// maxLag is how far a nonvoter may be behind when it gets its vote.
const maxLag = 512

// Promote gives a nonvoter that has caught up a vote.
func (s *Store) Promote(ctx context.Context, id string) error {
	n, err := s.lead()
	if err != nil {
		return err
	}
	if acked, commit := n.transport.acked.inTerm(id, n.raft.CurrentTerm()), n.raft.CommitIndex(); acked+maxLag < commit || acked == 0 {
		return fmt.Errorf("%w: node %s is at %d of %d", ErrNoEffect, id, acked, commit)
	}
	known := false
	for _, m := range n.raft.GetConfiguration().Configuration().Servers {
		known = known || string(m.ID) == id
	}
	if !known {
		return fmt.Errorf("%w: node %s is no member", ErrNoEffect, id)
	}
	return s.change(ctx, n, n.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(id), 0, 0))
}

// Remove takes a node out of the group; its id never comes back. The last voter
// stays.
func (s *Store) Remove(ctx context.Context, id string) error {
	n, err := s.lead()
	if err != nil {
		return err
	}
	if v := voters(n.raft); len(v) == 1 && string(v[0]) == id {
		return fmt.Errorf("%w: node %s is the only voter", ErrNoEffect, id)
	}
	return s.change(ctx, n, n.raft.RemoveServer(raft.ServerID(id), 0, 0))
}

func (s *Store) change(ctx context.Context, n *node, f raft.IndexFuture) error {
	err := s.wait(ctx, f)
	if errors.Is(err, raft.ErrNotLeader) {
		return n.notLeader()
	}
	if err != nil {
		return fmt.Errorf("%w: changing the group: %w", ErrUnknown, err)
	}
	return nil
}
