// Package raftstore replicates any deterministic [Machine]: commands go in as
// bytes, every node applies them in the same order, answers come out as bytes.
// It knows nothing of what the commands mean.
//
// It stands on hashicorp/raft 1.8.0 and guards against four faults of that
// library (DESIGN.md names them and the tests that fail without each guard):
//
//   - heartbeats go through the ordered main loop, never around it;
//   - a failed append cannot wedge the replication pipeline;
//   - a leader whose disk hangs stops its heartbeats, so that another takes over;
//   - committed entries are never replayed before the machine runs.
//
// Peers speak TLS 1.3 with self-signed certificates that are pinned by their
// public key; a message is taken only from the node whose name it bears. The
// log and the state lie on two pebble databases, and any failed write stops the
// node. State and position are written in one batch, so a restart replays
// nothing; a checkpoint of the state (hard links) is the raft snapshot.
package raftstore

import (
	"crypto/tls"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// Peer is a node of the group as the operator's signed list names it.
type Peer struct {
	ID     string   // unique for ever: a removed node's id is never used again
	Addr   string   // host:port of its raft listener
	TLSPin [32]byte // SHA-256 of its certificate's SubjectPublicKeyInfo
}

// Config says what a node is. The zero value of everything not marked required
// works.
type Config struct {
	NodeID  string  // required: this node's id, one of Peers
	Dir     string  // required: folder for log, state and raft snapshots
	Listen  string  // host:port to listen on; "" listens on this node's address in Peers
	Peers   []Peer  // required: every node that may speak, this one too, the same list everywhere
	Machine Machine // required

	// Certificate is this node's own; its public key must match its pin in Peers.
	Certificate tls.Certificate // required

	// Join starts with an empty log that waits to be added by the leader. False
	// starts a new group of all Peers when Dir is empty.
	Join bool

	// OnApply is called after a batch of entries is visible to View on this
	// node, with the index of its last one. It must not block: nothing is applied meanwhile.
	OnApply func(index uint64)

	Heartbeat  time.Duration // time without a word from the leader before an election; 3 s
	StallAfter time.Duration // a write that takes longer stops this leader's heartbeats; 2/3 of Heartbeat
	ExitAfter  time.Duration // a write that takes longer stops the node; 5 x StallAfter
	LogStore   string        // "pebble" (default) or "wal" (hashicorp/raft-wal); not to be changed later

	SnapshotEntries uint64 // entries between raft snapshots; 100,000
	TrailingEntries uint64 // entries kept behind one for nodes that lag; 50,000

	Log     *zap.Logger           // nil logs nothing
	Metrics prometheus.Registerer // nil registers nothing
}
