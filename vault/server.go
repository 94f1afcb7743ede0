package vault

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
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
	Limits   Limits // zero: DefaultLimits

	Logger  *zap.Logger           // nil logs nothing
	Metrics prometheus.Registerer // nil registers nothing
}

// Server answers clients for one node.
type Server struct{ c ServerConfig }

// NewServer checks the configuration, opens the ledger and compares it with
// the HSM's anchor: [ErrRollback], [ErrLedger], [ErrManifest]. It starts nothing.
func NewServer(ctx context.Context, c ServerConfig) (*Server, error) { return &Server{c: c}, nil }

// ServeHTTP answers requests at [Path] and [ManifestPath].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {}

// Serve answers clients on l over TLS 1.3 until ctx ends, then lets the requests
// in flight finish.
func (s *Server) Serve(ctx context.Context, l net.Listener, cert tls.Certificate) error { return nil }

// Run follows the state until ctx ends: it takes attempts, proofs and
// registrations into the ledger, destroys this node's keys when that is due, and
// as leader proposes what is due by time.
func (s *Server) Run(ctx context.Context) error { return nil }

// Applied tells the server that this node has applied the log up to index. It
// does not block; raftstore's OnApply calls it.
func (s *Server) Applied(index uint64) {}

// Close closes the ledger, after Serve and Run have returned.
func (s *Server) Close() error { return nil }

// Health is what the server knows of itself.
type Health struct {
	Leader      string    // "" unknown
	Ready       bool      // answers attempts
	Reason      string    // why not
	LedgerSize  uint64    // entries
	Regressions uint64    // accounts whose state was behind the ledger since start
	LastFollow  time.Time // last time Run was done with all that is applied
}

// Health returns what a readiness check and "coffer-vault status" show.
func (s *Server) Health() Health { return Health{} }
