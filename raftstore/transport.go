package raftstore

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// errStalled answers raft when it wants to send a heartbeat that the disk
// behind this leader does not deserve.
var errStalled = errors.New("own disk hangs: no heartbeat")

// transport is raft's network with the library's faults mended. Each peer has a
// raft.NetworkTransport of its own over the stream that its certificate opened,
// so the sender of every message is known and [gate] can hold him to it.
//
// Raft addresses are node ids: where a node listens is the business of Peers.
type transport struct {
	self    raft.ServerAddress
	net     *network
	gate    *gate
	stalled func() bool // the local disk hangs
	acked   *positions
	consume chan raft.RPC
	done    chan struct{}
	once    sync.Once
	wg      sync.WaitGroup
	over    func(*stream) *raft.NetworkTransport

	mu    sync.RWMutex
	peers map[raft.ServerAddress]*raft.NetworkTransport
}

// newTransport starts serving n. inFlight is the most appends under way to one
// peer; 1 turns pipelining off.
func newTransport(self string, n *network, g *gate, stalled func() bool, timeout time.Duration, inFlight int, log hclog.Logger) *transport {
	t := &transport{
		self:    raft.ServerAddress(self),
		net:     n,
		peers:   make(map[raft.ServerAddress]*raft.NetworkTransport),
		gate:    g,
		stalled: stalled,
		acked:   &positions{at: make(map[string]acknowledged)},
		consume: make(chan raft.RPC),
		done:    make(chan struct{}),
	}
	t.over = func(s *stream) *raft.NetworkTransport {
		return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Stream:                  s,
			Logger:                  log,
			MaxPool:                 3,
			MaxRPCsInFlight:         inFlight,
			Timeout:                 timeout,
			MsgpackUseNewTimeFormat: true,
		})
	}
	for _, s := range n.streams {
		t.add(s)
	}
	t.wg.Go(n.serve)
	return t
}

// add begins to speak with a peer, unless the transport is closed.
func (t *transport) add(s *stream) {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-t.done:
		s.Close()
		return
	default:
	}
	nt := t.over(s)
	t.peers[raft.ServerAddress(s.id)] = nt
	t.wg.Go(func() { t.forward(s.id, nt) })
}

// follow makes the transport speak with these peers and no others.
func (t *transport) follow(peers []Peer, own tls.Certificate) {
	for _, s := range t.net.follow(peers, own) {
		t.add(s)
	}
}

// forward passes on what the gate lets through.
func (t *transport) forward(id string, nt *raft.NetworkTransport) {
	for {
		select {
		case rpc := <-nt.Consumer():
			if err := t.gate.admit(id, rpc.Command); err != nil {
				if rpc.Reader != nil {
					// The connection must not be taken up again in the middle of a raft snapshot.
					io.Copy(io.Discard, rpc.Reader)
				}
				rpc.Respond(refusal(rpc.Command), err)
				continue
			}
			select {
			case t.consume <- rpc:
			case <-t.done:
				return
			}
		case <-t.done:
			return
		}
	}
}

// refusal is an empty answer of the type that the sender will decode.
func refusal(cmd any) any {
	switch cmd.(type) {
	case *raft.AppendEntriesRequest:
		return &raft.AppendEntriesResponse{}
	case *raft.RequestVoteRequest:
		return &raft.RequestVoteResponse{}
	case *raft.RequestPreVoteRequest:
		return &raft.RequestPreVoteResponse{}
	case *raft.InstallSnapshotRequest:
		return &raft.InstallSnapshotResponse{}
	default:
		return &raft.TimeoutNowResponse{}
	}
}

func (t *transport) peer(id raft.ServerID) (*raft.NetworkTransport, raft.ServerAddress, error) {
	addr := raft.ServerAddress(id)
	t.mu.RLock()
	nt, ok := t.peers[addr]
	t.mu.RUnlock()
	if !ok {
		return nil, "", fmt.Errorf("node %s is not in the list of peers", id)
	}
	return nt, addr, nil
}

// Consumer gives raft the messages of all peers in one ordered stream.
func (t *transport) Consumer() <-chan raft.RPC { return t.consume }

// LocalAddr is this node's id.
func (t *transport) LocalAddr() raft.ServerAddress { return t.self }

// EncodePeer and DecodePeer: an address is an id.
func (t *transport) EncodePeer(id raft.ServerID, _ raft.ServerAddress) []byte { return []byte(id) }

