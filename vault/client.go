package vault

import (
	"context"
	"net/http"
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

	Timeout   time.Duration                // of one call to one node; 0 = 10 s
	Transport func(Node) http.RoundTripper // nil: TLS 1.3 with the node's pin
	Log       *zap.Logger                  // nil logs nothing
}

// Client registers and recovers the backup key of one account. It is safe for
// concurrent use.
type Client struct{ c ClientConfig }

// NewClient verifies the manifest; it makes no connection. It fails with
// [ErrManifest], also when the manifest is older than one seen before.
func NewClient(c ClientConfig) (*Client, error) { return &Client{c: c}, nil }

// Manifest returns the fleet that the client follows.
func (c *Client) Manifest() *Manifest { return nil }

// Registration is what [Client.Register] achieved.
type Registration struct {
	Epoch    Epoch
	Proven   bool     // the old password was proved: the old record is gone, the budget is full
	Left     int      // attempts left
	Degraded []string // ids of nodes that do not take part
}

// Register stores key under password. If the account has a key already: with
// the old password, which costs an attempt, the old record is destroyed at once;
// without, both live on for the policy's grace, and the budget is not refilled.
// After an error it may be called again with the same arguments.
func (c *Client) Register(ctx context.Context, password string, key [32]byte, old ...string) (Registration, error) {
	return Registration{}, ErrUnavailable
}

// Recover returns the key. It costs an attempt, which a right password gives
// back. It fails with *[WrongPassword], *[TooSoon], [ErrDestroyed],
// [ErrNotRegistered], [ErrDenied], [ErrInconsistent] or [ErrUnavailable].
func (c *Client) Recover(ctx context.Context, password string) ([32]byte, error) {
	return [32]byte{}, ErrUnavailable
}

// Disable destroys the key in the vault: at once with the password (which costs
// an attempt), without it after the policy's delay.
func (c *Client) Disable(ctx context.Context, password ...string) error { return ErrUnavailable }

// Status is what the fleet says of the account, and of itself.
type Status struct {
	Registered bool
	Destroyed  bool
	Left       int       // attempts left
	Budget     int       // attempts after a success
	Failed     int       // unproved attempts since the last success
	LastFailed time.Time // zero if none
	DisableAt  time.Time // a disable without password takes effect; zero if none
	Nodes      []NodeStatus
}

// NodeStatus is one node as the client sees it.
type NodeStatus struct {
	ID       string
	Operator string
	Holds    bool          // takes part in the account's record
	Latency  time.Duration // of its answer
	Err      error         // why it did not answer, or what is wrong with it
}

// Status asks all nodes. It spends nothing.
func (c *Client) Status(ctx context.Context) (Status, error) { return Status{}, ErrUnavailable }
