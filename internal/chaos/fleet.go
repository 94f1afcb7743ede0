package chaos

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"coffer/vault"
)

// fleet is the nodes, and what clients need to reach them.
type fleet struct {
	c        Config
	nodes    []*node
	manifest []byte
	roots    vault.Roots
}

const nodeConfig = `dir = %[1]q
listen = "%[2]s:7000"
raft_listen = "%[2]s:7001"
manifest = %[3]q
roots = [%[4]q]
[hsm]
module = "/usr/lib/softhsm/libsofthsm2.so"
token_label = %[5]q
pin_file = %[6]q
durable = true
[auth]
mode = "open"
`

// newFleet makes the nodes and their manifest; nothing runs yet.
func newFleet(ctx context.Context, c Config) (*fleet, error) {
	f := &fleet{c: c}
	public, root, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	f.roots = vault.Roots{Keys: []ed25519.PublicKey{public}}
	file := filepath.Join(c.Dir, "fleet.cbor")
	var g errgroup.Group
	for i := range c.Nodes {
		id := fmt.Sprintf("n%d", i+1)
		n := &node{
			id: id, addr: fmt.Sprintf("10.77.0.%d", i+1), link: "veth" + id, dir: filepath.Join(c.Dir, id),
			config: filepath.Join(c.Dir, id+".toml"), log: filepath.Join(c.Dir, id+".log"), binary: c.Binary,
		}
		f.nodes = append(f.nodes, n)
		if err := n.plug(); err != nil {
			f.close()
			return nil, err
		}
		text := fmt.Sprintf(nodeConfig, n.home(), n.addr, file, hex.EncodeToString(public), "chaos-"+id, filepath.Join(c.Dir, id+".pin"))
		if err := os.WriteFile(n.config, []byte(text), 0o600); err != nil {
			f.close()
			return nil, err
		}
		g.Go(func() error {
			if out, err := exec.CommandContext(ctx, n.binary, "init", "--config", n.config).CombinedOutput(); err != nil {
				return fmt.Errorf("init of %s: %w: %s", id, err, out)
			}
			return nil
		})
	}
	err = g.Wait()
	if err == nil {
		err = f.sign(root)
	}
	if err == nil {
		err = os.WriteFile(file, f.manifest, 0o600)
	}
	if err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

// sign makes a manifest that lets clients guess fast: no delays, a cheap
// stretching, and a deadline short enough to see keys destroyed.
func (f *fleet) sign(root ed25519.PrivateKey) error {
	var nodes []vault.Node
	for _, n := range f.nodes {
		v, err := readNode(filepath.Join(n.home(), "node.json"))
		if err != nil {
			return err
		}
		nodes = append(nodes, v)
	}
	m := vault.NewManifest("chaos", nodes, time.Now())
	m.Argon = vault.Argon{Time: 1, Memory: 64, Threads: 1}
	m.Policy.Budget, m.Policy.Delays, m.Policy.Deadline, m.Policy.Lifetime = budget, []uint32{0}, 20, 1000
	if err := m.Check(); err != nil {
		return err
	}
	s, err := vault.Unsigned(m)
	if err != nil {
		return err
	}
	s.Sign(root)
	f.manifest = s.Bytes()
	return nil
}

func readNode(file string) (vault.Node, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return vault.Node{}, err
	}
	var j struct {
		ID, Operator, URL, Raft, HSM string
		Pin                          string `json:"tls_pin"`
		Identity                     string
	}
	if err := json.Unmarshal(b, &j); err != nil {
		return vault.Node{}, fmt.Errorf("%s: %w", file, err)
	}
	v := vault.Node{ID: j.ID, Operator: j.Operator, URL: j.URL, Raft: j.Raft, HSM: j.HSM}
	_, err1 := hex.Decode(v.TLSPin[:], []byte(j.Pin))
	_, err2 := hex.Decode(v.Identity[:], []byte(j.Identity))
	return v, errors.Join(err1, err2)
}

// startAll starts what does not run and waits until the fleet has a leader that all know.
func (f *fleet) startAll(ctx context.Context) error {
	for _, n := range f.nodes {
		if err := n.start(); err != nil {
			return err
		}
	}
	return f.await(ctx, f.nodes)
}

// await waits until the nodes are up and know a leader.
func (f *fleet) await(ctx context.Context, nodes []*node) error {
	late := time.Now().Add(90 * time.Second)
	for _, n := range nodes {
		for !f.leads(ctx, n) {
			if !n.running() {
				return fmt.Errorf("node %s ended:\n%s", n.id, tail(n.said(0)))
			}
			if time.Now().After(late) {
				return fmt.Errorf("node %s knows no leader:\n%s", n.id, tail(n.said(0)))
			}
			if err := pause(ctx, 200*time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}

// leads says whether a node knows a leader.
func (f *fleet) leads(ctx context.Context, n *node) bool {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, n.binary, "status", "--config", n.config, "--json").Output()
	return err == nil && strings.Contains(string(out), `"leader"`) && !strings.Contains(string(out), `"leader":""`)
}

// ledgers stops the nodes and reads what they counted.
func (f *fleet) ledgers() ([]ledger, error) {
	var all []ledger
	for _, n := range f.nodes {
		n.kill()
		l, err := readLedger(n.id, filepath.Join(n.home(), "vault", "ledger"))
		if err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	return all, nil
}

func (f *fleet) close() {
	for _, n := range f.nodes {
		n.kill()
		n.unplug()
	}
}

// tail is the end of a text.
func tail(s string) string { return s[max(0, len(s)-3000):] }

// pause waits, or returns the error of ctx.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