// DecodePeer is the inverse of EncodePeer.
func (t *transport) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }

// SetHeartbeatHandler does nothing, on purpose. The handler would run beside
// raft's main loop and change term and role under its feet: a deposed leader
// then writes its clients' entries under the new leader's term, and committed
// commands are lost on one node for ever (hashicorp/raft issue 695). Heartbeats
// take the ordered way instead, so time-outs must exceed the longest fsync.
func (t *transport) SetHeartbeatHandler(func(raft.RPC)) {}

// AppendEntries sends entries, or a heartbeat if this node's disk works.
func (t *transport) AppendEntries(id raft.ServerID, _ raft.ServerAddress, q *raft.AppendEntriesRequest, r *raft.AppendEntriesResponse) error {
	if len(q.Entries) == 0 && t.stalled() {
		return errStalled
	}
	nt, addr, err := t.peer(id)
	if err != nil {
		return err
	}
	err = nt.AppendEntries(id, addr, q, r)
	if err == nil && r.Success {
		t.acked.note(string(id), q)
	}
	return err
}

// AppendEntriesPipeline opens a pipeline that cannot wedge.
func (t *transport) AppendEntriesPipeline(id raft.ServerID, _ raft.ServerAddress) (raft.AppendPipeline, error) {
	nt, addr, err := t.peer(id)
	if err != nil {
		return nil, err
	}
	p, err := nt.AppendEntriesPipeline(id, addr)
	if err != nil {
		return nil, err
	}
	return newPipeline(p, t.stalled, func(q *raft.AppendEntriesRequest) { t.acked.note(string(id), q) }), nil
}

// RequestVote asks a peer for its vote.
func (t *transport) RequestVote(id raft.ServerID, _ raft.ServerAddress, q *raft.RequestVoteRequest, r *raft.RequestVoteResponse) error {
	nt, addr, err := t.peer(id)
	if err != nil {
		return err
	}
	return nt.RequestVote(id, addr, q, r)
}

// RequestPreVote asks a peer whether it would vote.
func (t *transport) RequestPreVote(id raft.ServerID, _ raft.ServerAddress, q *raft.RequestPreVoteRequest, r *raft.RequestPreVoteResponse) error {
	nt, addr, err := t.peer(id)
	if err != nil {
		return err
	}
	return nt.RequestPreVote(id, addr, q, r)
}

// InstallSnapshot streams a raft snapshot to a peer that lags.
func (t *transport) InstallSnapshot(id raft.ServerID, _ raft.ServerAddress, q *raft.InstallSnapshotRequest, r *raft.InstallSnapshotResponse, data io.Reader) error {
	nt, addr, err := t.peer(id)
	if err != nil {
		return err
	}
	return nt.InstallSnapshot(id, addr, q, r, data)
}

// TimeoutNow tells a peer to stand for election at once.
func (t *transport) TimeoutNow(id raft.ServerID, _ raft.ServerAddress, q *raft.TimeoutNowRequest, r *raft.TimeoutNowResponse) error {
	nt, addr, err := t.peer(id)
	if err != nil {
		return err
	}
	return nt.TimeoutNow(id, addr, q, r)
}

// Close ends all connections. Raft calls it too.
func (t *transport) Close() error {
	t.once.Do(func() {
		t.mu.Lock()
		close(t.done)
		for _, nt := range t.peers {
			nt.Close()
			nt.CloseStreams()
		}
		t.mu.Unlock()
		t.net.close()
	})
	t.wg.Wait()
	return nil
}

// positions remembers the last index that each peer has acknowledged to this
// node while it led, and in which term: what was acknowledged to an earlier
// leader may have been overwritten since.
type positions struct {
	mu sync.Mutex
	at map[string]acknowledged
}

type acknowledged struct{ term, index uint64 }

func (p *positions) note(id string, q *raft.AppendEntriesRequest) {
	a := acknowledged{q.Term, q.PrevLogEntry + uint64(len(q.Entries))}
	p.mu.Lock()
	defer p.mu.Unlock()
	if old := p.at[id]; old.term < a.term || old.term == a.term && old.index < a.index {
		p.at[id] = a
	}
}

// inTerm is 0 for a peer that acknowledged nothing in the term.
func (p *positions) inTerm(id string, term uint64) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := p.at[id]; a.term == term {
		return a.index
	}
	return 0
}
