package raftstore

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/zap"
)

const (
	alpn             = "coffer-raft/1"
	handshakeTimeout = 5 * time.Second
	maxHandshakes    = 64 // at once; strangers must not hold more
	maxConnsPerPeer  = 32 // raft needs about five
)

// Pin is what Peer.TLSPin holds for a certificate: the SHA-256 of its public
// key, so that a renewed certificate for the same key keeps it.
func Pin(c *x509.Certificate) [32]byte { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }

// network is one listener that sorts incoming connections by the identity they
// prove, and dials peers by theirs. Certificates are self-signed: the pin is all
// that counts, names and dates in them are not looked at.
type network struct {
	listener net.Listener
	slots    chan struct{} // one for each handshake under way
	greeter  *greeter
	log      *zap.Logger

	// ctx ends the handshakes under way at close, which waits for served, the
	// end of serve, and then for wg, those handshakes.
	ctx    context.Context
	cancel context.CancelFunc
	served chan struct{}
	wg     sync.WaitGroup

	mu      sync.Mutex
	self    string
	server  *tls.Config
	streams map[string]*stream // by node id, without this node; of all peers that ever were
}

func newNetwork(c *Config, listener net.Listener, g *greeter) *network {
	n := &network{
		self:     c.NodeID,
		greeter:  g,
		listener: listener,
		streams:  make(map[string]*stream),
		slots:    make(chan struct{}, maxHandshakes),
		log:      c.Log,
		served:   make(chan struct{}),
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.follow(c.Peers, c.Certificate)
	return n
}

// follow makes the network speak with these peers and no others from now on, under the
// certificate, and returns the streams of those that are new.
func (n *network) follow(peers []Peer, own tls.Certificate) (fresh []*stream) {
	n.mu.Lock()
	defer n.mu.Unlock()
	named := make(map[string]bool)
	byPin := make(map[[32]byte]bool)
	for _, p := range peers {
		if p.ID == n.self {
			continue
		}
		named[p.ID], byPin[p.TLSPin] = true, true
		if s := n.streams[p.ID]; s != nil {
			s.follow(p, own)
			continue
		}
		s := newStream(p, own, n.greeter)
		n.streams[p.ID] = s
		fresh = append(fresh, s)
	}
	for id, s := range n.streams {
		if !named[id] {
			s.follow(Peer{ID: id}, own)
		}
	}
	n.server = tlsConfig(own, func(pin [32]byte) error {
		if !byPin[pin] {
			return errors.New("certificate is no peer's")
		}
		return nil
	})
	n.server.ClientAuth = tls.RequireAnyClientCert
	return fresh
}

// peer returns the stream of the peer with the pin.
func (n *network) peer(pin [32]byte) *stream {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.streams {
		if s.peer.Load().TLSPin == pin {
			return s
		}
	}
	return nil
}

// tlsConfig speaks TLS 1.3 with our ALPN to whoever holds a key that check
// accepts. It is called for resumed sessions too, which are off anyway.
func tlsConfig(own tls.Certificate, check func(pin [32]byte) error) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{own},
		NextProtos:             []string{alpn},
		SessionTicketsDisabled: true,
		InsecureSkipVerify:     true, // no authority, no names: VerifyConnection compares the key itself
		VerifyConnection: func(s tls.ConnectionState) error {
			if s.NegotiatedProtocol != alpn {
				return fmt.Errorf("peer does not speak %s", alpn)
			}
			if len(s.PeerCertificates) == 0 {
				return errors.New("peer shows no certificate")
			}
			return check(Pin(s.PeerCertificates[0]))
		},
	}
}

// serve accepts until the listener is closed. It is called once.
func (n *network) serve() {
	defer close(n.served)
	for {
		conn, err := n.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of files, or the peer went away: both pass
			n.log.Warn("accepting a raft connection", zap.Error(err))
			time.Sleep(50 * time.Millisecond)
			continue
		}
		select {
		case n.slots <- struct{}{}:
			n.wg.Go(func() {
				defer func() { <-n.slots }()
				n.welcome(conn)
			})
		default:
			conn.Close()
		}
	}
}

// welcome finds out who calls and hands the connection to that peer's stream.
func (n *network) welcome(raw net.Conn) {
	n.mu.Lock()
	conf := n.server
	n.mu.Unlock()
	conn := tls.Server(raw, conf)
	ctx, cancel := context.WithTimeout(n.ctx, handshakeTimeout)
	defer cancel()
	defer context.AfterFunc(n.ctx, func() { raw.Close() })()
	if err := conn.HandshakeContext(ctx); err != nil {
		n.log.Info("raft connection refused", zap.Stringer("from", raw.RemoteAddr()), zap.Error(err))
		raw.Close()
		return
	}
	s := n.peer(Pin(conn.ConnectionState().PeerCertificates[0]))
	if s == nil { // the peers have changed meanwhile
		conn.Close()
		return
	}
	if err := n.greeter.greet(s.id, conn); err != nil {
		n.log.Info("raft connection refused", zap.String("peer", s.id), zap.Error(err))
		conn.Close()
		return
	}
	s.take(conn)
}

