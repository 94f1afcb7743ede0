package hsm

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/nistec"
	"github.com/prometheus/client_golang/prometheus"
)

const module = "/usr/lib/softhsm/libsofthsm2.so"

var (
	modes = []Mode{ModeWrapped, ModeTweak, ModeUnseal}
	anna  = []byte("anna")
	bob   = []byte("bob")
)

// provisioned returns a function that gives the Config of a SoftHSM token of
// mode, with a PIN of its own each time, since Open wipes it. The token is a copy
// of the one that was made for the first test that asked.
func provisioned(tb testing.TB, mode Mode) func() Config {
	tb.Helper()
	if originals.config[mode] == nil {
		dir, err := os.MkdirTemp(originals.dir, mode.String())
		if err != nil {
			tb.Fatal(err)
		}
		originals.config[mode] = provision(tb, mode, dir)
	}
	dir := tb.TempDir()
	if err := os.CopyFS(dir, os.DirFS(originals.config[mode]().Durable)); err != nil {
		tb.Fatal(err)
	}
	run := tb.TempDir()
	return func() Config {
		c := originals.config[mode]()
		c.Durable, c.RunDir = dir, run
		return c
	}
}

// originals are the tokens that tests get copies of; see TestMain.
var originals = struct {
	dir    string
	config map[Mode]func() Config
}{config: make(map[Mode]func() Config)}

// provision makes a token that nobody has a copy of.
func provision(tb testing.TB, mode Mode, durable string) func() Config {
	tb.Helper()
	pin := NewPIN()
	c := Config{Module: module, TokenLabel: "node", Mode: mode, Durable: durable, RunDir: tb.TempDir()}
	config := func() Config {
		c.PIN = bytes.Clone(pin)
		return c
	}
	if err := Provision(context.Background(), config(), nil); err != nil {
		tb.Fatal(err)
	}
	return config
}

// open opens a token until the test ends.
func open(tb testing.TB, c Config) *Token {
	tb.Helper()
	t, err := Open(context.Background(), c)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := t.Close(); err != nil {
			tb.Error(err)
		}
	})
	return t
}

// test runs fn in a session.
func (t *Token) test(fn func(*session) error) error {
	_, err := do(context.Background(), t, "evaluate", func(s *session) (struct{}, error) { return struct{}{}, fn(s) })
	return err
}

func newKey(tb testing.TB, t *Token, owner []byte) (rec []byte, public [33]byte) {
	tb.Helper()
	rec, public, err := t.NewKey(context.Background(), owner)
	if err != nil {
		tb.Fatal(err)
	}
	return rec, public
}

// times returns k·p in software.
func times(tb testing.TB, k []byte, p [33]byte) [33]byte {
	tb.Helper()
	q, err := nistec.NewP256Point().SetBytes(p[:])
	if err != nil {
		tb.Fatal(err)
	}
	if q, err = nistec.NewP256Point().ScalarMult(q, k); err != nil {
		tb.Fatal(err)
	}
	return compress(q)
}

func scalar() []byte {
	k := make([]byte, 32)
	rand.Read(k[1:]) // below the order, and not small
	return k
}

// base is G. A token is not asked for k·G, which is the public key: blinded,
// some other point, is what tests evaluate that want it to work.
var (
	base    = compress(nistec.NewP256Point().SetGenerator())
	blinded = compress(nistec.NewP256Point().Double(nistec.NewP256Point().SetGenerator()))
)

