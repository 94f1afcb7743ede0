package vault

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"coffer/ppss"
)

// memKV is a KV in memory.
type memKV struct{ m map[string][]byte }

func newMemKV() *memKV { return &memKV{make(map[string][]byte)} }

func (k *memKV) Get(key []byte) ([]byte, bool) {
	v, ok := k.m[string(key)]
	return slices.Clone(v), ok
}
func (k *memKV) Set(key, value []byte) { k.m[string(key)] = slices.Clone(value) }
func (k *memKV) Delete(key []byte)     { delete(k.m, string(key)) }
func (k *memKV) Scan(prefix []byte, fn func(key, value []byte) bool) {
	var keys []string
	for s := range k.m {
		if strings.HasPrefix(s, string(prefix)) {
			keys = append(keys, s)
		}
	}
	sort.Strings(keys)
	for _, s := range keys {
		if !fn([]byte(s), k.m[s]) {
			return
		}
	}
}
func (k *memKV) clone() *memKV {
	c := newMemKV()
	for s, v := range k.m {
		c.m[s] = slices.Clone(v)
	}
	return c
}

// softHSM is an HSM in memory, with hooks.
type softHSM struct {
	mu       sync.Mutex
	identity *ecdsa.PrivateKey
	keys     map[string][32]byte // by owner and record
	anchor   [40]byte
	guesses  map[string]map[[33]byte]bool // distinct elements evaluated, by owner
	before   func(owner []byte, blinded [33]byte) error
	lie      bool
	signs    func() error // before each signature
}

func newSoftHSM(tb testing.TB) *softHSM {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return &softHSM{identity: k, keys: make(map[string][32]byte), guesses: make(map[string]map[[33]byte]bool)}
}

// lies makes the HSM evaluate with another key from now on.
func (h *softHSM) lies(yes bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lie = yes
}

func (h *softHSM) NewKey(_ context.Context, owner []byte) ([]byte, [33]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k, pub := ppss.GenerateKey()
	rec := make([]byte, 32)
	rand.Read(rec)
	h.keys[string(owner)+string(rec)] = k
	return rec, pub, nil
}

func (h *softHSM) Evaluate(_ context.Context, owner, record []byte, blinded [33]byte) ([33]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.before != nil {
		if err := h.before(owner, blinded); err != nil {
			return [33]byte{}, err
		}
	}
	k, ok := h.keys[string(owner)+string(record)]
	if !ok {
		return [33]byte{}, errors.New("not this owner's record")
	}
	if h.lie {
		k, _ = ppss.GenerateKey()
	}
	if h.guesses[string(owner)] == nil {
		h.guesses[string(owner)] = make(map[[33]byte]bool)
	}
	h.guesses[string(owner)][blinded] = true
	return ppss.Evaluate(k, blinded)
}

// distinct is how many elements were evaluated for the owner, registration's too.
func (h *softHSM) distinct() (most int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, g := range h.guesses {
		most = max(most, len(g))
	}
	return most
}

// onSign has fn called before each signature.
func (h *softHSM) onSign(fn func() error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.signs = fn
}

func (h *softHSM) Sign(_ context.Context, digest [32]byte) (sig [64]byte, err error) {
	h.mu.Lock()
	fn := h.signs
	h.mu.Unlock()
	if fn != nil {
		if err := fn(); err != nil {
			return sig, err
		}
	}
	r, s, err := ecdsa.Sign(rand.Reader, h.identity, digest[:])
	if err != nil {
		return sig, err
	}
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return sig, nil
}

func (h *softHSM) SetAnchor(_ context.Context, a [40]byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.anchor = a
	return nil
}

func (h *softHSM) Anchor(context.Context) ([40]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.anchor, nil
}

// testFleet is n nodes with one order of commands, in memory.
type testFleet struct {
	tb       testing.TB
	root     ed25519.PrivateKey
	operator ed25519.PrivateKey
	manifest *Manifest
	file     []byte
	auth     Auth
	nodes    []*testNode
	every    time.Duration // nodes compare their ledgers

	mu     sync.Mutex // guards the order and every kv
	cmds   [][]byte
	leader int
}

