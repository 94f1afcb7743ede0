package chaos

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"coffer/internal/durable"
	"coffer/vault"
)

const (
	evilMAC  = "02:00:00:00:00:0a"
	cloneMAC = "02:00:00:00:00:0b"
)

// One hostile node of three, with its share, its place in raft and the network in its
// hands, makes 10,000 guesses. It cuts the two honest nodes from each other and shows
// each another self: with it, each is a majority, and each counts what the other does
// not hear of. That is the most it can do, and the bound of THREAT-MODEL.md says so:
// floor((3-1)*10/(2-1)) = 20 evaluations.
func TestEvilNode(t *testing.T) {
	const guesses, bound = 10_000, (3 - 1) * budget / (2 - 1)
	w := beginFleet(t, 3)
	anna, err := w.client("anna")
	if err != nil {
		t.Fatal(err)
	}
	reg, err := anna.Register(t.Context(), "right", [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	uid := vault.AccountUID(anna.Manifest().Fleet, "anna")
	anna.Close()

	evil := w.fleet.nodes[0]
	a := &side{self: evil, honest: w.fleet.nodes[1], mac: evilMAC}
	b := &side{self: twin(t, w.fleet, evil), honest: w.fleet.nodes[2], mac: cloneMAC}
	part(t, a, b)
	for _, s := range []*side{a, b} {
		s.begin(t, orders{uid, reg.Epoch, guesses / 2})
	}
	evaluated := make(map[string]map[[33]byte]bool) // by honest node
	for _, s := range []*side{a, b} {
		evaluated[s.honest.id] = make(map[[33]byte]bool)
		s.wait(t)
	}
	var mu sync.Mutex
	ask := func(s *side, guesses []taken) {
		var wg sync.WaitGroup
		for _, g := range guesses {
			wg.Go(func() {
				body := vault.EvalBody(g.Body)
				an, err := s.ask(t.Context(), anna.Manifest(), vault.KindEval, &body)
				if err == nil && an.Code == vault.CodeOK {
					mu.Lock()
					defer mu.Unlock()
					evaluated[s.honest.id][an.Element] = true
				}
			})
		}
		wg.Wait()
	}
	ask(a, a.taken)
	ask(b, b.taken)
	ask(a, b.taken) // counted by the other one only
	ask(b, a.taken)
	total := 0
	for id, elements := range evaluated {
		t.Logf("node %s evaluated %d elements for its owner's enemy", id, len(elements))
		total += len(elements)
	}
	if total > bound {
		t.Errorf("%d evaluations, the bound is %d", total, bound)
	}
	if total != bound || len(a.taken) != budget || len(b.taken) != budget {
		t.Errorf("%d evaluations of %d and %d guesses taken: the attack is not the strongest, and shows nothing", total, len(a.taken), len(b.taken))
	}
	ledgers, err := w.fleet.ledgers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range ledgers[1:] {
		if n := len(l.spends()); n != budget {
			t.Errorf("ledger of %s counts %d guesses, want %d", l.node, n, budget)
		}
	}
}

// side is what one honest node sees of the world.
type side struct {
	self   *node // the evil one
	honest *node
	mac    string
	taken  []taken
}

// twin makes a second machine with the disk, address and name of a node.
func twin(t *testing.T, f *fleet, v *node) *node {
	t.Helper()
	v.kill()
	dir := v.dir + "-twin"
	tw := &node{id: v.id, addr: v.addr, link: v.link + "b", dir: dir, config: v.config + ".twin", log: v.log + ".twin"}
	if err := tw.plug(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tw.kill(); tw.unplug() })
	text, err := os.ReadFile(v.config)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.ReplaceAll(text, []byte(v.home()), []byte(tw.home()))
	if err := errors.Join(os.WriteFile(tw.config, text, 0o600), copyTree(v.home(), tw.home())); err != nil {
		t.Fatal(err)
	}
	return tw
}

// part keeps two sides from hearing of each other, while both hear from one address.
func part(t *testing.T, a, b *side) {
	t.Helper()
	do := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []*side{a, b} {
		do(s.self.inside("ip", "link", "set", "eth0", "address", s.mac))
		do(s.honest.inside("ip", "neigh", "replace", s.self.addr, "lladdr", s.mac, "dev", "eth0", "nud", "permanent"))
		other := b
		if s == b {
			other = a
		}
		do(s.self.inside("ip", "route", "add", "blackhole", other.honest.addr+"/32"))
		do(s.honest.inside("ip", "route", "add", "blackhole", other.honest.addr+"/32"))
	}
}

// begin starts the evil node with its orders.
func (s *side) begin(t *testing.T, o orders) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(filepath.Join(s.self.home(), ordersEnd), b, 0o600); err != nil {
		t.Fatal(err)
	}
	honest := s.self.binary
	s.self.binary = exe
	t.Setenv(evilEnv, "1")
	defer os.Unsetenv(evilEnv)
	if err := s.self.start(); err != nil {
		t.Fatal(err)
	}
	s.self.binary = honest
}

// wait waits until the evil node has led and guessed. An honest leader is asked to
// let it, as an operator would who knows nothing.
func (s *side) wait(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(90 * time.Second); ; {
		b, err := os.ReadFile(filepath.Join(s.self.home(), boastEnd))
		if err == nil {
			if err := json.Unmarshal(b, &s.taken); err != nil {
				t.Fatal(err)
			}
			return
		}
		if !s.self.running() || time.Now().After(end) {
			t.Fatalf("the evil node beside %s did not get to guess:\n%s\n%s", s.honest.id, tail(s.self.said(0)), tail(s.honest.said(0)))
		}
		_ = exec.Command(s.honest.binary, "cluster", "transfer-leader", s.self.id, "--config", s.honest.config).Run() // fails while it does not lead
		if err := pause(t.Context(), 200*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
}

// ask sends a request to the honest node from within its own network.
func (s *side) ask(ctx context.Context, m *vault.Manifest, kind vault.Kind, body any) (*vault.Answer, error) {
	n, ok := m.Node(s.honest.id)
	if !ok {
		return nil, fmt.Errorf("no node %s", s.honest.id)
	}
	rt := pinned(n, nil)
	rt.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		return s.honest.dial(ctx, network, addr)
	}
	defer rt.CloseIdleConnections()
	q := &vault.Request{Version: 1, Kind: kind, Manifest: m.Hash(), Token: []byte{}, Body: encode(body)}
	rand.Read(q.Nonce[:])
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, n.URL+vault.Path, bytes.NewReader(encode(q)))
	if err != nil {
		return nil, err
	}
	resp, err := rt.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil || resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %w", resp.Status, err)
	}
	return readAnswer(out)
}

// dial connects from within the node's network: a socket stays in the one that it
// was made in. The thread goes back to its own: should it end, the kernel would end the
// processes that it has started.
func (n *node) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer own.Close()
	other, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", n.holder.Process.Pid))
	if err != nil {
		return nil, err
	}
	defer other.Close()
	if err := unix.Setns(int(other.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	c, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, network, addr)
	return c, errors.Join(err, unix.Setns(int(own.Fd()), unix.CLONE_NEWNET))
}
