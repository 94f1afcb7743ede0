package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// fleet is a running vault of three nodes.
type fleet struct {
	manifest string // file
	root     string // public root key, as clients pin it
}

// nodeConfig is one node's configuration; the words are those of
// configs/coffer-vault.toml.
const nodeConfig = `dir = %[1]q
listen = "127.0.0.1:%[2]d"
raft_listen = "127.0.0.1:%[3]d"
manifest = %[4]q
roots = [%[5]q]

[hsm]
module = %[6]q
token_label = "coffer"
pin_file = %[7]q
durable = true

[auth]
mode = "open"
`

// softHSM is where Debian's package softhsm2 puts the PKCS#11 library.
const softHSM = "/usr/lib/softhsm/libsofthsm2.so"

// startVault makes a fleet of three nodes, each with a SoftHSM token of its
// own, and starts them.
func (s *story) startVault() error {
	s.say("Three vault nodes, each with its own HSM token (SoftHSM), one Raft group over mTLS")
	ports, err := freePorts(6)
	if err != nil {
		return err
	}
	dir := filepath.Join(s.stage.dir, "vault")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	rootKey := filepath.Join(dir, "root.key")
	out, err := s.stage.run(nil, "coffer-vault", "fleet", "key", "--out", rootKey)
	if err != nil {
		return err
	}
	s.fleet = fleet{manifest: filepath.Join(dir, "fleet.cbor"), root: strings.TrimSpace(out)}
	var configs []string
	args := []string{"fleet", "init", "--root", rootKey, "--name", "demo", "--delays", "none", "--out", s.fleet.manifest}
	for i := range 3 {
		id := fmt.Sprintf("node%d", i+1)
		nodeDir := filepath.Join(dir, id)
		conf := filepath.Join(dir, id+".toml")
		text := fmt.Sprintf(nodeConfig, nodeDir, ports[2*i], ports[2*i+1], s.fleet.manifest, s.fleet.root, softHSM, filepath.Join(dir, id+".pin"))
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			return err
		}
		if _, err := s.stage.run(nil, "coffer-vault", "init", "--config", conf); err != nil {
			return err
		}
		configs = append(configs, conf)
		args = append(args, filepath.Join(nodeDir, "node.json"))
	}
	if _, err := s.stage.run(nil, "coffer-vault", args...); err != nil {
		return err
	}
	for i, conf := range configs {
		name := fmt.Sprintf("vault-node%d", i+1)
		if _, err := s.stage.start(name, nil, filepath.Join(s.stage.bin, "coffer-vault"), "serve", "--config", conf); err != nil {
			return err
		}
	}
	err = s.stage.waitFor("the vault to elect a leader", time.Minute, func() (bool, error) {
		out, err := s.stage.run(nil, "coffer-vault", "status", "--config", configs[0], "--json")
		return strings.Contains(out, `"leader"`) && !strings.Contains(out, `"leader":""`), err
	})
	if err != nil {
		return err
	}
	s.note("nodes node1 node2 node3, any 2 of 3 suffice; 10 guesses; signed manifest, root %s…", s.fleet.root[:12])
	return nil
}
