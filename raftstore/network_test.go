package raftstore

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"go.uber.org/zap"
)

// Who does not hold a peer's key gets no connection, whatever else he shows.
func TestStrangersAreRefused(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, nil)
	member, stranger := c[1].c.Certificate, testCertificate(t)
	for _, tt := range []struct {
		name    string
		change  func(*tls.Config)
		welcome bool
	}{
		{"peer", func(*tls.Config) {}, true},
		{"no certificate", func(c *tls.Config) { c.Certificates = nil }, false},
		{"stranger's certificate", func(c *tls.Config) { c.Certificates = []tls.Certificate{stranger} }, false},
		{"peer's certificate without its key", func(c *tls.Config) {
			c.Certificates = []tls.Certificate{{Certificate: member.Certificate, PrivateKey: stranger.PrivateKey}}
		}, false},
		{"the node's own certificate", func(tc *tls.Config) { tc.Certificates = []tls.Certificate{c[0].c.Certificate} }, false},
		{"TLS 1.2", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }, false},
		{"no protocol", func(c *tls.Config) { c.NextProtos = nil }, false},
		{"another protocol", func(c *tls.Config) { c.NextProtos = []string{"h2"} }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conf := tlsConfig(member, func([32]byte) error { return nil })
			conf.VerifyConnection = nil
			tt.change(conf)
			if err := speak(peerOf(c[0]).Addr, conf); (err == nil) != tt.welcome {
				t.Errorf("error %v, want welcome %v", err, tt.welcome)
			}
		})
	}
}

// speak connects, greets, and sends the first byte of a message of unknown type:
// a node that listens closes the connection because of that, others earlier.
func speak(addr string, conf *tls.Config) error {
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: conf}
	conn, err := d.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := mute().greet("n0", conn); err != nil {
		return err
	}
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Write([]byte{200}); err != nil {
		return err
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// A node believes only the server that holds the pinned key.
func TestDialChecksPin(t *testing.T) {
	t.Parallel()
	peers, certs := testPeers(t, 2)
	l, err := tls.Listen("tcp", peers[1].Addr, &tls.Config{Certificates: []tls.Certificate{testCertificate(t)}, NextProtos: []string{alpn}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.(*tls.Conn).Handshake()
			conn.Close()
		}
	}()
	s := newStream(peers[1], certs[0], mute())
	defer s.Close()
	if _, err := s.Dial("n1", time.Second); err == nil || !strings.Contains(err.Error(), "not that of n1") {
		t.Errorf("dialling an impostor: %v", err)
	}
	if _, err := s.Dial("n0", time.Second); err == nil {
		t.Error("the stream of n1 dials n0")
	}
}

// A member that speaks for another, in the other's name or at his address, is
// refused, and so is one that says what raft would choke on.
func TestMessagesOfOthersAreRefused(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, nil)
	c.propose(t, "incr a")
	l := c.leader(t)
	rest := c.without(l)
	victim, liar := rest[0], rest[1]
	s := newStream(peerOf(victim), liar.c.Certificate, liar.store.node.Load().greeter)
	nt := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{Stream: s, MaxPool: 1, Timeout: 5 * time.Second, Logger: hclog.NewNullLogger()})
	defer nt.Close()
	id, addr := raft.ServerID(victim.c.NodeID), raft.ServerAddress(victim.c.NodeID)
	head := func(id string) raft.RPCHeader {
		return raft.RPCHeader{ProtocolVersion: 3, ID: []byte(id), Addr: []byte(id)}
	}
	term := victim.store.Status().Term
	own, lead := liar.c.NodeID, l.c.NodeID
	entry := func(ty raft.LogType, data []byte) []*raft.Log {
		return []*raft.Log{{Index: 1000, Term: term, Type: ty, Data: data}}
	}
	for _, tt := range []struct {
		name string
		send func() error
		want string
	}{
		{"append in the leader's name", func() error {
			return nt.AppendEntries(id, addr, &raft.AppendEntriesRequest{RPCHeader: head(lead), Term: term}, new(raft.AppendEntriesResponse))
		}, "speaks for"},
		{"append without a name", func() error {
			return nt.AppendEntries(id, addr, &raft.AppendEntriesRequest{Term: term}, new(raft.AppendEntriesResponse))
		}, "speaks for"},
		{"vote in another's name", func() error {
			return nt.RequestVote(id, addr, &raft.RequestVoteRequest{RPCHeader: head(lead), Term: term + 1}, new(raft.RequestVoteResponse))
		}, "speaks for"},
		{"pre-vote at another's address", func() error {
			h := head(own)
			h.Addr = []byte(lead)
			return nt.RequestPreVote(id, addr, &raft.RequestPreVoteRequest{RPCHeader: h, Term: term + 1}, new(raft.RequestPreVoteResponse))
		}, "speaks for"},
		{"election now, by one who does not lead", func() error {
			return nt.TimeoutNow(id, addr, &raft.TimeoutNowRequest{RPCHeader: head(own)}, new(raft.TimeoutNowResponse))
		}, "not the leader"},
		{"malformed configuration", func() error {
			return nt.AppendEntries(id, addr, &raft.AppendEntriesRequest{RPCHeader: head(own), Term: term, PrevLogEntry: 999, Entries: entry(raft.LogConfiguration, []byte{0xc1, 1})}, new(raft.AppendEntriesResponse))
		}, "malformed"},
		{"entry of an old type", func() error {
			return nt.AppendEntries(id, addr, &raft.AppendEntriesRequest{RPCHeader: head(own), Term: term, PrevLogEntry: 999, Entries: entry(raft.LogAddPeerDeprecated, nil)}, new(raft.AppendEntriesResponse))
		}, "is of type"},
		{"entry out of order", func() error {
			return nt.AppendEntries(id, addr, &raft.AppendEntriesRequest{RPCHeader: head(own), Term: term, PrevLogEntry: 5, Entries: entry(raft.LogCommand, nil)}, new(raft.AppendEntriesResponse))
		}, "out of order"},
		{"entry too long", func() error {
			return nt.AppendEntries(id, addr, &raft.AppendEntriesRequest{RPCHeader: head(own), Term: term, PrevLogEntry: 999, Entries: entry(raft.LogCommand, make([]byte, MaxEntry+1))}, new(raft.AppendEntriesResponse))
		}, "at most"},
		{"raft snapshot with a malformed configuration", func() error {
			return nt.InstallSnapshot(id, addr, &raft.InstallSnapshotRequest{RPCHeader: head(own), SnapshotVersion: 1, Term: term, Configuration: []byte{0xc1}, Size: 3}, new(raft.InstallSnapshotResponse), strings.NewReader("abc"))
		}, "malformed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.send(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("answer %v, want %q", err, tt.want)
			}
		})
	}
	if got := c.propose(t, "incr a"); got != "2" {
		t.Errorf("answer %s, want 2", got)
	}
	if st := victim.store.Status(); st.Term != term {
		t.Errorf("term went from %d to %d", term, st.Term)
	}
}

