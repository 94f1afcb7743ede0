package vault

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"coffer/internal/durable"
)

// ServerConfig says what a node is made of.
type ServerConfig struct {
	NodeID   string // required: this node, one of the manifest's
	Dir      string // required: folder for the ledger and for this node's wrapped keys
	Manifest []byte // required: the fleet file
	Roots    Roots  // required
	Log      Log    // required
	HSM      HSM    // required
	Auth     Auth   // required; see [OpenAuth], [TokenAuth], [JWTAuth]

	// Machine is the one that Log applies commands to; the server takes from it what
	// it does, before Log runs. nil reads it from the state.
	Machine *Machine

	// Index is that of the ledger in Dir; the server closes it, also when it fails. nil keeps it in memory,
	// and reads the whole ledger at each start: right for tests and a few accounts.
	Index Index

	Limits Limits // zero: DefaultLimits

	Transport func(Node) http.RoundTripper // to the other nodes; nil: TLS 1.3 with the node's pin

	// State returns how much of the log this node has applied, and the chain over it; nil
	// if nobody compares nodes.
	State func() (applied uint64, chain [32]byte)

	// Adopt is called before the node follows a newer manifest, for whoever else has
	// to: raft's peers, the node's certificate. An error leaves all as it was.
	Adopt func(*Manifest) error

	Logger  *zap.Logger           // nil logs nothing
	Metrics prometheus.Registerer // nil registers nothing
}

// Server answers clients for one node.
type Server struct {
	c       ServerConfig
	fleet   FleetID
	force   atomic.Pointer[inForce]
	cert    atomic.Pointer[tls.Certificate]
	log     *zap.Logger
	metrics *metrics
	limits  *limiters
	ledger  *ledger
	recent  recent
	keys    *keyFiles
	witness *witness
	signing signing
	started time.Time
	gather  time.Duration // gatherTime; tests that look at once do not wait

	following   sync.Mutex       // held by Follow
	locks       [4096]sync.Mutex // of accounts, by the beginning of the UID
	regressions atomic.Uint64
	followed    atomic.Int64 // Unix ms when Run was last done with all that is applied

	mu   sync.Mutex
	wake chan struct{} // closed and replaced when the state has moved
}

// NewServer checks the configuration, opens the ledger and compares it with
// the HSM's anchor: [ErrRollback], [ErrLedger], [ErrManifest]. It starts nothing.
func NewServer(ctx context.Context, c ServerConfig) (_ *Server, err error) {
	if c.Index == nil {
		c.Index = newMemoryIndex()
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Index.Close())
		}
	}()
	if c.Log == nil || c.HSM == nil || c.Auth == nil || c.Dir == "" {
		return nil, errors.New("vault: a server needs Dir, Log, HSM and Auth")
	}
	now, err := readInForce(c.Dir, c.Manifest, c.Roots)
	if err != nil {
		return nil, err
	}
	m := now.manifest
	if _, ok := m.Node(c.NodeID); !ok {
		return nil, fmt.Errorf("%w: node %q is not in it", ErrManifest, c.NodeID)
	}
	if c.Limits == (Limits{}) {
		c.Limits = DefaultLimits()
	}
	s := &Server{
		c: c, fleet: m.Fleet, log: c.Logger, metrics: newMetrics(c.Metrics),
		limits: newLimiters(c.Limits), started: time.Now(), gather: gatherTime, wake: make(chan struct{}),
	}
	s.signing.s = s
	s.force.Store(now)
	if s.log == nil {
		s.log = zap.NewNop()
	}
	if err := s.proveIdentity(ctx); err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, err
	}
	if err := noteFollowed(c.Dir, now.file); err != nil {
		return nil, err
	}
	if s.keys, err = openKeyFiles(c.Dir); err != nil {
		return nil, err
	}
	if s.witness, err = newWitness(&s.c, m, now.hash, s, s.log); err != nil {
		return nil, err
	}
	if s.ledger, err = openLedger(ctx, c.Dir, m.Fleet, c.NodeID, c.HSM, c.Index); err != nil {
		return nil, err
	}
	s.log.Info("ledger is open", zap.Uint64("entries", s.ledger.head.count), zap.Int64("bytes read", s.ledger.read))
	if err := s.shredLeft(ctx); err != nil {
		return nil, errors.Join(err, s.ledger.close())
	}
	if c.Machine != nil {
		c.Machine.noted = s.recent.add
	}
	return s, nil
}

// proveIdentity makes sure that the HSM holds the identity key of the manifest:
// else no client would believe this node, and nobody would see why.
func (s *Server) proveIdentity(ctx context.Context) error {
	n := nodeOf(s.inForce().manifest, s.c.NodeID)
	digest := sha256.Sum256([]byte("coffer vault 1 identity check"))
	sig, err := s.c.HSM.Sign(ctx, digest)
	if err != nil {
		return fmt.Errorf("signing with the identity key: %w", err)
	}
	if !verifyIdentity(n.Identity, digest, sig) {
		return fmt.Errorf("%w: the HSM's identity key is not that of node %q", ErrManifest, s.c.NodeID)
	}
	return nil
}

// now is this node's clock in Unix ms, as the ledger has it.
func (s *Server) now() int64 { return clock().UnixMilli() }

// lock excludes others from the account's part of the ledger.
func (s *Server) lock(uid UID) *sync.Mutex {
	m := &s.locks[s.lockPlace(uid)]
	m.Lock()
	return m
}

func (s *Server) lockPlace(uid UID) int { return (int(uid[0])<<8 | int(uid[1])) % len(s.locks) }

// Applied tells the server that this node has applied the log up to index. It
// does not block; raftstore's OnApply calls it.
func (s *Server) Applied(index uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.wake)
	s.wake = make(chan struct{})
}

// moved returns a channel that is closed when the state moves.
func (s *Server) moved() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wake
}

// Close closes the ledger, after Serve and Run have returned.
func (s *Server) Close() error { return s.ledger.close() }

// Health is what the server knows of itself.
type Health struct {
	Leader      string    // "" unknown
	Ready       bool      // answers attempts
	Reason      string    // why not
	LedgerSize  uint64    // entries
	Regressions uint64    // times the state was behind the ledger since start
	LastFollow  time.Time // last time Run was done with all that is applied
}

// Health returns what a readiness check and "coffer-vault status" show.
func (s *Server) Health() Health {
	h := Health{Regressions: s.regressions.Load(), LastFollow: time.UnixMilli(s.followed.Load())}
	h.Leader, _, _ = s.c.Log.Leader()
	head, err := s.ledger.state()
	h.LedgerSize = head.count
	switch {
	case err != nil:
		h.Reason = err.Error()
	case !s.witness.enough():
		h.Reason = "too few other nodes have said how long this node's ledger was"
	case h.Leader == "":
		h.Reason = "no leader is known"
	case time.Since(h.LastFollow) > time.Minute:
		h.Reason = "does not keep up with the state"
	default:
		h.Ready = true
	}
	return h
}

// state is what other nodes compare.
func (s *Server) state() *NodeState {
	st := &NodeState{Regressions: s.regressions.Load()}
	if s.c.State != nil {
		st.Applied, st.Chain = s.c.State()
	}
	return st
}
