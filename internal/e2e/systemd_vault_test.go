package e2e

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestSystemdVault has a vault node run as its unit: the SoftHSM library loads
// inside the sandbox, the PIN comes as an encrypted credential, and a node that
// is killed comes back.
func TestSystemdVault(t *testing.T) {
	const unit, conf = "coffer-vault@n1.service", "/etc/coffer-vault/n1.toml"
	b := boot(t)
	b.must("install", "-d", "-o", "coffer-vault", "-m", "700", "/var/lib/coffer-vault/n1")
	config := func(pin string) {
		b.file(conf, fmt.Sprintf(`dir = "/var/lib/coffer-vault/n1"
listen = "127.0.0.1:8470"
raft_listen = "127.0.0.1:8471"
roots = [%s]
[hsm]
module = "/usr/lib/softhsm/libsofthsm2.so"
token_label = "coffer"
%s
durable = true
[auth]
mode = "open"
[log]
level = "debug"
`, b.root(), pin))
		b.must("chgrp", "coffer-vault", conf)
		b.must("chmod", "640", conf)
	}
	config(`pin_file = "/var/lib/coffer-vault/n1/pin"`)
	b.must("runuser", "-u", "coffer-vault", "--", "coffer-vault", "init", "--config", conf)
	b.must("coffer-vault", "fleet", "init", "--root", "/root/fleet.key", "--name", "test", "--out", "/var/lib/coffer-vault/n1/fleet.cbor", "/var/lib/coffer-vault/n1/node.json")
	b.must("chown", "coffer-vault:", "/var/lib/coffer-vault/n1/fleet.cbor")

	b.must("mkdir", "-p", "/etc/credstore.encrypted")
	b.must("systemd-creds", "--name=hsm-pin", "encrypt", "/var/lib/coffer-vault/n1/pin", "/etc/credstore.encrypted/coffer-vault.n1.hsm-pin")
	secret := strings.TrimSpace(b.must("cat", "/var/lib/coffer-vault/n1/pin"))
	b.must("rm", "/var/lib/coffer-vault/n1/pin")
	config(`credential = "hsm-pin"`)

	b.must("systemctl", "start", unit) // returns when it has notified
	if got := b.property(unit, "ActiveState") + " " + b.property(unit, "Type"); got != "active notify" {
		t.Errorf("got %s, want active notify", got)
	}
	leader := func() bool {
		out, err := b.try("runuser", "-u", "coffer-vault", "--", "coffer-vault", "status", "--config", conf, "--json")
		return err == nil && strings.Contains(out, `"leader"`) && !strings.Contains(out, `"leader":""`)
	}
	eventually(t, "the node leads", time.Minute, leader)
	pid := b.property(unit, "MainPID")
	b.must("kill", "-KILL", pid)
	eventually(t, "a new process that leads", time.Minute, func() bool {
		now := b.property(unit, "MainPID")
		return now != "0" && now != pid && leader()
	})
	b.vaultSocket(unit)
	b.must("systemctl", "stop", unit)
	if got := b.property(unit, "Result"); got != "success" {
		t.Errorf("stopped with %s", got)
	}
	b.vaultTells(unit, conf)
	journal := b.must("journalctl", "--no-pager", "-o", "export")
	if out := b.must("journalctl", "--no-pager", "-u", unit, "-p", "debug..debug", "-o", "cat"); !strings.Contains(out, "raft") {
		t.Errorf("the node said nothing at level debug: %s", out)
	}
	if n := found([]byte(journal), append(written([]byte(secret)), "8099/canary")); n != "" || len(secret) < 6 {
		t.Errorf("the PIN or the webhook's address is in the journal: %q", around(journal, n))
	}
}

// vaultTells has a node that does not start again tell so.
func (b *booted) vaultTells(unit, conf string) {
	b.t.Helper()
	b.hook()
	b.file("/etc/coffer-vault/hook.url", "http://127.0.0.1:8099/canary\n")
	b.file("/etc/coffer-vault/notify.toml", "[notify.webhook]\nurl_file = \"hook.url\"\n")
	b.must("chmod", "600", "/etc/coffer-vault/hook.url", "/etc/coffer-vault/notify.toml")
	b.must("chown", "coffer-vault:", "/etc/coffer-vault/hook.url", "/etc/coffer-vault/notify.toml")
	b.must("bash", "-c", "echo nonsense >> "+conf)
	if out, err := b.try("systemctl", "start", unit); err == nil {
		b.t.Errorf("started with a broken configuration: %s", out)
	}
	b.hears("a vault node has failed and does not run")
}

// vaultSocket has systemd open the port for clients: they wait in it while the
// node restarts.
func (b *booted) vaultSocket(unit string) {
	b.t.Helper()
	b.must("systemctl", "stop", unit)
	b.must("systemctl", "start", "coffer-vault@n1.socket")
	b.must("systemctl", "start", unit)
	var asked atomic.Int32
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			// A node that stops may cut off what it has begun to answer; nobody is ever refused.
			out, err := b.try("curl", "-sSk", "--retry", "5", "--retry-all-errors", "--max-time", "60", "-o", "/dev/null", "-w", "%{http_code}", "https://127.0.0.1:8470/")
			if err != nil || !strings.HasSuffix(out, "404") || strings.Contains(out, "refused") {
				b.t.Errorf("request %d: %v: %s", asked.Load(), err, out)
				return
			}
			asked.Add(1)
		}
	}()
	restarts := 0
	for restarts < 2 || restarts < 10 && asked.Load() < 2 { // one that was cut off tries again only after a second
		b.must("systemctl", "restart", unit)
		restarts++
	}
	close(stop)
	<-done
	if n := asked.Load(); n < 2 {
		b.t.Errorf("%d requests over %d restarts", n, restarts)
	}
	b.must("systemctl", "stop", "coffer-vault@n1.socket")
}

// root makes the fleet's root key, once, and returns its public half, quoted.
func (b *booted) root() string {
	b.t.Helper()
	if b.fleetRoot == "" {
		b.fleetRoot = strings.TrimSpace(b.must("coffer-vault", "fleet", "key", "--out", "/root/fleet.key"))
	}
	return fmt.Sprintf("%q", b.fleetRoot)
}