func (n *network) close() {
	n.listener.Close()
	n.cancel()
	n.mu.Lock()
	for _, s := range n.streams {
		s.Close()
	}
	n.mu.Unlock()
	<-n.served
	n.wg.Wait()
}

// stream carries the connections to and from one peer. It is that peer's
// raft.StreamLayer, so whatever comes out of it was said by the peer.
type stream struct {
	id       string
	peer     atomic.Pointer[Peer]       // as the list has it now; no address and no pin if it does not
	client   atomic.Pointer[tls.Config] // that accepts it
	greeter  *greeter
	incoming chan net.Conn
	done     chan struct{}

	// conns holds every open connection, so that Close ends the handlers that
	// wait in a read; inbound the accepted ones, oldest first.
	mu      sync.Mutex
	conns   map[*trackedConn]struct{}
	inbound []*trackedConn
	closed  bool
}

func newStream(p Peer, own tls.Certificate, g *greeter) *stream {
	s := &stream{
		id: p.ID, greeter: g,
		incoming: make(chan net.Conn, maxConnsPerPeer),
		done:     make(chan struct{}),
		conns:    make(map[*trackedConn]struct{}),
	}
	s.follow(p, own)
	return s
}

// follow takes what the list now says of the peer. Connections to another address, or
// with the holder of another key, are closed.
func (s *stream) follow(p Peer, own tls.Certificate) {
	s.client.Store(tlsConfig(own, func(pin [32]byte) error {
		if pin != p.TLSPin {
			return fmt.Errorf("certificate is not that of %s", p.ID)
		}
		return nil
	}))
	if old := s.peer.Swap(&p); old != nil && *old != p {
		s.drop()
	}
}

// drop closes all connections.
func (s *stream) drop() {
	s.mu.Lock()
	open := slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	for _, t := range open {
		t.Close()
	}
}

// take queues an accepted connection for the transport.
func (s *stream) take(conn net.Conn) {
	t, ok := s.track(conn, true)
	if !ok {
		conn.Close()
		return
	}
	select {
	case s.incoming <- t:
	case <-s.done:
		t.Close()
	}
}

// track notes an open connection. When the peer has too many, the oldest is
// closed: behind a link that swallows packets they look open for minutes.
func (s *stream) track(conn net.Conn, inbound bool) (*trackedConn, bool) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, false
	}
	t := &trackedConn{Conn: conn, stream: s}
	s.conns[t] = struct{}{}
	var oldest *trackedConn
	if inbound {
		if len(s.inbound) >= maxConnsPerPeer {
			oldest = s.inbound[0]
		}
		s.inbound = append(s.inbound, t)
	}
	s.mu.Unlock()
	if oldest != nil {
		oldest.Close()
	}
	return t, true
}

// Accept waits for a connection that the peer opened.
func (s *stream) Accept() (net.Conn, error) {
	select {
	case c := <-s.incoming:
		return c, nil
	case <-s.done:
		return nil, net.ErrClosed
	}
}

// Dial opens a connection to the peer. Raft knows nodes by id, so address is one.
func (s *stream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	if string(address) != s.id {
		return nil, fmt.Errorf("dialling %q on the stream of %q", address, s.id)
	}
	addr := s.peer.Load().Addr
	if addr == "" {
		return nil, fmt.Errorf("node %s is not in the list of peers any more", s.id)
	}
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: min(timeout, handshakeTimeout)}, Config: s.client.Load()}
	ctx, cancel := context.WithTimeout(context.Background(), min(timeout, handshakeTimeout))
	defer cancel()
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("dialling node %s: %w", s.id, err)
	}
	if err := s.greeter.greet(s.id, conn); err != nil {
		conn.Close()
		return nil, err
	}
	t, ok := s.track(conn, false)
	if !ok {
		conn.Close()
		return nil, net.ErrClosed
	}
	return t, nil
}

// Addr is the peer's id, like every raft address here.
func (s *stream) Addr() net.Addr { return nodeAddr(s.id) }

// Close ends every connection.
func (s *stream) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.done)
	s.mu.Unlock()
	s.drop()
	return nil
}

type trackedConn struct {
	net.Conn
	stream *stream
	once   sync.Once
}

func (t *trackedConn) Close() error {
	t.once.Do(func() {
		t.stream.mu.Lock()
		delete(t.stream.conns, t)
		t.stream.inbound = slices.DeleteFunc(t.stream.inbound, func(o *trackedConn) bool { return o == t })
		t.stream.mu.Unlock()
	})
	return t.Conn.Close()
}

type nodeAddr string

func (nodeAddr) Network() string  { return "node" }
func (a nodeAddr) String() string { return string(a) }
