package vault

import (
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// ClientConfig says which fleet to trust, and for whom the client acts.
type ClientConfig struct {
	Manifest []byte // required: the fleet file
	Roots    Roots  // required: the pinned root keys
	Account  string // required: the account's name, as the operator knows it
	Token    string // account token; "" in mode "open"

	// StateDir keeps what must outlive a crash: a registration on its way, and
	// the newest manifest seen. "" keeps nothing.
	StateDir string

	// AllowDegraded registers although only the threshold of nodes answers. Then
	// no node may be lost. Otherwise one more is asked for, where there is one.
	AllowDegraded bool

	Timeout   time.Duration                // of one call to one node; 0 = 20 s
	Transport func(Node) http.RoundTripper // nil: TLS 1.3 with the node's pin, and streams where a node offers them
	Log       *zap.Logger                  // nil logs nothing
}

// Client registers and recovers the backup key of one account. It is safe for
// concurrent use.
type Client struct {
	c        ClientConfig
	manifest *Manifest
	hash     [32]byte
	uid      UID
	nodes    []*nodeClient
	leader   atomic.Int32 // index in nodes of the last known leader
	log      *zap.Logger
}

// NewClient verifies the manifest; it makes no connection. It fails with
// [ErrManifest], also when the manifest is older than one seen before, and with
// [ErrExpired].
func NewClient(c ClientConfig) (*Client, error) { return newClient(c, time.Now()) }

func newClient(c ClientConfig, now time.Time) (*Client, error) {
	if c.Account == "" {
		return nil, errors.New("vault: a client needs an account")
	}
	if len(c.Token) > maxToken {
		return nil, fmt.Errorf("vault: token of %d bytes, at most %d", len(c.Token), maxToken)
	}
	sm, err := ParseManifest(c.Manifest)
	if err != nil {
		return nil, err
	}
	m, err := sm.Verify(c.Roots, now)
	if err != nil {
		return nil, err
	}
	if err := notOlder(c.StateDir, m); err != nil {
		return nil, err
	}
	if c.Timeout == 0 {
		c.Timeout = 20 * time.Second
	}
	cl := &Client{c: c, manifest: m, hash: m.Hash(), uid: AccountUID(m.Fleet, c.Account), log: c.Log}
	if cl.log == nil {
		cl.log = zap.NewNop()
	}
	for _, n := range m.Nodes {
		var rt http.RoundTripper
		if c.Transport != nil {
			rt = c.Transport(n)
		}
		nc := newNodeClient(n, rt)
		if rt == nil {
			nc.line = newLine(n)
		}
		cl.nodes = append(cl.nodes, nc)
	}
	return cl, nil
}

// Manifest returns the fleet that the client follows.
func (c *Client) Manifest() *Manifest { return c.manifest }

// Close closes idle connections.
func (c *Client) Close() {
	for _, n := range c.nodes {
		if n.line != nil {
			n.line.close()
		}
		n.http.CloseIdleConnections()
	}
}
