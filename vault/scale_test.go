package vault

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"coffer/ppss"
	"coffer/raftstore"
)

// bench/vault runs this test with ten million.
var (
	scaleAccounts = flag.Int("scale.accounts", 3000, "accounts of TestScale")
	scaleDir      = flag.String("scale.dir", "", "folder of TestScale; a temporary one if empty")
)

// scaled is one node, on the real log and state and with the real ledger, whose
// accounts are put there at once.
type scaled struct {
	t        *testing.T
	dir      string
	cert     tls.Certificate
	peers    []raftstore.Peer
	hsm      *softHSM
	file     []byte
	manifest *Manifest
	roots    Roots
	applied  atomic.Int64 // commands

	store   *raftstore.Store
	server  *Server
	stop    context.CancelFunc
	stopped chan error
}

// scaledMachine also takes "fill" commands: from, to.
type scaledMachine struct {
	Machine
	s *scaled
}

func (m *scaledMachine) Apply(kv raftstore.KV, index uint64, cmd []byte) []byte {
	m.s.applied.Add(1)
	if n := len("fill") + 16; len(cmd) != n || string(cmd[:4]) != "fill" {
		return m.Machine.Apply(kv, index, cmd)
	}
	for i := binary.BigEndian.Uint64(cmd[4:]); i < binary.BigEndian.Uint64(cmd[12:]); i++ {
		m.s.account(i).save(kv, m.s.uid(i))
	}
	return nil
}

type scaledLog struct{ *raftstore.Store }

func (l scaledLog) View(fn func(KV) error) error {
	return l.Store.View(func(kv raftstore.KV) error { return fn(kv) })
}

// uid spreads the accounts evenly, as hashes are, but in order: a disk is filled in
// minutes like that, and holds the same in the end.
func (s *scaled) uid(i uint64) UID {
	u := UID(sha256.Sum256(binary.BigEndian.AppendUint64(nil, i)))
	binary.BigEndian.PutUint64(u[:], i*(math.MaxUint64/uint64(*scaleAccounts)))
	return u
}

// account is a registered one as the machine leaves it; its record is noise of the
// right length, as records are.
func (s *scaled) account(i uint64) *account {
	seed := s.uid(i)
	r := mathrand.NewChaCha8(seed)
	reg := &registration{Epoch: Epoch(seed[8:24]), Record: make([]byte, len(sampleRecord())), Policy: s.manifest.Policy, At: 1, Old: []byte{}, Token: []byte{}}
	r.Read(reg.Record)
	r.Read(reg.Sig[:])
	a := &account{Current: reg, Attempts: []attempt{}}
	a.fill(reg.Policy.Budget, 1)
	return a
}