// mute is a greeter that knows nothing.
func mute() *greeter {
	return &greeter{
		holds: func() (holding, error) { return holding{}, nil }, known: func(string) holding { return holding{} },
		rolled: func(error) {}, detected: func() {}, log: zap.NewNop(),
		news: make(chan struct{}, 1), heard: make(map[string]holding), owed: make(map[string]debt),
	}
}

func peerOf(n *testNode) Peer {
	for _, p := range n.c.Peers {
		if p.ID == n.c.NodeID {
			return p
		}
	}
	return Peer{}
}

// A removed node cannot disturb those that stay.
func TestRemovedNodeIsRefused(t *testing.T) {
	t.Parallel()
	removed := false
	g := &gate{retired: func(id string) bool { return removed }}
	q := &raft.AppendEntriesRequest{RPCHeader: raft.RPCHeader{ID: []byte("n1"), Addr: []byte("n1")}}
	if err := g.admit("n1", q); err != nil {
		t.Errorf("member: %v", err)
	}
	removed = true
	if err := g.admit("n1", q); err == nil {
		t.Error("removed node is heard")
	}
	if err := g.admit("n1", struct{}{}); err == nil {
		t.Error("message without a header is let through")
	}
}

// A peer whose old connections hang is not locked out by them.
func TestOldestConnectionYields(t *testing.T) {
	t.Parallel()
	s := newStream(Peer{ID: "n1"}, tls.Certificate{}, mute())
	defer s.Close()
	var far []net.Conn
	for range maxConnsPerPeer + 1 {
		near, other := net.Pipe()
		defer other.Close()
		far = append(far, other)
		if _, ok := s.track(near, true); !ok {
			t.Fatal("connection refused")
		}
	}
	far[0].SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := far[0].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("oldest connection: %v, want it closed", err)
	}
	if len(s.inbound) != maxConnsPerPeer {
		t.Errorf("%d connections, want %d", len(s.inbound), maxConnsPerPeer)
	}
}

