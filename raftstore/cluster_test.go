package raftstore

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"flag"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Each step of a log store test syncs a disk: fewer cases than rapid's hundred.
func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("rapid.checks", "20")
	flag.Set("rapid.nofailfile", "true")
	flag.Set("test.parallel", "5") // most of the time elections are waited for
	os.Exit(m.Run())
}

// counters is a machine for tests: "incr K" adds one and answers the sum, "set K V"
// and "del K" do that, anything else answers "?".
type counters struct{ applied atomic.Int64 }

func (m *counters) Apply(kv KV, index uint64, cmd []byte) []byte {
	m.applied.Add(1)
	part := bytes.SplitN(cmd, []byte(" "), 3)
	switch {
	case len(part) == 2 && string(part[0]) == "incr":
		v, _ := kv.Get(part[1])
		n, _ := strconv.Atoi(string(v))
		sum := []byte(strconv.Itoa(n + 1))
		kv.Set(part[1], sum)
		return sum
	case len(part) == 3 && string(part[0]) == "set":
		kv.Set(part[1], part[2])
		return []byte("ok")
	case len(part) == 2 && string(part[0]) == "del":
		kv.Delete(part[1])
		return []byte("ok")
	default:
		return []byte("?")
	}
}

// testNode is one node of a cluster in this process.
type testNode struct {
	t       testing.TB
	c       Config
	machine *counters
	store   *Store
	stop    context.CancelFunc
	done    chan error
}

func (n *testNode) start() {
	n.t.Helper()
	s, err := New(n.c)
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.store, n.stop, n.done = s, cancel, make(chan error, 1)
	done := n.done
	go func() { done <- s.Run(ctx) }()
	select {
	case <-s.Ready():
	case err := <-done:
		n.t.Fatalf("node %s did not start: %v", n.c.NodeID, err)
	case <-time.After(30 * time.Second):
		n.t.Fatalf("node %s did not start in 30 s", n.c.NodeID)
	}
}

// halt stops the node in an orderly way.
func (n *testNode) halt() {
	n.t.Helper()
	if n.stop == nil {
		return
	}
	n.stop()
	n.stop = nil
	select {
	case err := <-n.done:
		if err != nil {
			n.t.Errorf("node %s stopped with %v", n.c.NodeID, err)
		}
	case <-time.After(30 * time.Second):
		n.t.Errorf("node %s did not stop in 30 s", n.c.NodeID)
	}
}

// died waits until Run returns by itself, and gives its error.
func (n *testNode) died(d time.Duration) error {
	n.t.Helper()
	select {
	case err := <-n.done:
		n.stop()
		n.stop = nil
		return err
	case <-time.After(d):
		n.t.Fatalf("node %s still runs after %v", n.c.NodeID, d)
		return nil
	}
}

type testCluster []*testNode

// newCluster makes n nodes on free loopback addresses; adjust may change each
// Config before it starts. None is started.
func newCluster(t testing.TB, n int, adjust func(i int, c *Config)) testCluster {
	t.Helper()
	peers, certs := testPeers(t, n)
	var nodes testCluster
	for i := range n {
		m := new(counters)
		c := Config{
			NodeID: peers[i].ID, Dir: t.TempDir(), Peers: peers, Certificate: certs[i],
			Machine: m, Heartbeat: time.Second, Log: testLog(t, peers[i].ID),
		}
		if adjust != nil {
			adjust(i, &c)
		}
		nodes = append(nodes, &testNode{t: t, c: c, machine: m})
	}
	t.Cleanup(func() {
		for _, n := range nodes {
			n.halt()
		}
	})
	return nodes
}

func startCluster(t testing.TB, n int, adjust func(i int, c *Config)) testCluster {
	t.Helper()
	nodes := newCluster(t, n, adjust)
	for _, n := range nodes {
		n.start()
	}
	return nodes
}

// testLog writes to standard error when RAFTSTORE_LOG is set, as after the test
// t.Log must not be called.
func testLog(t testing.TB, id string) *zap.Logger {
	if os.Getenv("RAFTSTORE_LOG") == "" {
		return zap.NewNop()
	}
	enc := zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig())
	return zap.New(zapcore.NewCore(enc, zapcore.Lock(os.Stderr), zap.DebugLevel)).Named(t.Name()).Named(id)
}

func testPeers(t testing.TB, n int) ([]Peer, []tls.Certificate) {
	t.Helper()
	var peers []Peer
	var certs []tls.Certificate
	for i := range n {
		cert := testCertificate(t)
		peers = append(peers, Peer{ID: fmt.Sprintf("n%d", i), Addr: freeAddr(t), TLSPin: Pin(cert.Leaf)})
		certs = append(certs, cert)
	}
	return peers, certs
}

// freeAddr picks a loopback address of its own, so that other tests on this
// machine do not take the port between two starts.
func freeAddr(t testing.TB) string {
	t.Helper()
	host := fmt.Sprintf("127.%d.%d.%d", 1+mathrand.N(250), mathrand.N(250), 1+mathrand.N(250))
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func testCertificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// eventually calls ok until it is true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after 30 s still not: %s", what)
		}
	}
}

// leader waits for one of the nodes to lead with a quorum.
func (c testCluster) leader(t testing.TB) *testNode {
	t.Helper()
	var found *testNode
	eventually(t, "a leader", func() bool {
		for _, n := range c {
			if n.stop == nil {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			err := n.store.Barrier(ctx)
			cancel()
			if err == nil {
				found = n
				return true
			}
		}
		return false
	})
	return found
}

func (c testCluster) without(out *testNode) testCluster {
	var rest testCluster
	for _, n := range c {
		if n != out {
			rest = append(rest, n)
		}
	}
	return rest
}

// propose proposes at whichever node leads, until one takes it. An unknown
// outcome fails the test.
func (c testCluster) propose(t testing.TB, cmd string) string {
	t.Helper()
	var answer []byte
	eventually(t, "proposal accepted", func() bool {
		for _, n := range c {
			if n.stop == nil {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			a, err := n.store.Propose(ctx, []byte(cmd))
			cancel()
			if err == nil {
				answer = a
				return true
			}
			if !errors.Is(err, ErrNoEffect) {
				t.Fatalf("proposing %q at %s: %v", cmd, n.c.NodeID, err)
			}
		}
		return false
	})
	return string(answer)
}

func (n *testNode) get(key string) string {
	var v []byte
	err := n.store.View(func(kv KV) error {
		v, _ = kv.Get([]byte(key))
		return nil
	})
	if err != nil {
		return err.Error()
	}
	return string(v)
}

// agree waits until all nodes have applied the same and have the same chain.
func (c testCluster) agree(t testing.TB) {
	t.Helper()
	eventually(t, "all nodes at the same position", func() bool {
		first := c[0].store.Status()
		for _, n := range c {
			if st := n.store.Status(); st.Applied != first.Applied || st.Applied == 0 || st.Commit != first.Commit {
				return false
			}
		}
		return true
	})
	first := c[0].store.Status()
	for _, n := range c[1:] {
		if st := n.store.Status(); st.Applied == first.Applied && st.Chain != first.Chain {
			t.Fatalf("STATES DIVERGED at %d: %s has %s, %s has %s", st.Applied, first.ID, first.Chain, st.ID, st.Chain)
		}
	}
}
