package raftstore

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
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

	// CheckSnapshot looks at a state that the leader sent, before it may replace
	// this node's. An error refuses it. nil accepts what is not older.
	CheckSnapshot func(kv KV) error

	Heartbeat  time.Duration // time without a word from the leader before an election; 3 s
	StallAfter time.Duration // a write that takes longer stops this leader's heartbeats; 2/3 of Heartbeat
	ExitAfter  time.Duration // a write that takes longer stops the node; 5 x StallAfter
	LogStore   string        // "pebble" (default) or "wal" (hashicorp/raft-wal); not to be changed later
	InFlight   int           // appends under way to one peer: 2 (default) in one place, 64 over a wide area

	SnapshotEntries uint64 // entries between raft snapshots; 100,000
	TrailingEntries uint64 // entries kept behind one for nodes that lag; 50,000

	Log     *zap.Logger           // nil logs nothing
	Metrics prometheus.Registerer // nil registers nothing

	hooks hooks
}

// hooks are for the tests of this package.
type hooks struct {
	fs           vfs.FS                          // instead of the real disk
	logs         func(backend) backend           // wraps the log below the guards
	transport    func(*transport) raft.Transport // wraps what raft gets
	electionSlow time.Duration                   // this node's patience, instead of Heartbeat
	first        int                             // a new group starts with the first so many peers
	markEvery    time.Duration                   // how often a leader notes what nodes hold
	forgetful    bool                            // nothing is remembered of peers: the guard undone
	deaf         bool                            // goes on when peers say that the disk was rolled back
	snapEvery    time.Duration                   // how often raft looks whether to snapshot
}

// maxPeers is far above the seven that a group should have.
const maxPeers = 64

// complete checks c and fills in what is not set.
func (c *Config) complete() error {
	switch {
	case c.Dir == "":
		return errors.New("raftstore: no folder")
	case c.Machine == nil:
		return errors.New("raftstore: no machine")
	case len(c.Peers) == 0 || len(c.Peers) > maxPeers:
		return fmt.Errorf("raftstore: %d peers, want 1 to %d", len(c.Peers), maxPeers)
	case c.LogStore != "" && c.LogStore != "pebble" && c.LogStore != "wal":
		return fmt.Errorf("raftstore: log store %q, want pebble or wal", c.LogStore)
	case c.InFlight < 0 || c.Heartbeat < 0 || c.StallAfter < 0 || c.ExitAfter < 0:
		return errors.New("raftstore: a duration or count is negative")
	}
	if err := c.checkPeers(); err != nil {
		return err
	}
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.Heartbeat, 3*time.Second)
	def(&c.StallAfter, c.Heartbeat*2/3)
	def(&c.ExitAfter, 5*c.StallAfter)
	def(&c.hooks.electionSlow, c.Heartbeat)
	def(&c.hooks.markEvery, 10*time.Second)
	def(&c.hooks.snapEvery, 30*time.Second)
	if c.InFlight == 0 {
		c.InFlight = 2
	}
	if c.SnapshotEntries == 0 {
		c.SnapshotEntries = 100_000
	}
	if c.TrailingEntries == 0 {
		c.TrailingEntries = 50_000
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	if c.OnApply == nil {
		c.OnApply = func(uint64) {}
	}
	if c.hooks.fs == nil {
		c.hooks.fs = vfs.Default
	}
	return nil
}

func (c *Config) checkPeers() error {
	ids, pins, addrs := make(map[string]bool), make(map[[32]byte]bool), make(map[string]bool)
	var own *Peer
	for i, p := range c.Peers {
		switch {
		case p.ID == "" || len(p.ID) > 255 || p.Addr == "":
			return fmt.Errorf("raftstore: peer %d has no usable id or no address", i)
		case ids[p.ID] || pins[p.TLSPin] || addrs[p.Addr]:
			return fmt.Errorf("raftstore: peer %s shares its id, address or key with another", p.ID)
		case p.TLSPin == [32]byte{}:
			return fmt.Errorf("raftstore: peer %s has no pin", p.ID)
		}
		ids[p.ID], pins[p.TLSPin], addrs[p.Addr] = true, true, true
		if p.ID == c.NodeID {
			own = &c.Peers[i]
		}
	}
	if own == nil {
		return fmt.Errorf("raftstore: node %q is not among the peers", c.NodeID)
	}
	if c.Listen == "" {
		c.Listen = own.Addr
	}
	if len(c.Certificate.Certificate) == 0 {
		return errors.New("raftstore: no certificate")
	}
	leaf, err := x509.ParseCertificate(c.Certificate.Certificate[0])
	if err != nil {
		return fmt.Errorf("raftstore: parsing the certificate: %w", err)
	}
	if Pin(leaf) != own.TLSPin {
		return fmt.Errorf("raftstore: the certificate is not the one that is pinned for node %s", c.NodeID)
	}
	return nil
}

// raftConfig is hashicorp/raft's own.
func (c *Config) raftConfig() *raft.Config {
	r := raft.DefaultConfig()
	r.LocalID = raft.ServerID(c.NodeID)
	r.HeartbeatTimeout = c.hooks.electionSlow
	r.ElectionTimeout = c.hooks.electionSlow
	r.LeaderLeaseTimeout = c.hooks.electionSlow
	r.CommitTimeout = 10 * time.Millisecond // how late an idle group's followers hear what is committed; 10 to 20 ms
	r.MaxAppendEntries = 512
	r.BatchApplyCh = true
	r.ShutdownOnRemove = false
	r.TrailingLogs = c.TrailingEntries
	r.SnapshotThreshold = c.SnapshotEntries
	r.SnapshotInterval = c.hooks.snapEvery
	r.NoSnapshotRestoreOnStart = true // the state's own database is newer
	r.NoLegacyTelemetry = true
	r.RestoreCommittedLogs = false // hangs NewRaft behind more than 8,192 entries, in 1.8.0
	r.Logger = &raftLog{to: c.Log.Named("raft"), name: "raft"}
	return r
}