// A member may lie about the state in a raft snapshot; raft itself would take
// it, and every counter would be what the member likes. CheckSnapshot is where
// the state's owner compares it with what he knows.
func TestForgedSnapshot(t *testing.T) {
	t.Parallel()
	for _, guarded := range []bool{true, false} {
		t.Run(map[bool]string{true: "guarded", false: "unguarded"}[guarded], func(t *testing.T) {
			t.Parallel()
			c := startCluster(t, 3, func(_ int, c *Config) {
				if !guarded {
					return
				}
				c.CheckSnapshot = func(kv KV) error {
					if v, _ := kv.Get([]byte("a")); string(v) < "5" {
						return errors.New("counter went back")
					}
					return nil
				}
			})
			for range 5 {
				c.propose(t, "incr a")
			}
			c.agree(t)
			rest := c.without(c.leader(t))
			victim, liar := rest[0], rest[1]

			fs := vfs.NewMem()
			db, err := openDB(fs, "forged", pebbleLog{zap.NewNop(), func(error) {}}, false)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(db.Set(machineKey([]byte("a")), []byte("0"), nil), db.Set(keyPosition, position{Index: 1000, Term: 90}.encode(), nil), db.Flush(), db.Close()); err != nil {
				t.Fatal(err)
			}
			forged, size, err := newArchive(fs, "forged")
			if err != nil {
				t.Fatal(err)
			}
			nt := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
				Stream: newStream(peerOf(victim), liar.c.Certificate, liar.store.node.Load().greeter), MaxPool: 1, Timeout: 10 * time.Second, Logger: hclog.NewNullLogger(),
			})
			defer nt.Close()
			me := []byte(liar.c.NodeID)
			err = nt.InstallSnapshot(raft.ServerID(victim.c.NodeID), raft.ServerAddress(victim.c.NodeID), &raft.InstallSnapshotRequest{
				RPCHeader: raft.RPCHeader{ProtocolVersion: 3, ID: me, Addr: me}, SnapshotVersion: 1, Term: 100, LastLogIndex: 1000, LastLogTerm: 90,
				Configuration: raft.EncodeConfiguration(victim.store.node.Load().raft.GetConfiguration().Configuration()), ConfigurationIndex: 1, Size: size,
			}, new(raft.InstallSnapshotResponse), forged)
			if got := victim.get("a"); guarded && (err == nil || got != "5") {
				t.Errorf("forged state: error %v, counter %s", err, got)
			} else if !guarded && got != "0" {
				t.Errorf("counter %s without the guard (%v): the fault does not show", got, err)
			}
		})
	}
}

// A configuration that cannot be followed is refused before anything starts.
func TestConfig(t *testing.T) {
	t.Parallel()
	peers, certs := testPeers(t, 3)
	good := func() Config {
		return Config{NodeID: "n0", Dir: t.TempDir(), Peers: append([]Peer(nil), peers...), Certificate: certs[0], Machine: new(counters)}
	}
	if _, err := New(good()); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no folder", func(c *Config) { c.Dir = "" }, "no folder"},
		{"no machine", func(c *Config) { c.Machine = nil }, "no machine"},
		{"no peers", func(c *Config) { c.Peers = nil }, "0 peers"},
		{"not a peer", func(c *Config) { c.NodeID = "x" }, "not among"},
		{"same id", func(c *Config) { c.Peers[1].ID = "n2" }, "shares"},
		{"same key", func(c *Config) { c.Peers[1].TLSPin = c.Peers[2].TLSPin }, "shares"},
		{"no pin", func(c *Config) { c.Peers[1].TLSPin = [32]byte{} }, "no pin"},
		{"no certificate", func(c *Config) { c.Certificate = tls.Certificate{} }, "no certificate"},
		{"other certificate", func(c *Config) { c.Certificate = certs[1] }, "not the one that is pinned"},
		{"log store", func(c *Config) { c.LogStore = "bolt" }, "want pebble or wal"},
		{"negative", func(c *Config) { c.Heartbeat = -1 }, "negative"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := good()
			tt.change(&c)
			if _, err := New(c); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}