type testNode struct {
	f       *testFleet
	id      string
	dir     string
	index   *tracedIndex // of the ledger in dir
	machine Machine
	hsm     *softHSM
	kv      *memKV
	applied int
	server  *Server
	down    bool
	mayFail bool
	log     *zap.Logger
	cut     func(Kind) bool // drops the answer, after the request was carried out
	stop    context.CancelFunc
	stopped chan error
}

type fleetOption func(*Manifest)

// newFleet starts n nodes.
func newFleet(tb testing.TB, n int, opts ...fleetOption) *testFleet {
	tb.Helper()
	f := &testFleet{tb: tb, every: 12 * time.Hour}
	_, f.root, _ = ed25519.GenerateKey(nil)
	_, f.operator, _ = ed25519.GenerateKey(nil)
	var nodes []Node
	for i := range n {
		nd := &testNode{f: f, id: fmt.Sprintf("n%d", i+1), dir: tb.TempDir(), hsm: newSoftHSM(tb), kv: newMemKV(), index: newTracedIndex()}
		id, err := IdentityKey(&nd.hsm.identity.PublicKey)
		if err != nil {
			tb.Fatal(err)
		}
		f.nodes = append(f.nodes, nd)
		nodes = append(nodes, Node{ID: nd.id, Operator: "test", URL: "https://" + nd.id + ".test:1", Identity: id})
	}
	f.manifest = NewManifest("test", nodes, time.Now())
	f.manifest.Argon = Argon{Time: 1, Memory: 64, Threads: 1}
	f.manifest.Policy.Delays = nil
	for _, o := range opts {
		o(f.manifest)
	}
	sm, err := Unsigned(f.manifest)
	if err != nil {
		tb.Fatal(err)
	}
	sm.Sign(f.root)
	f.file = sm.Bytes()
	f.auth = TokenAuth{Fleet: f.manifest.Fleet, Keys: []ed25519.PublicKey{f.operator.Public().(ed25519.PublicKey)}}
	for _, nd := range f.nodes {
		nd.start()
	}
	for _, nd := range f.nodes {
		nd.awaitReady()
	}
	return f
}

// close stops the nodes; a test in a bubble must call it before it ends.
func (f *testFleet) close() {
	for _, nd := range f.nodes {
		nd.halt()
	}
}

func (f *testFleet) roots() Roots {
	return Roots{Keys: []ed25519.PublicKey{f.root.Public().(ed25519.PublicKey)}}
}

func (n *testNode) config() ServerConfig {
	return ServerConfig{
		NodeID: n.id, Dir: n.dir, Manifest: n.f.file, Roots: n.f.roots(), Log: n, HSM: n.hsm, Auth: n.f.auth, Index: n.index, Machine: &n.machine,
		Limits: Limits{Account: 1e6, Address: 1e6, Node: 1e6}, Transport: n.f.transport, Logger: n.log, State: n.chain,
	}
}

// chain stands for the state that the node has applied.
func (n *testNode) chain() (applied uint64, chain [32]byte) {
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	h := sha256.New()
	n.kv.Scan(nil, func(k, v []byte) bool {
		fmt.Fprintf(h, "%x=%x\n", k, v)
		return true
	})
	return uint64(n.applied), [32]byte(h.Sum(nil))
}

// transport carries requests to a node without a network.
func (f *testFleet) transport(n Node) http.RoundTripper {
	return f.nodes[slices.IndexFunc(f.nodes, func(t *testNode) bool { return t.id == n.ID })]
}

func (n *testNode) start() {
	n.f.tb.Helper()
	s, err := NewServer(context.Background(), n.config())
	if err != nil {
		n.f.tb.Fatal(err)
	}
	s.witness.every, s.gather = n.f.every, 0
	ctx, cancel := context.WithCancel(context.Background())
	n.f.mu.Lock()
	n.server, n.stop, n.stopped, n.down = s, cancel, make(chan error, 1), false
	n.catchUp()
	n.f.mu.Unlock()
	go func(stopped chan error) { stopped <- s.Run(ctx) }(n.stopped)
}

