package raftstore

import (
	"context"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
)

// marks is what the group remembers of each node's durable log.
type marks struct{}

func loadMarks(pebble.Reader) (marks, error) { return marks{}, nil }

func (w *applying) mark(*raft.Log) error { return errKind }

// remember is the leader's part: it commits marks.
func (s *Store) remember(ctx context.Context, n *node) { <-ctx.Done() }