func newScaled(t *testing.T) *scaled {
	s := &scaled{t: t, dir: *scaleDir, hsm: newSoftHSM(t)}
	if s.dir == "" {
		s.dir = t.TempDir()
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{}, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	s.cert = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	s.peers = []raftstore.Peer{{ID: "n1", Addr: l.Addr().String(), TLSPin: raftstore.Pin(leaf)}}
	id, err := IdentityKey(&s.hsm.identity.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public, root, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.roots = Roots{Keys: []ed25519.PublicKey{public}}
	s.manifest = NewManifest("scale", []Node{{ID: "n1", Operator: "test", URL: "https://n1.test:1", Identity: id}}, time.Now())
	s.manifest.Policy.Delays = nil
	sm, err := Unsigned(s.manifest)
	if err != nil {
		t.Fatal(err)
	}
	sm.Sign(root)
	s.file = sm.Bytes()
	return s
}

// start returns once the node has followed the state to its end, or, if it is only
// to be filled, without that.
func (s *scaled) start(follow bool) {
	m := &scaledMachine{s: s}
	store, err := raftstore.New(raftstore.Config{
		NodeID: "n1", Dir: filepath.Join(s.dir, "raft"), Peers: s.peers, Certificate: s.cert, Machine: m, Heartbeat: time.Second, ExitAfter: 5 * time.Minute,
		OnApply: func(index uint64) { s.server.Applied(index) },
	})
	if err != nil {
		s.t.Fatal(err)
	}
	index, err := store.OpenMap(filepath.Join(s.dir, "vault", "index"))
	if err != nil {
		s.t.Fatal(err)
	}
	server, err := NewServer(context.Background(), ServerConfig{
		NodeID: "n1", Dir: filepath.Join(s.dir, "vault"), Manifest: s.file, Roots: s.roots, Log: scaledLog{store},
		HSM: s.hsm, Auth: OpenAuth{}, Index: index, Machine: &m.Machine, Limits: Limits{Account: 1e6, Address: 1e6, Node: 1e6},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.store, s.server, s.stop, s.stopped = store, server, cancel, make(chan error, 2)
	go func() { s.stopped <- store.Run(ctx) }()
	select {
	case <-store.Ready():
	case err := <-s.stopped:
		s.t.Fatal(err)
	}
	if !follow {
		s.stopped <- nil
		return
	}
	go func() { s.stopped <- server.Run(ctx) }()
	for server.followed.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
}

func (s *scaled) halt() {
	s.t.Helper()
	s.stop()
	err := errors.Join(<-s.stopped, <-s.stopped, s.server.Close())
	if err != nil {
		s.t.Fatal(err)
	}
}

// propose proposes until there is an answer: all commands here may come twice.
func (s *scaled) propose(cmd []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	for {
		out, err := s.store.Propose(ctx, cmd)
		if err == nil || ctx.Err() != nil {
			return out, err
		}
		time.Sleep(50 * time.Millisecond) // no leader, for a moment
	}
}

// fill puts n accounts into the state and into the ledger.
func (s *scaled) fill(n int) {
	const step = 256
	var g errgroup.Group
	g.Go(func() error {
		for i := 0; i < n; i += step {
			cmd := binary.BigEndian.AppendUint64([]byte("fill"), uint64(i))
			if _, err := s.propose(binary.BigEndian.AppendUint64(cmd, uint64(min(i+step, n)))); err != nil {
				return err
			}
		}
		return nil
	})
	g.Go(func() error {
		p := s.manifest.Policy
		var es []*entry
		for i := range n {
			uid := s.uid(uint64(i))
			key := entry{Kind: entryKey, UID: uid, Epoch: Epoch(uid[8:24]), Own: 1, Element: [33]byte{2, 1}, Public: [33]byte{3, 1}}
			commit := entry{Kind: entryCommit, UID: uid, Epoch: key.Epoch, Own: 1, Proof: [32]byte{1}, Hash: [32]byte{2}, Policy: &p, How: howFirst}
			es = append(es, &key, &commit)
			// One sync for many, until the last ones: they are as a node appends.
			if len(es) >= 32*maxBatch || len(es) >= maxBatch && i > n-10*maxBatch || i == n-1 {
				if err := s.server.ledger.append(context.Background(), es...); err != nil {
					return err
				}
				es = nil
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		s.t.Fatal(err)
	}
	var feed uint64
	err := s.store.View(func(kv raftstore.KV) error { feed = feedPosition(kv); return nil })
	if err == nil { // as a node that ran all the time
		f := &follower{Server: s.server, at: feed}
		f.keep()
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// guess makes n attempts at accounts anywhere, and waits until the ledger has them.
func (s *scaled) guess(n, accounts int) {
	blinded, err := ppss.Blind([]byte("any"))
	if err != nil {
		s.t.Fatal(err)
	}
	before, _ := s.server.ledger.state()
	var g errgroup.Group
	g.SetLimit(64)
	for k := range n {
		g.Go(func() error {
			uid := s.uid(uint64(k) * 7919 % uint64(accounts))
			b := &AttemptBody{UID: uid, Epoch: Epoch(uid[8:24]), Element: blinded.Element()}
			rand.Read(b.ID[:])
			out, err := s.propose(encodeCommand(&Command{Kind: KindAttempt, Time: time.Now().UnixMilli(), Token: []byte{}, Body: encode(b)}))
			if err != nil {
				return err
			}
			var o outcome
			if err := decode(out, &o); err != nil || o.Code != CodeOK {
				return fmt.Errorf("an attempt gets %v, %v", o.Code, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		s.t.Fatal(err)
	}
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if now, _ := s.server.ledger.state(); now.count == before.count+uint64(n) {
			return
		} else if time.Now().After(end) {
			s.t.Fatalf("the ledger counts %d of %d attempts", now.count-before.count, n)
		}
	}
}

var errFirstByte = errors.New("enough")

// firstByte ends a backup where its checkpoint is made.
type firstByte struct{}

func (firstByte) Write([]byte) (int, error) { return 0, errFirstByte }

// checkpoint is the time until a backup begins to be written.
func (s *scaled) checkpoint() time.Duration {
	began := time.Now()
	if _, err := s.store.Backup(context.Background(), io.Writer(firstByte{})); !errors.Is(err, errFirstByte) {
		s.t.Fatal(err)
	}
	return time.Since(began)
}

// say prints a figure for bench/vault, which reads it.
func (s *scaled) say(what string, v float64) {
	if *scaleDir != "" {
		fmt.Printf("scale %s %.3f\n", what, v)
	}
}

// peak is the most memory that the process has held since forget, in MiB.
func (s *scaled) peak() (mib float64) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		s.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	kib, err := strconv.Atoi(strings.TrimSpace(strings.SplitN(rest, "kB", 2)[0]))
	if err != nil {
		s.t.Fatal(err)
	}
	return float64(kib) / 1024
}

func (s *scaled) forget() {
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		s.t.Fatal(err)
	}
}

// One node with many accounts: a restart applies nothing anew and looks at no account,
// and the node goes on counting.
func TestScale(t *testing.T) {
	s, n := newScaled(t), *scaleAccounts
	s.start(false)
	began := time.Now()
	s.fill(n)
	s.say("filled-s", time.Since(began).Seconds())
	s.halt()
	s.forget()

	s.applied.Store(0)
	began = time.Now()
	s.start(true)
	s.say("restart-s", time.Since(began).Seconds())
	if k := s.applied.Load(); k != 0 {
		t.Errorf("a restart applies %d commands again", k)
	}
	if read := s.server.ledger.read; read > 1<<20 {
		t.Errorf("a restart reads %d bytes of the ledger", read)
	}
	s.guess(min(n, 20_000), n)
	for k := range 5 {
		s.say("checkpoint-s", s.checkpoint().Seconds())
		s.guess(min(n, 1000), n)
		if k == 0 {
			s.say("memory-MiB", s.peak())
		}
	}
	s.halt()
}
