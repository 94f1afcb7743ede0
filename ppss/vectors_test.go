package ppss

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
)

// vector is one block of a file in testdata/vectors: lines "name: value".
type vector map[string]string

func vectors(tb testing.TB, name string) []vector {
	tb.Helper()
	text, err := os.ReadFile("testdata/vectors/" + name + ".txt")
	if err != nil {
		tb.Fatal(err)
	}
	var all []vector
	for block := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n\n") {
		v := make(vector)
		for line := range strings.SplitSeq(block, "\n") {
			k, val, ok := strings.Cut(line, ":")
			if !ok {
				tb.Fatalf("%s: line %q", name, line)
			}
			v[k] = strings.TrimSpace(val)
		}
		all = append(all, v)
	}
	if len(all) < 2 {
		tb.Fatalf("%s: %d vectors", name, len(all))
	}
	return all
}

func (v vector) bytes(tb testing.TB, name string) []byte {
	tb.Helper()
	s, ok := v[name]
	if !ok {
		tb.Fatalf("vector has no %s: %v", name, v)
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	return b
}

func (v vector) b32(tb testing.TB, name string) [32]byte {
	tb.Helper()
	return [32]byte(v.bytes(tb, name))
}

func (v vector) num(tb testing.TB, name string) int {
	tb.Helper()
	n, err := strconv.Atoi(v[name])
	if err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	return n
}

// expected maps the word of a vector to the error it stands for.
func (v vector) expected(tb testing.TB) error {
	tb.Helper()
	want, ok := map[string]error{"ok": nil, "point": ErrPoint, "secret": ErrSecret, "envelope": ErrEnvelope}[v["expect"]]
	if !ok {
		tb.Fatalf("expect: %q", v["expect"])
	}
	return want
}

func TestVectorsOPRF(t *testing.T) {
	for _, v := range vectors(t, "oprf") {
		b, err := Resume(v.bytes(t, "input"), v.b32(t, "blind"))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := b.Element(), [33]byte(v.bytes(t, "blinded")); got != want {
			t.Errorf("blinded %x, want %x", got, want)
		}
		if got, want := b.Scalar(), v.b32(t, "blind"); got != want {
			t.Errorf("scalar %x, want %x", got, want)
		}
		p, err := Evaluate(v.b32(t, "key"), b.Element())
		if err != nil {
			t.Fatal(err)
		}
		if want := [33]byte(v.bytes(t, "evaluated")); p != want {
			t.Errorf("evaluated %x, want %x", p, want)
		}
		rho, err := b.Finalize(p)
		if want := v.b32(t, "output"); err != nil || rho != want {
			t.Errorf("output %x, %v, want %x", rho, err, want)
		}
	}
}

func TestVectorsPoint(t *testing.T) {
	b, err := Blind([]byte("input"))
	if err != nil {
		t.Fatal(err)
	}
	key, _ := GenerateKey()
	for _, v := range vectors(t, "point") {
		p, want := [33]byte(v.bytes(t, "point")), v.expected(t)
		if err := CheckPoint(p); !errors.Is(err, want) {
			t.Errorf("%s: CheckPoint: %v, want %v", v["comment"], err, want)
		}
		if _, err := Evaluate(key, p); !errors.Is(err, want) {
			t.Errorf("%s: Evaluate: %v, want %v", v["comment"], err, want)
		}
		if _, err := b.Finalize(p); !errors.Is(err, want) {
			t.Errorf("%s: Finalize: %v, want %v", v["comment"], err, want)
		}
	}
}

func TestVectorsInput(t *testing.T) {
	for _, v := range vectors(t, "input") {
		got := Input(v.bytes(t, "fleet"), v.bytes(t, "account"), v.bytes(t, "epoch"), v.b32(t, "pwh"))
		if want := v.bytes(t, "input"); !bytes.Equal(got, want) {
			t.Errorf("input %x, want %x", got, want)
		}
	}
}

func TestVectorsMask(t *testing.T) {
	for _, v := range vectors(t, "mask") {
		got := Mask(v.b32(t, "rho"), v.bytes(t, "node"), v.bytes(t, "epoch"))
		if want := v.b32(t, "mask"); got != want {
			t.Errorf("mask %x, want %x", got, want)
		}
	}
}

func TestVectorsShamir(t *testing.T) {
	for _, v := range vectors(t, "shamir") {
		var coeffs [][32]byte
		for b := v.bytes(t, "coefficients"); len(b) > 0; b = b[32:] {
			coeffs = append(coeffs, [32]byte(b))
		}
		var got []byte
		for x := range v.num(t, "n") {
			s := evalPoly(coeffs, byte(x+1))
			got = append(got, s.Y[:]...)
		}
		if want := v.bytes(t, "shares"); !bytes.Equal(got, want) {
			t.Errorf("%s of %s: shares %x, want %x", v["t"], v["n"], got, want)
		}
	}
}

func TestVectorsEnvelope(t *testing.T) {
	for _, v := range vectors(t, "envelope") {
		secret, header, env := v.b32(t, "secret"), v.bytes(t, "header"), v.bytes(t, "envelope")
		want := v.expected(t)
		key, err := OpenEnvelope(secret, header, env)
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", v["comment"], err, want)
		}
		if want != nil {
			if key != [32]byte{} {
				t.Errorf("%s: a key beside an error", v["comment"])
			}
			continue
		}
		if key != v.b32(t, "key") {
			t.Errorf("key %x, want %s", key, v["key"])
		}
		if got := sealEnvelope(secret, key, header, [12]byte(v.bytes(t, "nonce"))); !bytes.Equal(got, env) {
			t.Errorf("envelope %x, want %x", got, env)
		}
	}
}

