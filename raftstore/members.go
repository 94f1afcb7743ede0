package raftstore

import "context"

// Leader returns the node that leads as far as this one knows, "" for none,
// its address from Peers, and whether it is this one.
func (s *Store) Leader() (id, addr string, mine bool) { return "", "", false }

// Status is what an operator sees of a node.
type Status struct {
	ID      string   `json:"id"`
	State   string   `json:"state"` // leader, follower, candidate, shutdown
	Leader  string   `json:"leader"`
	Term    uint64   `json:"term"`
	Commit  uint64   `json:"commit"`
	Applied uint64   `json:"applied"`
	Last    uint64   `json:"last"`  // last index of the log
	Chain   string   `json:"chain"` // hex hash over every write up to Applied
	Members []Member `json:"members"`
}

// Member is a node in the group's present configuration.
type Member struct {
	ID    string `json:"id"`
	Voter bool   `json:"voter"`
}

// Status reads this node's view; it asks nobody.
func (s *Store) Status() Status { return Status{} }

// Transfer hands leadership to the node, or to the most up to date one for "".
func (s *Store) Transfer(ctx context.Context, to string) error { return nil }

// AddNonvoter lets a node of Peers receive the log without a vote.
func (s *Store) AddNonvoter(ctx context.Context, id string) error { return nil }

// Promote gives a nonvoter that has caught up a vote.
func (s *Store) Promote(ctx context.Context, id string) error { return nil }

// Remove takes a node out of the group; its id never comes back.
func (s *Store) Remove(ctx context.Context, id string) error { return nil }
