package hsm

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
)

// TestMain runs a child of the kill tests when the environment says so.
func TestMain(m *testing.M) {
	if os.Getenv("COFFER_HSM_CHILD") != "" {
		if err := child(os.Getenv("COFFER_HSM_CHILD")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	dir, err := os.MkdirTemp("", "coffer-hsm-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	originals.dir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// child works until it is killed. What it says on standard output is done.
func child(role string) error {
	c := Config{
		Module: module, TokenLabel: "node", PIN: PIN(os.Getenv("COFFER_HSM_PIN")), Sessions: 2,
		Durable: os.Getenv("COFFER_HSM_DURABLE"), RunDir: os.Getenv("COFFER_HSM_RUN"),
	}
	ctx := context.Background()
	if role == "provision" {
		return Provision(ctx, c, nil)
	}
	if role == "rotate" {
		_, err := Rotate(ctx, c)
		return err
	}
	rec, err := hex.DecodeString(os.Getenv("COFFER_HSM_RECORD"))
	if err != nil {
		return err
	}
	c.RecycleOps = 20 // so that kills hit logins too
	t, err := Open(ctx, c)
	if err != nil {
		return err
	}
	head, err := t.Anchor(ctx)
	if err != nil {
		return err
	}
	for n := binary.BigEndian.Uint64(head[:]) + 1; ; n++ {
		if _, err := t.Evaluate(ctx, anna, rec, blinded); err != nil {
			return err
		}
		binary.BigEndian.PutUint64(head[:], n)
		if err := t.SetAnchor(ctx, head); err != nil {
			return err
		}
		fmt.Println(n)
	}
}

// kills is how often the kill tests kill; COFFER_HSM_KILLS asks for more.
func kills(tb testing.TB, n int) int {
	if s := os.Getenv("COFFER_HSM_KILLS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			tb.Fatal(err)
		}
	}
	return n
}

// within returns a random time up to one and a half times d, and 0 for 0.
func within(d time.Duration) time.Duration {
	if d == 0 {
		return 0
	}
	return 1 + rand.N(d+d/2)
}

// killed starts a child, kills it after d, or, if d is 0, at its first line or
// never, and returns the lines it wrote and how long it lived. A child that
// ended by itself with an error fails the test.
func killed(t *testing.T, role string, c Config, rec []byte, d time.Duration) (lines []string, took time.Duration) {
	t.Helper()
	begin := time.Now()
	var stderr bytes.Buffer
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "COFFER_HSM_CHILD="+role, "COFFER_HSM_PIN="+string(c.PIN), "COFFER_HSM_DURABLE="+c.Durable,
		"COFFER_HSM_RUN="+c.RunDir, "COFFER_HSM_RECORD="+hex.EncodeToString(rec))
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if d > 0 {
		timer := time.AfterFunc(d, func() { cmd.Process.Kill() })
		defer timer.Stop()
	}
	for sc := bufio.NewScanner(out); sc.Scan(); {
		lines = append(lines, sc.Text())
		if d == 0 {
			cmd.Process.Kill()
		}
	}
	if err := cmd.Wait(); err != nil && cmd.ProcessState.ExitCode() != -1 {
		t.Fatalf("child ended by itself: %v: %s", err, stderr.String())
	}
	return lines, time.Since(begin)
}

// TestKilled kills processes while they log in, evaluate and store the anchor.
// No kill may cost the token: it opens, evaluates the same record to the same
// point, and remembers every anchor that was acknowledged.
func TestKilled(t *testing.T) {
	config := provisioned(t, ModeWrapped)
	tok := open(t, config())
	rec, _ := newKey(t, tok, anna)
	want, err := tok.Evaluate(context.Background(), anna, rec, blinded)
	if err != nil {
		t.Fatal(err)
	}
	if err := tok.Close(); err != nil {
		t.Fatal(err)
	}
	working, last := 0, uint64(0)
	var start time.Duration // till a child has done the first piece of work
	for n := range kills(t, 100) {
		d := within(start) // 0 the first time
		lines, took := killed(t, "work", config(), rec, d)
		if d == 0 {
			start = took
		}
		if len(lines) > 0 {
			working++
			if last, err = strconv.ParseUint(lines[len(lines)-1], 10, 64); err != nil {
				t.Fatal(err)
			}
		}
		tok := open(t, config())
		got, err := tok.Evaluate(context.Background(), anna, rec, blinded)
		if err != nil || got != want {
			t.Fatalf("kill %d: %x, %v, want %x", n, got, err, want)
		}
		head, err := tok.Anchor(context.Background())
		if at := binary.BigEndian.Uint64(head[:]); err != nil || at != last && at != last+1 {
			t.Fatalf("kill %d: anchor %d, %v, want %d or the next", n, at, err, last)
		} else {
			last = at
		}
		if err := tok.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if working == 0 {
		t.Error("no child came to work before it was killed")
	}
	if left, err := filepath.Glob(filepath.Join(config().RunDir, "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestProvisionKilled kills provisioning: afterwards there is no token, and it
// can be made, or there is one, and it is whole.
func TestProvisionKilled(t *testing.T) {
	made := 0
	c := Config{Module: module, TokenLabel: "node", Durable: t.TempDir(), RunDir: t.TempDir(), PIN: NewPIN()}
	_, whole := killed(t, "provision", c, nil, 0)
	for n := range kills(t, 100) / 10 {
		c := Config{Module: module, TokenLabel: "node", Durable: t.TempDir(), RunDir: t.TempDir(), PIN: NewPIN()}
		pin := bytes.Clone(c.PIN)
		killed(t, "provision", c, nil, within(whole))
		if _, err := os.Stat(filepath.Join(c.Durable, metaName)); err == nil {
			made++
		} else if err := Provision(context.Background(), c, nil); err != nil {
			t.Fatalf("kill %d: provisioning again: %v", n, err)
		}
		c.PIN = pin
		if err := open(t, c).Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d were done before they were killed", made)
}

// TestDurableNeverWritten: what Provision left is what is there after use.
func TestDurableNeverWritten(t *testing.T) {
	config := provision(t, ModeWrapped, t.TempDir())
	dir := config().Durable
	m, err := readMeta(dir)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		tok := open(t, config())
		newKey(t, tok, anna)
		if err := tok.Close(); err != nil {
			t.Fatal(err)
		}
	}
	tokens := 0
	for name, sum := range m.Files {
		if got, err := syncFile(filepath.Join(dir, m.Dir, name)); err != nil || got != sum {
			t.Errorf("%s: %s, %v, want %s", name, got, err, sum)
		}
		if filepath.Base(name) == "token.object" {
			tokens++
		}
	}
	if tokens != 1 {
		t.Errorf("%d token.object among %d files", tokens, len(m.Files))
	}
	info, err := os.Stat(filepath.Join(dir, metaName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%s: %v, %v", metaName, info.Mode(), err)
	}
}

// TestDamageRefused: a durable token that is not as provisioned is not used.
func TestDamageRefused(t *testing.T) {
	object := func(c Config) string {
		found, err := filepath.Glob(filepath.Join(c.Durable, "tokens-1", "*", "token.object"))
		if err != nil || len(found) != 1 {
			t.Fatalf("%d tokens, %v", len(found), err)
		}
		return found[0]
	}
	meta := func(text string) func(Config) error {
		return func(c Config) error { return os.WriteFile(filepath.Join(c.Durable, metaName), []byte(text), 0o600) }
	}
	for name, harm := range map[string]func(Config) error{
		"a file emptied": func(c Config) error { return os.Truncate(object(c), 0) },
		"a file removed": func(c Config) error { return os.Remove(object(c)) },
		"a bit flipped": func(c Config) error {
			raw, err := os.ReadFile(object(c))
			if err != nil {
				return err
			}
			raw[len(raw)/2] ^= 1
			return os.WriteFile(object(c), raw, 0o600)
		},
		"no token.json":    func(c Config) error { return os.Remove(filepath.Join(c.Durable, metaName)) },
		"not JSON":         meta("{"),
		"a newer version":  meta(`{"version":2,"label":"node","dir":"tokens-1","files":{"a":"b"}}`),
		"a folder outside": meta(`{"version":1,"label":"node","dir":"../tokens-1","files":{"a":"b"}}`),
		"a file outside":   meta(`{"version":1,"label":"node","dir":"tokens-1","files":{"../a":"b"}}`),
		"no files":         meta(`{"version":1,"label":"node","dir":"tokens-1","files":{}}`),
	} {
		config := provisioned(t, ModeWrapped)
		if err := harm(config()); err != nil {
			t.Fatal(err)
		}
		if tok, err := Open(context.Background(), config()); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v, %v, want %v", name, tok, err, ErrUnavailable)
		}
	}
	config := provisioned(t, ModeWrapped)
	if err := Provision(context.Background(), config(), nil); !errors.Is(err, os.ErrExist) {
		t.Errorf("provisioning twice: %v, want %v", err, os.ErrExist)
	}
	if err := open(t, config()).Close(); err != nil {
		t.Errorf("after provisioning twice: %v", err)
	}
}

// TestSweep: copies of dead processes go, those of living ones stay.
func TestSweep(t *testing.T) {
	run := t.TempDir()
	alive, err := newWorkCopy(run)
	if err != nil {
		t.Fatal(err)
	}
	dead := filepath.Join(run, workPrefix+"1")
	foreign := filepath.Join(run, "something")
	for _, dir := range []string{dead, foreign} {
		if err := os.MkdirAll(filepath.Join(dir, "tokens"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(dead+lockSuffix, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	second, err := newWorkCopy(run)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{alive.dir: true, second.dir: true, foreign: true, dead: false, dead + lockSuffix: false} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: there %v, want %v", path, err == nil, want)
		}
	}
	alive.remove()
	second.remove()
	if left, _ := os.ReadDir(run); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}

// TestAnchor: the newest head counts; torn and forged slots do not.
func TestAnchor(t *testing.T) {
	ctx := context.Background()
	config := provisioned(t, ModeWrapped)
	path := filepath.Join(config().Durable, anchorName)
	tok := open(t, config())
	again := func() {
		t.Helper()
		if err := tok.Close(); err != nil {
			t.Fatal(err)
		}
		tok = open(t, config())
	}
	expect := func(name string, want [40]byte, kind error) {
		t.Helper()
		again()
		if got, err := tok.Anchor(ctx); !errors.Is(err, kind) || got != want {
			t.Errorf("%s: %x, %v, want %x, %v", name, got, err, want, kind)
		}
	}
	expect("fresh", [40]byte{}, nil)
	for n := range byte(5) {
		if err := tok.SetAnchor(ctx, [40]byte{n + 1}); err != nil {
			t.Fatal(err)
		}
		if got, err := tok.Anchor(ctx); err != nil || got != [40]byte{n + 1} {
			t.Errorf("set %d: %x, %v", n+1, got, err)
		}
	}
	expect("set five times", [40]byte{5}, nil)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(at int, b ...byte) {
		t.Helper()
		raw := bytes.Clone(good)
		copy(raw[at:], b)
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(slotStride+20, 99) // count 5 is in slot 1
	expect("newest torn", [40]byte{4}, nil)
	write(20, 99)
	expect("older torn", [40]byte{5}, nil)
	write(8, bytes.Repeat([]byte{255}, 8)...)
	expect("count forged", [40]byte{5}, nil)
	write(0, append(bytes.Clone(good[slotStride:slotStride+slotSize]), 0)...)
	expect("slot copied", [40]byte{5}, nil)
	if err := os.WriteFile(path, make([]byte, 2*slotStride), 0o600); err != nil {
		t.Fatal(err)
	}
	expect("zeros", [40]byte{}, ErrAnchor)
	if err := tok.SetAnchor(ctx, [40]byte{7}); !errors.Is(err, ErrAnchor) {
		t.Errorf("setting over zeros: %v, want %v", err, ErrAnchor)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	expect("removed", [40]byte{}, ErrAnchor)

	if err := tok.Close(); err != nil {
		t.Fatal(err)
	}
	other := provision(t, ModeWrapped, t.TempDir())
	foreign, err := os.ReadFile(filepath.Join(other().Durable, anchorName))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, foreign, 0o600); err != nil {
		t.Fatal(err)
	}
	expect("another token's", [40]byte{}, ErrAnchor)
	generation, err := os.ReadFile(filepath.Join(config().Durable, generationName))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, generation, 0o600); err != nil {
		t.Fatal(err)
	}
	expect("the generation's file", [40]byte{}, ErrAnchor)
}

// TestAnchorOrder: an anchor whose caller has given up must not be stored over
// a later one, or the ledger's head would go back.
func TestAnchorOrder(t *testing.T) {
	tok := open(t, provisioned(t, ModeWrapped)())
	tok.marks.Lock() // the library is slow
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := tok.SetAnchor(ctx, [40]byte{1}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("given up: %v, want %v", err, ErrUnavailable)
	}
	tok.anchored = tok.tickets.Add(1) // a later call came first
	tok.marks.Unlock()
	tok.drain()
	if head, err := tok.Anchor(context.Background()); err != nil || head != [40]byte{} {
		t.Errorf("the late anchor was stored: %x, %v", head, err)
	}
	if err := tok.SetAnchor(context.Background(), [40]byte{2}); err != nil {
		t.Error(err)
	}
	if head, err := tok.Anchor(context.Background()); err != nil || head != [40]byte{2} {
		t.Errorf("anchor %x, %v", head, err)
	}
}

// TestGeneration: it grows, and survives; on SoftHSM's way and the hardware's.
func TestGeneration(t *testing.T) {
	ctx := context.Background()
	hardware := partition(t)
	if err := Provision(ctx, hardware(), nil); err != nil {
		t.Fatal(err)
	}
	check := func(config func() Config) {
		t.Helper()
		tok := open(t, config())
		for _, step := range []struct {
			set  uint64
			err  error
			want uint64
		}{{0, ErrGeneration, 0}, {3, nil, 3}, {3, ErrGeneration, 3}, {2, ErrGeneration, 3}, {1 << 63, nil, 1 << 63}} {
			if err := tok.SetGeneration(ctx, step.set); !errors.Is(err, step.err) {
				t.Errorf("set %d: %v, want %v", step.set, err, step.err)
			}
			if got, err := tok.Generation(ctx); err != nil || got != step.want {
				t.Errorf("after %d: %d, %v, want %d", step.set, got, err, step.want)
			}
		}
		if err := tok.Close(); err != nil {
			t.Fatal(err)
		}
		tok = open(t, config())
		if got, err := tok.Generation(ctx); err != nil || got != 1<<63 {
			t.Errorf("opened again: %d, %v", got, err)
		}
		if head, err := tok.Anchor(ctx); err != nil || head != [40]byte{} {
			t.Errorf("the anchor is %x, %v", head, err)
		}
		if err := tok.Close(); err != nil {
			t.Fatal(err)
		}
	}
	check(hardware)
	check(provisioned(t, ModeWrapped))
}

// partition makes an empty SoftHSM token that the library works on directly, as
// it would on a real HSM's.
func partition(t *testing.T) func() Config {
	t.Helper()
	if err := (&workCopy{dir: t.TempDir()}).use(); err != nil {
		t.Fatal(err)
	}
	lib := pkcs11.New(module)
	if err := initToken(lib, "partition", "so-pin-1234", "user-pin-1234"); err != nil {
		t.Fatal(err)
	}
	return func() Config {
		return Config{Module: module, TokenLabel: "partition", PIN: PIN("user-pin-1234")}
	}
}

// TestHardwareWay uses SoftHSM as a real HSM is used: a token that exists,
// keys made beside whatever else it holds, the anchor inside it.
func TestHardwareWay(t *testing.T) {
	ctx := context.Background()
	config := partition(t)
	if _, err := Open(ctx, config()); !errors.Is(err, ErrProbe) {
		t.Errorf("empty token: %v, want %v", err, ErrProbe)
	}
	if err := Provision(ctx, config(), nil); err != nil {
		t.Fatal(err)
	}
	if err := Provision(ctx, config(), nil); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("provisioning twice: %v", err)
	}
	head := [40]byte{1, 2, 3}
	tok := open(t, config())
	if got, err := tok.Anchor(ctx); err != nil || got != [40]byte{} {
		t.Errorf("fresh anchor: %x, %v", got, err)
	}
	if err := tok.SetAnchor(ctx, head); err != nil {
		t.Error(err)
	}
	rec, _ := newKey(t, tok, anna)
	if err := tok.Close(); err != nil {
		t.Fatal(err)
	}
	tok = open(t, config())
	if got, err := tok.Anchor(ctx); err != nil || got != head {
		t.Errorf("anchor: %x, %v, want %x", got, err, head)
	}
	if _, err := tok.Evaluate(ctx, anna, rec, blinded); err != nil {
		t.Error(err)
	}
	wrong := config()
	if err := tok.Close(); err != nil {
		t.Fatal(err)
	}
	wrong.TokenLabel = "absent"
	if _, err := Open(ctx, wrong); !errors.Is(err, ErrUnavailable) {
		t.Errorf("no such token: %v, want %v", err, ErrUnavailable)
	}
}