// TestVectorsRFC9497 sends both vectors of appendix A.3.1 through the token, in
// each mode, by the path that accounts' keys take.
func TestVectorsRFC9497(t *testing.T) {
	for _, mode := range modes {
		tok := open(t, provisioned(t, mode)())
		err := tok.test(func(s *session) error {
			key, err := hex.DecodeString(vectorKey)
			if err != nil {
				return err
			}
			evaluate, forget, err := s.imported(key)
			if err != nil {
				return err
			}
			defer forget()
			for _, v := range vectors {
				in, _ := hex.DecodeString(v[0])
				b, err := parsePoint([33]byte(in))
				if err != nil {
					return err
				}
				p, err := evaluate(b)
				if err != nil {
					return err
				}
				if got := compress(p); hex.EncodeToString(got[:]) != v[1] {
					t.Errorf("%v: %x, want %s", mode, got, v[1])
				}
			}
			return nil
		})
		if err != nil {
			t.Errorf("%v: %v", mode, err)
		}
		if err := tok.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestEvaluateEqualsSoftware imports 200 random keys and compares each
// evaluation of a random point with one in software; keys that the token makes
// are compared by linearity, k·(r·G) = r·K.
func TestEvaluateEqualsSoftware(t *testing.T) {
	for _, mode := range modes {
		tok := open(t, provisioned(t, mode)())
		err := tok.test(func(s *session) error {
			for range 200 {
				k := scalar()
				evaluate, forget, err := s.imported(k)
				if err != nil {
					return err
				}
				b := times(t, scalar(), base)
				point, err := parsePoint(b)
				if err != nil {
					return err
				}
				p, err := evaluate(point)
				forget()
				if err != nil {
					return err
				}
				if got, want := compress(p), times(t, k, b); got != want {
					return fmt.Errorf("%x·%x is %x, want %x", k, b, got, want)
				}
			}
			return nil
		})
		if err != nil {
			t.Errorf("%v: %v", mode, err)
		}
		for range 50 {
			rec, public := newKey(t, tok, anna)
			r := scalar()
			got, err := tok.Evaluate(context.Background(), anna, rec, times(t, r, base))
			if want := times(t, r, public); err != nil || got != want {
				t.Fatalf("%v: %x, %v, want %x", mode, got, err, want)
			}
		}
		if err := tok.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestLeadingZeros looks for results whose x begins with a zero byte: a token
// that drops it gives 31 bytes. One in 256 does, so 2,000 give some.
func TestLeadingZeros(t *testing.T) {
	tok := open(t, provisioned(t, ModeTweak)()) // the quickest through CKM_ECDH1_DERIVE
	found := 0
	err := tok.test(func(s *session) error {
		key := s.k.main[s.k.current]
		public := s.k.base[s.k.current]
		b := nistec.NewP256Point().SetGenerator()
		for n := range 2000 {
			b.Add(b, nistec.NewP256Point().SetGenerator()) // (n+2)·G
			p, err := multiply(s.deriver(key), public, b)
			if err != nil {
				return fmt.Errorf("%d·G: %w", n+2, err)
			}
			want, err := nistec.NewP256Point().ScalarMult(public, big.NewInt(int64(n+2)).FillBytes(make([]byte, 32)))
			if err != nil {
				return err
			}
			if got := compress(p); got != compress(want) {
				return fmt.Errorf("%d·G: %x, want %x", n+2, got, compress(want))
			} else if got[1] == 0 {
				found++
			}
		}
		return nil
	})
	if err != nil || found == 0 {
		t.Errorf("%d leading zeros: %v", found, err)
	}
}

// TestEdgePoints evaluates where the two derivations or the two signs are
// special, and refuses what is no point before it comes to the token.
func TestEdgePoints(t *testing.T) {
	n1, _ := hex.DecodeString("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632550") // -1
	n2, _ := hex.DecodeString("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc63254f") // -2
	half, _ := hex.DecodeString("7fffffff800000007fffffffffffffffde737d56d38bcf4279dce5617e3192a8")
	for _, mode := range modes {
		tok := open(t, provisioned(t, mode)())
		rec, public := newKey(t, tok, anna)
		for name, r := range map[string][]byte{
			"G": big.NewInt(1).FillBytes(make([]byte, 32)), "2G": big.NewInt(2).FillBytes(make([]byte, 32)), "-G": n1, "-2G": n2, "G/2": half,
		} {
			got, err := tok.Evaluate(context.Background(), anna, rec, times(t, r, base))
			if want := times(t, r, public); err != nil || got != want {
				t.Errorf("%v: %s: %x, %v, want %x", mode, name, got, err, want)
			}
		}
		for name, p := range map[string][33]byte{"K": public, "-K": times(t, n1, public)} {
			kp, err := tok.Evaluate(context.Background(), anna, rec, p)
			if err != nil {
				t.Errorf("%v: %s: %v", mode, name, err)
			}
			twice, err := tok.Evaluate(context.Background(), anna, rec, times(t, []byte{31: 2}, p))
			if err != nil || twice != times(t, []byte{31: 2}, kp) {
				t.Errorf("%v: %s: not linear, %v", mode, name, err)
			}
		}
		bad := map[string][33]byte{"zero": {}, "no such x": {0: 2, 32: 1}, "uncompressed": {0: 4}, "hybrid": {0: 6}}
		over := [33]byte{0: 2}
		copy(over[1:], bytes.Repeat([]byte{255}, 32))
		bad["x beyond p"] = over
		for name, p := range bad {
			if _, err := tok.Evaluate(context.Background(), anna, rec, p); !errors.Is(err, ErrPoint) {
				t.Errorf("%v: %s: %v, want %v", mode, name, err, ErrPoint)
			}
		}
		if err := tok.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestRecordBound: a record serves its owner and its token, unchanged.
func TestRecordBound(t *testing.T) {
	for _, mode := range modes {
		config := provisioned(t, mode)
		tok := open(t, config())
		rec, _ := newKey(t, tok, anna)
		other, _ := newKey(t, tok, bob)
		refused := func(name string, owner, rec []byte) {
			t.Helper()
			if _, err := tok.Evaluate(context.Background(), owner, rec, blinded); !errors.Is(err, ErrRecord) {
				t.Errorf("%v: %s: %v, want %v", mode, name, err, ErrRecord)
			}
		}
		refused("another owner", bob, rec)
		refused("no owner", nil, rec)
		refused("another's record", anna, other)
		refused("owner too long", make([]byte, maxOwner+1), rec)
		for i := range rec {
			changed := bytes.Clone(rec)
			changed[i] ^= 0x80
			refused(fmt.Sprintf("byte %d changed", i), anna, changed)
		}
		for _, n := range []int{0, 1, wrappedAt, len(rec) - 1} {
			refused(fmt.Sprintf("cut to %d", n), anna, rec[:n])
		}
		refused("longer", anna, append(bytes.Clone(rec), 0))
		mixed := slices.Concat(rec[:wrappedAt], other[wrappedAt:])
		refused("two records joined", anna, mixed)
		if _, _, err := tok.NewKey(context.Background(), make([]byte, maxOwner+1)); err == nil {
			t.Errorf("%v: a key for an owner of %d bytes", mode, maxOwner+1)
		}
		if err := tok.Close(); err != nil {
			t.Error(err)
		}

		tok = open(t, provision(t, mode, t.TempDir())())
		refused("another token", anna, rec)
		if err := tok.Close(); err != nil {
			t.Error(err)
		}
		tok = open(t, config())
		if _, err := tok.Evaluate(context.Background(), anna, rec, blinded); err != nil {
			t.Errorf("%v: after opening again: %v", mode, err)
		}
		if err := tok.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestFault gives multiply a token that errs: no wrong point may come out.
func TestFault(t *testing.T) {
	k := scalar()
	public, err := nistec.NewP256Point().ScalarBaseMult(k)
	if err != nil {
		t.Fatal(err)
	}
	b, err := nistec.NewP256Point().ScalarBaseMult(scalar())
	if err != nil {
		t.Fatal(err)
	}
	honest := func(p *nistec.P256Point) ([]byte, error) {
		q, err := nistec.NewP256Point().ScalarMult(p, k)
		if err != nil {
			return nil, err
		}
		return q.BytesX()
	}
	if p, err := multiply(honest, public, b); err != nil || compress(p) != times(t, k, compress(b)) {
		t.Fatalf("honest: %v", err)
	}
	for wrong := range 2 {
		calls := 0
		lying := func(p *nistec.P256Point) ([]byte, error) {
			x, err := honest(p)
			if calls == wrong {
				x[31] ^= 1
			}
			calls++
			return x, err
		}
		if p, err := multiply(lying, public, b); !errors.Is(err, errFault) {
			t.Errorf("answer %d wrong: %v, %v, want %v", wrong, p, err, errFault)
		}
	}
	other, err := nistec.NewP256Point().ScalarBaseMult(scalar())
	if err != nil {
		t.Fatal(err)
	}
	if p, err := multiply(honest, other, b); !errors.Is(err, errFault) {
		t.Errorf("another public key: %v, %v, want %v", p, err, errFault)
	}
	if p, err := multiply(func(*nistec.P256Point) ([]byte, error) { return make([]byte, 31), nil }, public, b); !errors.Is(err, errFault) {
		t.Errorf("31 bytes: %v, %v, want %v", p, err, errFault)
	}
}

func TestSignMACRandom(t *testing.T) {
	ctx := context.Background()
	config := provisioned(t, ModeWrapped)
	tok := open(t, config())
	digest := sha256.Sum256([]byte("message"))
	for range 20 {
		sig, err := tok.Sign(ctx, digest)
		if err != nil {
			t.Fatal(err)
		}
		if !ecdsa.Verify(tok.Info().Signing, digest[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
			t.Fatal("signature does not verify")
		}
	}
	mac, err := tok.MAC(ctx, []byte("message"))
	if err != nil {
		t.Fatal(err)
	}
	if other, err := tok.MAC(ctx, []byte("messagf")); err != nil || other == mac {
		t.Errorf("MAC of another message: equal %v, %v", other == mac, err)
	}
	rec, _ := newKey(t, tok, anna)
	r, err := parseRecord(rec)
	if err != nil {
		t.Fatal(err)
	}
	// What MAC authenticates must not pass for a record.
	if forged, err := tok.MAC(ctx, frame(macRecord, anna, r.body())); err != nil || forged == r.mac {
		t.Errorf("MAC gives the MAC of a record, %v", err)
	}
	a, b := make([]byte, 1024), make([]byte, 1024)
	if err := errors.Join(tok.Random(ctx, a), tok.Random(ctx, b), tok.Random(ctx, nil)); err != nil || bytes.Equal(a, b) {
		t.Errorf("random: equal %v, %v", bytes.Equal(a, b), err)
	}
	if err := tok.Random(ctx, make([]byte, 1025)); err == nil {
		t.Error("1025 random bytes: no error")
	}
	signing := tok.Info().Signing
	if err := tok.Close(); err != nil {
		t.Fatal(err)
	}
	tok = open(t, config())
	if again, err := tok.MAC(ctx, []byte("message")); err != nil || again != mac || !tok.Info().Signing.Equal(signing) {
		t.Errorf("after opening again: MAC or signing key differ, %v", err)
	}
}

// TestProbe shows that a token made by Provision is fit in each mode, and
// that Check says the same.
func TestProbe(t *testing.T) {
	for _, mode := range modes {
		info, steps, err := Check(context.Background(), provisioned(t, mode)())
		if err != nil || len(steps) < 8 {
			t.Fatalf("%v: %d steps, %v", mode, len(steps), err)
		}
		for _, s := range steps {
			if s.Err != nil {
				t.Errorf("%v: %s: %v", mode, s.Name, s.Err)
			}
		}
		if info.Mode != mode || !info.Software || info.Signing == nil || info.KeyID == [16]byte{} {
			t.Errorf("%v: info %+v", mode, info)
		}
	}
}

func TestConfigRefused(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no module":      func(c *Config) { c.Module = "" },
		"no label":       func(c *Config) { c.TokenLabel = "" },
		"long label":     func(c *Config) { c.TokenLabel = strings.Repeat("x", 33) },
		"short PIN":      func(c *Config) { c.PIN = []byte("123") },
		"many sessions":  func(c *Config) { c.Sessions = 254 },
		"unknown mode":   func(c *Config) { c.Mode = 9 },
		"no such module": func(c *Config) { c.Module = "/nonexistent.so" },
	} {
		c := Config{Module: module, TokenLabel: "node", PIN: NewPIN(), Durable: t.TempDir(), RunDir: t.TempDir()}
		change(&c)
		if tok, err := Open(context.Background(), c); err == nil {
			t.Errorf("%s: opened %v", name, tok)
		}
		if err := Provision(context.Background(), c, nil); err == nil {
			t.Errorf("%s: provisioned", name)
		}
	}
	c := Config{Module: module, TokenLabel: "node", PIN: NewPIN(), Durable: t.TempDir(), RunDir: filepath.Join(t.TempDir(), "a=b")}
	if err := Provision(context.Background(), c, nil); err == nil || !strings.Contains(err.Error(), "a=b") {
		t.Errorf("a folder name that SoftHSM cannot read: %v", err)
	}
	odd := Config{Module: module, TokenLabel: "node", PIN: NewPIN(), Durable: filepath.Join(t.TempDir(), "a = b # c"), RunDir: filepath.Join(t.TempDir(), "with space")}
	if err := Provision(context.Background(), odd, nil); err != nil {
		t.Errorf("folder names with spaces: %v", err)
	}
	open(t, odd)
	done, cancel := context.WithCancel(context.Background())
	cancel()
	c.RunDir = t.TempDir()
	if err := Provision(done, c, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestReadPIN(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pin")
	long := strings.Repeat("x", maxPIN)
	for text, want := range map[string]string{
		"1234": "1234", "1234\n": "1234", "1234\r\n": "1234", " 12 34 ": " 12 34 ", long: long, long + "\n": long,
		"": "", "123": "", "12\n34": "", "1234\x00": "", "1234\n\n": "", long + "x": "", long + long: "",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := ReadPIN(path)
		if string(got) != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v, want %q", text, string(got), err, want)
		}
		if err != nil && text != "" && strings.Contains(err.Error(), strings.TrimSpace(text)) {
			t.Errorf("%q: the error shows the PIN", text)
		}
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPIN(path); err == nil || !strings.Contains(err.Error(), "open to others") {
		t.Errorf("readable by the group: %v", err)
	}
	if _, err := ReadPIN(path + ".absent"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
}

// TestHidden: the PIN is nowhere once the token is open.
func TestHidden(t *testing.T) {
	c := provisioned(t, ModeWrapped)()
	pin := string(c.PIN)
	tok := open(t, c)
	if c.PIN[0] != 0 || bytes.ContainsAny(c.PIN, pin) {
		t.Error("the PIN of the caller is not wiped")
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(verb, []any{tok, Config{PIN: PIN(pin)}}); strings.Contains(got, pin) || strings.Contains(got, fmt.Sprint([]byte(pin))) {
			t.Errorf("%s prints the PIN", verb)
		}
	}
}

// counted returns counters and gauges by name and labels.
func counted(tb testing.TB, reg *prometheus.Registry) map[string]float64 {
	tb.Helper()
	families, err := reg.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return got
}

func TestMetrics(t *testing.T) {
	c := provisioned(t, ModeWrapped)()
	reg := prometheus.NewRegistry()
	c.Metrics, c.Sessions = reg, 3
	tok := open(t, c)
	rec, _ := newKey(t, tok, anna)
	if _, err := tok.Evaluate(context.Background(), bob, rec, blinded); err == nil {
		t.Fatal("evaluated for another owner")
	}
	got := counted(t, reg)
	if got["operations_total evaluate record"] != 1 || got["operations_total new_key ok"] != 1 || got["up"] != 1 || got["sessions"] != 3 {
		t.Errorf("counted %v", got)
	}
}
