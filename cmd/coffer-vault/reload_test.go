package main

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"coffer/vault"
)

// The fleet's next manifest, with a new certificate for one node and another policy, is
// put on one node. That one is told to reload; the others hear of it from each other,
// and nobody restarts.
func TestReload(t *testing.T) {
	f := newFleet(t, "--delays", "none")
	f.leader()
	c, key := f.client("anna"), [32]byte{6}
	f.register(c, "correct horse", key)
	old := f.manifest
	must(t, "init", "--config", f.nodes["n1"].config, "--new-certificate")
	next := f.file("next.cbor")
	must(t, "fleet", "next", "--root", f.file("root.key"), "--budget", "7", "--out", next, f.file("fleet.cbor"),
		f.file("n1")+"/node.json", f.file("n2")+"/node.json", f.file("n3")+"/node.json")
	if err := os.Rename(next, f.file("fleet.cbor")); err != nil {
		t.Fatal(err)
	}
	pids := make(map[string]int)
	for id, p := range f.nodes {
		pids[id] = p.cmd.Process.Pid
	}
	if err := f.nodes["n2"].cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	f.follow()
	c = f.client("anna")
	for end := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		st, err := c.Status(t.Context())
		ok := err == nil
		for _, n := range st.Nodes {
			ok = ok && n.Err == nil // by the new pins, and signed under the new manifest
		}
		if ok {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("after a minute: %+v, %v", st, err)
		}
	}
	for id, p := range f.nodes {
		if p.cmd.Process.Pid != pids[id] || p.cmd.ProcessState != nil {
			t.Errorf("node %s has been restarted", id)
		}
	}
	if _, err := f.clientOf(old, "anna").Recover(t.Context(), "correct horse"); !errors.Is(err, vault.ErrManifest) {
		t.Errorf("under the old manifest: %v", err)
	}
	f.kill("n3") // n1 and n2 speak to each other with the new key
	f.leader()
	if got, err := f.guess(c, "correct horse"); err != nil || got != key {
		t.Errorf("recovery: %v", err)
	}
	f.start("n3")
	var reg vault.Registration
	err := try(t, func(ctx context.Context) (err error) {
		reg, err = c.Register(ctx, "battery staple", key, "correct horse")
		return err
	})
	if err != nil || reg.Left != 7 {
		t.Errorf("registering under the new policy: %+v, %v", reg, err)
	}
}
