package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fleet is a running vault of three nodes that asks for account tokens.
type fleet struct {
	m        *machine
	dir      string // the disks of the nodes
	manifest string // file
	root     string // public root key
	node     string // address of one
	metrics  []string
	nodes    []*daemon
}

// startFleet makes a vault and starts its nodes, each with a SoftHSM token.
func startFleet(t *testing.T, level string) *fleet {
	t.Helper()
	m := newMachine(t, "GOTRACEBACK=crash")
	f := &fleet{m: m, dir: m.path("nodes"), manifest: m.path("fleet.cbor")}
	f.root = strings.TrimSpace(m.must("coffer-vault", "fleet", "key", "--out", m.path("root.key")))
	m.write("token.pub", m.must("coffer-vault", "token", "key", "--out", m.path("token.key")))
	args := []string{"fleet", "init", "--root", m.path("root.key"), "--name", "canary", "--delays", "none", "--out", f.manifest}
	var configs []string
	for i := range 3 {
		id := fmt.Sprintf("node%d", i+1)
		f.metrics = append(f.metrics, freeAddress(t))
		listen := freeAddress(t)
		f.node = "https://" + listen
		m.write(id+".toml", fmt.Sprintf(`dir = %q
listen = %q
raft_listen = %q
manifest = %q
roots = [%q]
[hsm]
module = "/usr/lib/softhsm/libsofthsm2.so"
token_label = "coffer"
pin_file = %q
durable = true
[auth]
mode = "token"
key_file = %q
[log]
level = %q
[metrics]
listen = %q
`, filepath.Join(f.dir, id), listen, freeAddress(t), f.manifest, f.root, m.path(id+".pin"), m.path("token.pub"), level, f.metrics[i]))
		configs = append(configs, m.path(id+".toml"))
		m.must("coffer-vault", "init", "--config", configs[i])
		args = append(args, filepath.Join(f.dir, id, "node.json"))
	}
	m.must("coffer-vault", args...)
	for i, conf := range configs {
		f.nodes = append(f.nodes, m.startAs(fmt.Sprintf("node%d", i+1), "coffer-vault", "serve", "--config", conf))
	}
	eventually(t, "the vault has a leader", time.Minute, func() bool {
		out, _, code := m.run("coffer-vault", "status", "--config", configs[0], "--json")
		return code == 0 && strings.Contains(out, `"leader"`) && !strings.Contains(out, `"leader":""`)
	})
	return f
}

// token lets its holder act for an account.
func (f *fleet) token(account string) string {
	return f.m.must("coffer-vault", "token", "issue", "--key", f.m.path("token.key"), "--fleet", f.manifest, "--account", account)
}

// write puts a file of the test's on the machine.
func (m *machine) write(name, text string) {
	m.t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.path(name)), 0o700); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(m.path(name), []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// append adds to a file of the machine.
func (m *machine) append(name, text string) {
	m.t.Helper()
	old, err := os.ReadFile(m.path(name))
	if err != nil {
		m.t.Fatal(err)
	}
	m.write(name, string(old)+text)
}
