package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coffer/vault"
)

// release builds the program as another release: the newest command version that it
// knows, and the one that it writes.
func release(t *testing.T, knows, writes string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "coffer-vault")
	cmd := exec.Command("go", "build", "-ldflags", "-X coffer/vault.knows="+knows+" -X coffer/vault.writes="+writes, "-o", file, ".")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	return file
}

// A fleet is upgraded node by node through two releases, of which the first knows a
// new command and the second writes it. Guesses are counted on all the way. A node
// that is two releases behind halts when it meets the new command, neither carries it
// out nor skips it, and goes on once it is upgraded.
func TestUpgrades(t *testing.T) {
	f := newFleet(t, "--delays", "none")
	f.leader()
	c, key := f.client("anna"), [32]byte{8}
	f.register(c, "correct horse", key)
	left := 10
	wrong := func() {
		t.Helper()
		_, err := f.guess(c, "battery staple")
		var w *vault.WrongPassword
		if left--; !errors.As(err, &w) || w.Left != left {
			t.Fatalf("a wrong password: %v, want %d left", err, left)
		}
	}
	upgrade := func(id, binary string) {
		t.Helper()
		f.stop(id)
		f.nodes[id].binary = binary
		f.start(id)
		f.leader()
	}
	reads, writes := release(t, "2", "1"), release(t, "2", "2")
	upgrade("n1", reads)
	wrong()
	upgrade("n2", reads)
	wrong()
	f.stop("n3") // is forgotten, and comes back two releases behind
	upgrade("n1", writes)
	upgrade("n2", writes)
	wrong()
	p := f.nodes["n3"]
	f.start("n3")
	ended := make(chan error, 1)
	go func() { ended <- p.cmd.Wait() }()
	select {
	case err := <-ended:
		p.cmd = nil
		if log, _ := os.ReadFile(p.log.Name()); err == nil || !strings.Contains(string(log), "newer version") {
			t.Errorf("the old node ends with %v:\n%s", err, log)
		}
	case <-time.After(time.Minute):
		t.Fatal("the old node goes on over a command that it does not know")
	}
	wrong()
	p.binary = reads
	f.start("n3")
	f.leader()
	f.verified()
	wrong()
	if got, err := f.guess(c, "correct horse"); err != nil || got != key {
		t.Errorf("recovery: %v", err)
	}
}
