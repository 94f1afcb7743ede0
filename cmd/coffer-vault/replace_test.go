package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"coffer/vault"
)

// register stores a key for the client's account.
func (f *testFleet) register(c *vault.Client, password string, key [32]byte) vault.Registration {
	f.t.Helper()
	var reg vault.Registration
	err := try(f.t, func(ctx context.Context) (err error) {
		reg, err = c.Register(ctx, password, key)
		return err
	})
	if err != nil {
		f.t.Fatalf("register: %v", err)
	}
	return reg
}

// holders says which nodes take part in the account's record.
func (f *testFleet) holders(c *vault.Client) string {
	f.t.Helper()
	var st vault.Status
	err := try(f.t, func(ctx context.Context) (err error) {
		st, err = c.Status(ctx)
		return err
	})
	if err != nil || !st.Registered {
		f.t.Fatalf("status: %+v, %v", st, err)
	}
	var ids []string
	for _, n := range st.Nodes {
		if n.Holds {
			ids = append(ids, n.ID)
		}
	}
	return strings.Join(ids, " ")
}

// stop is SIGTERM and waiting.
func (f *testFleet) stop(id string) {
	f.t.Helper()
	p := f.nodes[id]
	if err := errors.Join(p.cmd.Process.Signal(os.Interrupt), p.cmd.Wait()); err != nil {
		f.t.Fatalf("node %s ended with %v", id, err)
	}
	p.cmd = nil
}

// change asks whichever node leads to change the group, until it does.
func (f *testFleet) change(verb, id string) {
	f.t.Helper()
	var errs string
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		var code int
		if _, errs, code = command(f.t, "cluster", verb, id, "--config", f.nodes[f.leader()].config); code == 0 {
			return
		}
	}
	f.t.Fatalf("cluster %s %s: %s", verb, id, errs)
}

// verified waits until the nodes find nothing wrong with each other.
func (f *testFleet) verified() {
	f.t.Helper()
	var out, errs string
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		var code int
		if out, errs, code = command(f.t, "cluster", "verify", "--config", f.nodes[f.leader()].config); code == 0 {
			return
		}
	}
	f.t.Fatalf("cluster verify: %s\n%s", out, errs)
}

// A node whose disk and token are gone is replaced by the commands of
// docs/OPERATIONS.md, and the account has its full number of nodes again after
// the next password entry: then another of the old nodes may go.
func TestReplaceNode(t *testing.T) {
	f := newFleet(t, "--delays", "none")
	f.leader()
	c, key := f.client("anna"), [32]byte{4, 2}
	f.register(c, "correct horse", key)

	f.kill("n1")
	if err := errors.Join(os.RemoveAll(f.file("n1")), os.Remove(f.file("n1.pin"))); err != nil {
		t.Fatal(err)
	}
	delete(f.nodes, "n1")
	n4 := f.add("n4")
	must(t, "fleet", "next", "--root", f.file("root.key"), "--out", f.file("fleet.cbor"), f.file("fleet.cbor"), f.file("n2")+"/node.json", f.file("n3")+"/node.json", n4)
	if err := f.nodes["n2"].cmd.Process.Signal(syscall.SIGHUP); err != nil { // n3 hears of it
		t.Fatal(err)
	}
	f.start("n4")
	f.leader()
	st, ok := f.status("n4")
	for end := time.Now().Add(30 * time.Second); !ok && time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		st, ok = f.status("n4")
	}
	if !ok || st.Ready || !strings.Contains(st.Reason, "adds it") {
		t.Errorf("a node that waits says %+v", st)
	}
	f.change("join", "n4")
	f.change("remove", "n1")
	f.verified()

	newer, err := vault.NewerManifest(t.Context(), f.config(f.manifest, "anna"))
	f.follow()
	if err != nil || !bytes.Equal(newer, f.manifest) {
		t.Fatalf("the client learns of %d bytes of manifest, %v", len(newer), err)
	}
	c = f.client("anna")
	if got := f.holders(c); got != "n2 n3" {
		t.Errorf("record is held by %s before the password is entered", got)
	}
	for end := time.Now().Add(time.Minute); f.holders(c) != "n2 n3 n4"; {
		if got, err := f.guess(c, "correct horse"); err != nil || got != key {
			t.Fatalf("recovery with the new fleet: %v", err)
		}
		if time.Now().After(end) {
			t.Fatalf("record is held by %s after the password was entered", f.holders(c))
		}
	}
	f.kill("n2")
	if got, err := f.guess(c, "correct horse"); err != nil || got != key {
		t.Errorf("recovery with the new node and one old: %v", err)
	}
	var wrong *vault.WrongPassword
	if _, err := f.guess(c, "battery staple"); !errors.As(err, &wrong) || wrong.Left != 9 {
		t.Errorf("a wrong password after the replacement: %v", err)
	}
	if _, errs, code := command(t, "cluster", "join", "n1", "--config", f.nodes[f.leader()].config); code != exitTemporary {
		t.Errorf("the lost node comes back: %d, %s", code, errs)
	}
}

// Five nodes do without two.
func TestFiveNodes(t *testing.T) {
	f := newFleetOf(t, 5, "--delays", "none")
	f.leader()
	c, key := f.client("anna"), [32]byte{5}
	f.register(c, "correct horse", key)
	f.kill(f.leader())
	f.kill(f.leader())
	if got, err := f.guess(c, "correct horse"); err != nil || got != key {
		t.Errorf("recovery with three of five nodes: %v", err)
	}
	var wrong *vault.WrongPassword
	if _, err := f.guess(c, "battery staple"); !errors.As(err, &wrong) || wrong.Left != 9 {
		t.Errorf("a wrong password: %v", err)
	}
}
