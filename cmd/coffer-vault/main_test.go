package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"coffer/vault"
)

// softHSM is where Debian's package softhsm2 puts its library.
const softHSM = "/usr/lib/softhsm/libsofthsm2.so"

var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "coffer-vault-")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", dir+"/", ".")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building: %w\n%s", err, out)
	}
	return filepath.Join(dir, "coffer-vault"), nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if file, err := binary(); err == nil {
		os.RemoveAll(filepath.Dir(file))
	}
	os.Exit(code)
}

// command runs the program to its end.
func command(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	file, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, file, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func must(t *testing.T, args ...string) string {
	t.Helper()
	out, errs, status := command(t, args...)
	if status != 0 {
		t.Fatalf("coffer-vault %s: status %d\n%s", strings.Join(args, " "), status, errs)
	}
	return strings.TrimSpace(out)
}

// testFleet is nodes on this machine, each a process with a token of its own.
type testFleet struct {
	t        *testing.T
	dir      string
	root     string // public root key
	manifest []byte
	nodes    map[string]*process
}

type process struct {
	config string
	binary string // "": the program of this tree
	cmd    *exec.Cmd
	log    *os.File
}

const nodeConfig = `dir = %[1]q
listen = %[2]q
raft_listen = %[3]q
manifest = %[4]q
roots = [%[5]q]
[hsm]
module = %[6]q
token_label = %[7]q
pin_file = %[8]q
durable = true
[auth]
mode = "open"
`

func newFleet(t *testing.T, policy ...string) *testFleet {
	t.Helper()
	return newFleetOf(t, 3, policy...)
}

func newFleetOf(t *testing.T, size int, policy ...string) *testFleet {
	t.Helper()
	dir := t.TempDir()
	f := &testFleet{t: t, dir: dir, nodes: make(map[string]*process)}
	f.root = must(t, "fleet", "key", "--out", f.file("root.key"))
	args := append([]string{"fleet", "init", "--root", f.file("root.key"), "--name", "test", "--out", f.file("fleet.cbor")}, policy...)
	for i := range size {
		args = append(args, f.add(fmt.Sprint("n", i+1)))
	}
	must(t, args...)
	f.follow()
	for id := range f.nodes {
		f.start(id)
	}
	t.Cleanup(func() {
		for id, p := range f.nodes {
			if p.cmd != nil {
				f.kill(id)
			}
			if b, err := os.ReadFile(p.config + ".log"); err == nil && t.Failed() {
				t.Logf("%s:\n%s", id, b)
			}
		}
	})
	return f
}

func (f *testFleet) file(name string) string { return filepath.Join(f.dir, name) }

// add prepares a node and returns its node.json.
func (f *testFleet) add(id string) string {
	f.t.Helper()
	p := &process{config: f.file(id + ".toml")}
	text := fmt.Sprintf(nodeConfig, f.file(id), freeAddr(f.t), freeAddr(f.t), f.file("fleet.cbor"), f.root, softHSM, "coffer-"+id, f.file(id+".pin"))
	if err := os.WriteFile(p.config, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
	must(f.t, "init", "--config", p.config)
	f.nodes[id] = p
	return filepath.Join(f.file(id), "node.json")
}

// follow makes new clients follow the fleet file as it is now.
func (f *testFleet) follow() {
	f.t.Helper()
	var err error
	if f.manifest, err = os.ReadFile(f.file("fleet.cbor")); err != nil {
		f.t.Fatal(err)
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (f *testFleet) start(id string) {
	f.t.Helper()
	p := f.nodes[id]
	file, err := binary()
	if err != nil {
		f.t.Fatal(err)
	}
	if p.log == nil {
		if p.log, err = os.OpenFile(p.config+".log", os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600); err != nil {
			f.t.Fatal(err)
		}
	}
	if p.binary != "" {
		file = p.binary
	}
	p.cmd = exec.Command(file, "serve", "--config", p.config)
	p.cmd.Stderr = p.log
	if err := p.cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
}

// kill is kill -9.
func (f *testFleet) kill(id string) {
	f.t.Helper()
	p := f.nodes[id]
	p.cmd.Process.Kill()
	p.cmd.Wait()
	p.cmd = nil
}

// status asks one node; false when it does not run.
func (f *testFleet) status(id string) (nodeStatus, bool) {
	f.t.Helper()
	out, _, code := command(f.t, "status", "--json", "--config", f.nodes[id].config)
	var st nodeStatus
	if code != 0 || json.Unmarshal([]byte(out), &st) != nil {
		return st, false
	}
	return st, true
}

// leader waits until a node that runs leads and is ready.
func (f *testFleet) leader() string {
	f.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		for id, p := range f.nodes {
			if p.cmd == nil {
				continue
			}
			if st, ok := f.status(id); ok && st.Leader == id && st.Ready {
				return id
			}
		}
	}
	f.t.Fatal("no leader in a minute")
	return ""
}

func (f *testFleet) client(account string) *vault.Client {
	f.t.Helper()
	return f.clientOf(f.manifest, account)
}

func (f *testFleet) config(manifest []byte, account string) vault.ClientConfig {
	f.t.Helper()
	roots, err := vault.ParseRoots([]string{f.root}, 0)
	if err != nil {
		f.t.Fatal(err)
	}
	return vault.ClientConfig{Manifest: manifest, Roots: roots, Account: account, StateDir: f.t.TempDir()}
}

func (f *testFleet) clientOf(manifest []byte, account string) *vault.Client {
	f.t.Helper()
	c, err := vault.NewClient(f.config(manifest, account))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(c.Close)
	return c
}

// try calls again while too few nodes answer, as a person would.
func try(t *testing.T, fn func(ctx context.Context) error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		err := fn(ctx)
		if !errors.Is(err, vault.ErrUnavailable) || ctx.Err() != nil {
			return err
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func (f *testFleet) guess(c *vault.Client, password string) (key [32]byte, err error) {
	f.t.Helper()
	err = try(f.t, func(ctx context.Context) error {
		key, err = c.Recover(ctx, password)
		return err
	})
	return key, err
}

// The promise of the vault, on real processes with real tokens: attempts that
// were spent stay spent through kill -9 of the leader, two of three nodes
// suffice, and the tenth wrong guess destroys the key.
func TestGuessesSurviveKills(t *testing.T) {
	f := newFleet(t, "--delays", "none", "--deadline", "10s")
	f.leader()
	c := f.client("anna")
	key := [32]byte{1, 2, 3}
	err := try(t, func(ctx context.Context) error {
		_, err := c.Register(ctx, "correct horse", key)
		return err
	})
	if err != nil {
		t.Fatalf("register: %v", err)
	}
	left := 10
	wrong := func() {
		t.Helper()
		_, err := f.guess(c, fmt.Sprint("wrong ", left))
		var w *vault.WrongPassword
		if !errors.As(err, &w) {
			t.Fatalf("wrong guess: %v", err)
		}
		if left--; w.Left != left {
			t.Fatalf("%d attempts left, want %d", w.Left, left)
		}
	}
	wrong()
	for range 2 {
		killed := f.leader()
		f.kill(killed)
		wrong() // by two of three
		f.start(killed)
		f.leader()
		wrong()
	}
	killed := f.leader()
	f.kill(killed)
	if got, err := f.guess(c, "correct horse"); err != nil || got != key {
		t.Fatalf("recovery with two of three nodes: %v (right key: %v)", err, got == key)
	}
	f.start(killed)
	f.leader()
	for left = 10; left > 0; {
		wrong()
	}
	if _, err := f.guess(c, "correct horse"); err == nil {
		t.Fatal("the right password helps after ten wrong ones")
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		_, err := f.guess(c, "correct horse")
		if errors.Is(err, vault.ErrDestroyed) {
			break
		}
		if err == nil || time.Now().After(end) {
			t.Fatalf("after the deadline: %v, want %v", err, vault.ErrDestroyed)
		}
	}
}

// SIGTERM hands leadership over before the node goes, and ends with status 0.
func TestTermHandsOver(t *testing.T) {
	f := newFleet(t)
	old := f.leader()
	p := f.nodes[old]
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("node ended with %v", err)
	}
	p.cmd = nil
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("stopping took %v", took)
	}
	log, err := os.ReadFile(p.log.Name())
	if err != nil || !bytes.Contains(log, []byte("leadership handed over")) {
		t.Errorf("leadership was not handed over (%v)", err)
	}
	f.leader()
	if _, errs, code := command(t, "status", "--config", p.config); code != exitTemporary || !strings.Contains(errs, "hint:") {
		t.Errorf("status of a stopped node: %d, %s", code, errs)
	}
}

// What the operator got wrong is said with what to do about it, and nothing is overwritten.
func TestOperatorErrors(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.toml")
	if err := os.WriteFile(bad, []byte("dir = \"x\"\nwhat = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "root.key")
	public := must(t, "fleet", "key", "--out", key)
	if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("root key has mode %v (%v)", info.Mode(), err)
	}
	node := filepath.Join(dir, "n1.toml")
	text := fmt.Sprintf(nodeConfig, filepath.Join(dir, "n1"), freeAddr(t), freeAddr(t), filepath.Join(dir, "fleet.cbor"), public, softHSM, "t", filepath.Join(dir, "pin"))
	if err := os.WriteFile(node, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, "init", "--config", node)
	must(t, "init", "--config", node) // again is harmless
	if out := must(t, "hsm", "check", "--config", node); !strings.Contains(out, "software") || strings.Contains(out, "FAIL") {
		t.Errorf("hsm check prints %s", out)
	}
	fleet := filepath.Join(dir, "fleet.cbor")
	must(t, "fleet", "init", "--name", "one", "--out", fleet, filepath.Join(dir, "n1", "node.json"))
	for _, tt := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"unknown key", []string{"serve", "--config", bad}, exitConfig, "bad.toml:2:1"},
		{"no file", []string{"serve", "--config", bad + "x"}, exitConfig, "no such file"},
		{"unknown command", []string{"frobnicate"}, exitUsage, "unknown command"},
		{"unknown flag", []string{"serve", "--what"}, exitUsage, "unknown flag"},
		{"key exists", []string{"fleet", "key", "--out", key}, exitFailed, "exists already"},
		{"fleet exists", []string{"fleet", "init", "--name", "x", "--out", fleet, filepath.Join(dir, "n1", "node.json")}, exitFailed, "exists already"},
		{"manifest not signed", []string{"serve", "--config", node}, exitConfig, "not acceptable"},
		{"verify unsigned", []string{"fleet", "verify", "--root", public, fleet}, exitFailed, "not acceptable"},
		{"no node runs", []string{"cluster", "transfer-leader", "--config", node}, exitTemporary, "asking node n1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, errs, code := command(t, tt.args...)
			if code != tt.code || !strings.Contains(errs, tt.want) || out != "" {
				t.Errorf("status %d, want %d; standard output %q; standard error %s", code, tt.code, out, errs)
			}
		})
	}
	must(t, "fleet", "sign", "--root", key, fleet)
	must(t, "fleet", "verify", "--root", public, fleet)
	if out := must(t, "fleet", "show", fleet); !strings.Contains(out, "n1") {
		t.Errorf("fleet show prints %s", out)
	}
	must(t, "cluster", "init", "--config", node)
	if _, errs, code := command(t, "cluster", "init", "--config", node); code != exitFailed || !strings.Contains(errs, "not empty") {
		t.Errorf("beginning a group twice: %d, %s", code, errs)
	}
	next := filepath.Join(dir, "next.cbor")
	must(t, "fleet", "next", "--root", key, "--budget", "5", "--out", next, fleet)
	if out := must(t, "fleet", "verify", "--json", "--root", public, next); !strings.Contains(out, `"sequence":2`) {
		t.Errorf("the next manifest is %s", out)
	}
	if out := must(t, "fleet", "audit", "--root", public, fleet, next); strings.Count(out, "1 nodes") != 2 {
		t.Errorf("the history is %s", out)
	}
	if _, errs, code := command(t, "fleet", "audit", "--root", public, next); code != exitFailed || !strings.Contains(errs, "begins with number 2") {
		t.Errorf("a history without its beginning: %d, %s", code, errs)
	}
	two := filepath.Join(dir, "two.cbor")
	must(t, "fleet", "init", "--root", key, "--name", "two", "--predecessor", fleet, "--out", two, filepath.Join(dir, "n1", "node.json"))
	if out := must(t, "fleet", "show", two); !strings.Contains(out, "its accounts move here") {
		t.Errorf("fleet show prints %s", out)
	}
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := command(t, "fleet", "sign", "--root", key, fleet); code != exitFailed || !strings.Contains(errs, "chmod 600") {
		t.Errorf("an open key is used: %d, %s", code, errs)
	}
}

// A token that "token issue" prints lets its holder in, and nobody else.
func TestTokens(t *testing.T) {
	dir := t.TempDir()
	key, other := filepath.Join(dir, "token.key"), filepath.Join(dir, "other.key")
	public := must(t, "token", "key", "--out", key)
	must(t, "token", "key", "--out", other)
	nodes := filepath.Join(dir, "token.pub")
	if err := os.WriteFile(nodes, []byte(public+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := vault.NewManifest("x", nil, time.Now())
	for _, file := range []string{nodes, key} {
		keys, err := tokenKeys(file)
		if err != nil {
			t.Fatal(err)
		}
		a := vault.TokenAuth{Fleet: m.Fleet, Keys: keys}
		now := time.Now()
		for name, want := range map[string]bool{key: true, other: false} {
			k, err := readSigningKey(name)
			if err != nil {
				t.Fatal(err)
			}
			token := vault.IssueToken(k, m.Fleet, "anna", now, now.Add(time.Hour))
			if err := a.Check([]byte(token), vault.AccountUID(m.Fleet, "anna"), now); (err == nil) != want {
				t.Errorf("token by %s: %v, want accepted %v", name, err, want)
			}
		}
	}
	for name, text := range map[string]string{"empty": "", "short": "abcd", "garbage": "-----BEGIN PRIVATE KEY-----"} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := tokenKeys(file); err == nil {
			t.Errorf("%s key file is read", name)
		}
	}
}

// A fleet that lost its replicated state begins again from a saved one, to which the
// ledgers add what was counted since; a disk from before that is refused, as the HSM
// remembers the generation.
func TestSnapshotCeremony(t *testing.T) {
	f := newFleet(t, "--delays", "none")
	f.leader()
	c := f.client("anna")
	key := [32]byte{7}
	err := try(t, func(ctx context.Context) error {
		_, err := c.Register(ctx, "correct horse", key)
		return err
	})
	if err != nil {
		t.Fatalf("register: %v", err)
	}
	wrong := func(left int) {
		t.Helper()
		_, err := f.guess(c, fmt.Sprint("wrong ", left))
		var w *vault.WrongPassword
		if !errors.As(err, &w) || w.Left != left {
			t.Fatalf("a wrong password: %v, want %d left", err, left)
		}
	}
	wrong(9)
	wrong(8)
	file := filepath.Join(t.TempDir(), "state")
	must(t, "snapshot", "save", "--config", f.nodes[f.leader()].config, file)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("file has mode %v (%v)", info.Mode(), err)
	}
	if _, _, code := command(t, "snapshot", "save", "--config", f.nodes["n1"].config, file); code != exitFailed {
		t.Errorf("saving over a file: status %d", code)
	}
	if out := must(t, "snapshot", "inspect", file); !strings.Contains(out, "generation 0") {
		t.Errorf("inspect prints %s", out)
	}
	wrong(7) // is not in the copy
	wrong(6)
	wrong(5)
	raft := func(id string) string { return filepath.Join(filepath.Dir(f.nodes[id].config), id, "raft") }
	for id, p := range f.nodes {
		f.kill(id)
		if out := must(t, "cluster", "recover", "--config", p.config, "--penalty", "1", file); !strings.Contains(out, "generation 1") {
			t.Errorf("recover prints %s", out)
		}
	}
	for id := range f.nodes {
		f.start(id)
	}
	f.leader()
	wrong(6) // of the 8 that the copy had left, less the penalty; the ledgers have less
	if got, err := f.guess(c, "correct horse"); err != nil || got != key {
		t.Errorf("recovery after the restore: %v", err)
	}
	f.verified()
	f.kill("n1")
	if _, errs, code := command(t, "snapshot", "restore", "--config", f.nodes["n1"].config, file); code != exitFailed || !strings.Contains(errs, "before exists already") {
		t.Errorf("restoring over what a restore has kept: %d, %s", code, errs)
	}
	if err := errors.Join(os.Rename(raft("n1"), raft("n1")+".new"), os.Rename(raft("n1")+".before", raft("n1"))); err != nil {
		t.Fatal(err)
	}
	_, errs, code := command(t, "serve", "--config", f.nodes["n1"].config)
	if code != exitFailed || !strings.Contains(errs, "rolled back") {
		t.Errorf("an old disk runs: status %d, %s", code, errs)
	}
}
