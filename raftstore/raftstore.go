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