// awaitReady waits until the node has heard enough of the others.
func (n *testNode) awaitReady() {
	for range 100 {
		if n.server.witness.enough() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	n.f.tb.Errorf("node %s does not get ready", n.id)
}

// halt stops the node as a crash would, files apart that close.
func (n *testNode) halt() {
	n.f.mu.Lock()
	up := n.server != nil
	n.down = true
	n.f.mu.Unlock()
	if !up {
		return
	}
	n.stop()
	if err := <-n.stopped; err != nil && !n.mayFail {
		n.f.tb.Errorf("node %s stopped: %v", n.id, err)
	}
	server := n.server
	n.f.mu.Lock()
	n.server = nil
	n.f.mu.Unlock()
	server.Close()
}

// catchUp applies what the order has. The caller holds mu.
func (n *testNode) catchUp() (last []byte) {
	for ; n.applied < len(n.f.cmds); n.applied++ {
		last = n.machine.Apply(n.kv, uint64(n.applied+1), n.f.cmds[n.applied])
	}
	if n.server != nil {
		n.server.Applied(uint64(n.applied))
	}
	return last
}

func (n *testNode) Propose(_ context.Context, cmd []byte) ([]byte, error) {
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	if n.f.nodes[n.f.leader] != n || n.down {
		return nil, errors.New("not the leader")
	}
	up := 0
	for _, o := range n.f.nodes {
		if !o.down {
			up++
		}
	}
	if up <= len(n.f.nodes)/2 {
		return nil, errors.New("no majority")
	}
	n.f.cmds = append(n.f.cmds, slices.Clone(cmd))
	var out []byte
	for _, o := range n.f.nodes {
		if o.down {
			continue
		}
		if a := o.catchUp(); o == n {
			out = a
		}
	}
	return out, nil
}

func (n *testNode) View(fn func(KV) error) error {
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	return fn(n.kv)
}

func (n *testNode) Leader() (string, string, bool) {
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	l := n.f.nodes[n.f.leader]
	return l.id, "", l == n
}

// RoundTrip carries a request to the node without a network.
func (n *testNode) RoundTrip(r *http.Request) (*http.Response, error) {
	n.f.mu.Lock()
	down, server, cut := n.down, n.server, n.cut
	n.f.mu.Unlock()
	if down || server == nil {
		return nil, errors.New("connection refused")
	}
	var kind Kind
	if cut != nil {
		body, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		var b [maxRequest]byte
		k, _ := body.Read(b[:])
		if req, err := parseRequest(b[:k]); err == nil {
			kind = req.Kind
		}
	}
	w := httptest.NewRecorder()
	r = r.Clone(r.Context())
	r.RemoteAddr = "192.0.2.1:1"
	server.ServeHTTP(w, r)
	if cut != nil && cut(kind) {
		return nil, errors.New("connection reset")
	}
	return w.Result(), nil
}

// client returns a client of the account with a token for it.
func (f *testFleet) client(account string, opts ...func(*ClientConfig)) *Client {
	f.tb.Helper()
	now := time.Now()
	c := ClientConfig{
		Manifest: f.file, Roots: f.roots(), Account: account, StateDir: f.tb.TempDir(),
		Token:     IssueToken(f.operator, f.manifest.Fleet, account, now, now.Add(24*time.Hour)),
		Transport: f.transport,
	}
	for _, o := range opts {
		o(&c)
	}
	cl, err := NewClient(c)
	if err != nil {
		f.tb.Fatal(err)
	}
	return cl
}

func randomKey() (k [32]byte) {
	rand.Read(k[:])
	return k
}

// register stores a fresh key under the password and returns it.
func (f *testFleet) register(c *Client, password string) [32]byte {
	f.tb.Helper()
	key := randomKey()
	if _, err := c.Register(context.Background(), password, key); err != nil {
		f.tb.Fatal(err)
	}
	return key
}

// wrong makes a wrong guess and returns the attempts left, -1 if destroyed.
func (f *testFleet) wrong(c *Client, password string) int {
	f.tb.Helper()
	_, err := c.Recover(context.Background(), password)
	var w *WrongPassword
	switch {
	case errors.As(err, &w):
		return w.Left
	case errors.Is(err, ErrDestroyed):
		return -1
	}
	f.tb.Fatalf("a wrong guess gives %v", err)
	return 0
}

// keyFilesLeft counts the node's key files.
func (n *testNode) keyFilesLeft() int {
	count := 0
	walkFiles(n.f.tb, n.dir+"/keys", func(string) { count++ })
	return count
}