func TestVectorsSign(t *testing.T) {
	for _, v := range vectors(t, "sign") {
		pub := SigningKey(v.b32(t, "secret"), v.bytes(t, "header")).Public().(ed25519.PublicKey)
		if want := v.bytes(t, "public"); !bytes.Equal(pub, want) {
			t.Errorf("public %x, want %x", pub, want)
		}
	}
}

func TestVectorsStretch(t *testing.T) {
	for _, v := range vectors(t, "stretch") {
		a := Argon{Time: uint32(v.num(t, "time")), Memory: uint32(v.num(t, "memory")), Threads: uint8(v.num(t, "threads"))}
		got, err := Stretch(string(v.bytes(t, "password")), v.bytes(t, "salt"), v.bytes(t, "fleet"), v.bytes(t, "account"), a)
		if want := v.b32(t, "pwh"); err != nil || got != want {
			t.Errorf("pwh %x, %v, want %x", got, err, want)
		}
	}
}

func TestVectorsRecover(t *testing.T) {
	for _, v := range vectors(t, "recover") {
		var answers []Answer
		for i := range MaxNodes {
			name := "answer " + strconv.Itoa(i)
			if v[name] == "" {
				continue
			}
			node, rest, _ := bytes.Cut(v.bytes(t, name), []byte{0})
			answers = append(answers, Answer{Index: i, ID: node, Masked: [32]byte(rest), Rho: [32]byte(rest[32:])})
		}
		r, err := Recover(v.bytes(t, "header"), v.bytes(t, "epoch"), v.bytes(t, "envelope"), v.num(t, "t"), answers)
		if want := v.expected(t); !errors.Is(err, want) {
			t.Errorf("%d answers: %v, want %v", len(answers), err, want)
		}
		if err != nil {
			continue
		}
		if r.Key != v.b32(t, "key") || !bytes.Equal(r.Signing.Public().(ed25519.PublicKey), v.bytes(t, "public")) {
			t.Errorf("key %x, want %s", r.Key, v["key"])
		}
		var lied []string
		for _, i := range r.Lied {
			lied = append(lied, strconv.Itoa(i))
		}
		if got := strings.Join(lied, " "); got != v["lied"] {
			t.Errorf("lied %q, want %q", got, v["lied"])
		}
	}
}
