package ppss

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/cloudflare/circl/oprf"
	"pgregory.net/rapid"
)

// cheap keeps tests quick; only the vectors stretch as the world does.
var cheap = Argon{Time: 1, Memory: 64, Threads: 1}

// fleet is n software nodes with one account registered.
type fleet struct {
	header, epoch []byte
	keys          [][32]byte
	dealt         *Dealt
}

func nodeID(i int) []byte { return fmt.Appendf(nil, "node-%d", i) }

// rhos plays the client and the nodes for one password.
func (f *fleet) rhos(tb testing.TB, password string) [][32]byte {
	tb.Helper()
	pwh, err := Stretch(password, bytes.Repeat([]byte{7}, 16), []byte("fleet"), []byte("anna"), cheap)
	if err != nil {
		tb.Fatal(err)
	}
	b, err := Blind(Input([]byte("fleet"), []byte("anna"), f.epoch, pwh))
	if err != nil {
		tb.Fatal(err)
	}
	var out [][32]byte
	for _, k := range f.keys {
		p, err := Evaluate(k, b.Element())
		if err != nil {
			tb.Fatal(err)
		}
		rho, err := b.Finalize(p)
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, rho)
	}
	return out
}

func register(tb testing.TB, n, t int, password string, key [32]byte) *fleet {
	tb.Helper()
	f := &fleet{header: []byte("header"), epoch: []byte("epoch")}
	for range n {
		k, _ := GenerateKey()
		f.keys = append(f.keys, k)
	}
	var nodes []Node
	for i, rho := range f.rhos(tb, password) {
		nodes = append(nodes, Node{ID: nodeID(i), Rho: rho})
	}
	var err error
	if f.dealt, err = Deal(f.header, f.epoch, key, t, nodes); err != nil {
		tb.Fatal(err)
	}
	return f
}

func (f *fleet) answers(rhos [][32]byte) []Answer {
	var as []Answer
	for i, rho := range rhos {
		as = append(as, Answer{Index: i, ID: nodeID(i), Masked: f.dealt.Masked[i], Rho: rho})
	}
	return as
}

// TestRecoverEndToEnd registers on each size of fleet and recovers through
// every subset of a threshold; a wrong password opens with none.
func TestRecoverEndToEnd(t *testing.T) {
	for _, n := range []int{1, 3, 5, 7} {
		th := n/2 + 1
		var key [32]byte
		rand.Read(key[:])
		f := register(t, n, th, "correct horse", key)
		right, wrong := f.answers(f.rhos(t, "correct horse")), f.answers(f.rhos(t, "correct house"))
		if _, err := Recover(f.header, f.epoch, f.dealt.Envelope, th, wrong); !errors.Is(err, ErrSecret) {
			t.Errorf("n=%d: wrong password: %v, want %v", n, err, ErrSecret)
		}
		tried := 0
		for set := range 1 << n {
			var some []Answer
			for i, a := range right {
				if set>>i&1 == 1 {
					some = append(some, a)
				}
			}
			r, err := Recover(f.header, f.epoch, f.dealt.Envelope, th, some)
			if len(some) < th {
				if !errors.Is(err, ErrSecret) {
					t.Fatalf("n=%d: %d answers: %v, want %v", n, len(some), err, ErrSecret)
				}
				continue
			}
			tried++
			if err != nil || r.Key != key || !r.Signing.Equal(f.dealt.Signing) || len(r.Lied) != 0 {
				t.Fatalf("n=%d, answers %b: %v", n, set, err)
			}
		}
		if tried == 0 {
			t.Fatalf("n=%d: nothing tried", n)
		}
		proof := ed25519.Sign(f.dealt.Signing, []byte("attempt"))
		if !ed25519.Verify(f.dealt.Signing.Public().(ed25519.PublicKey), []byte("attempt"), proof) {
			t.Error("proof does not verify")
		}
	}
}

// TestRecoverNamesLiars lets every set of nodes that leaves a threshold lie:
// recovery must succeed and name them, whatever the order of the answers.
func TestRecoverNamesLiars(t *testing.T) {
	const n, th = 5, 3
	key := [32]byte{1}
	f := register(t, n, th, "pw", key)
	rhos := f.rhos(t, "pw")
	for set := range 1 << n {
		as, want := f.answers(rhos), []int(nil)
		for i := range as {
			if set>>i&1 == 1 {
				as[i].Rho[set%32] ^= 1 << (set % 8)
				want = append(want, i)
			}
		}
		slices.Reverse(as)
		slices.Reverse(want)
		r, err := Recover(f.header, f.epoch, f.dealt.Envelope, th, as)
		if len(want) > n-th {
			if !errors.Is(err, ErrSecret) {
				t.Errorf("%d lies: %v, want %v", len(want), err, ErrSecret)
			}
			continue
		}
		if err != nil || r.Key != key || !slices.Equal(r.Lied, want) {
			t.Errorf("lies %b: %v, lied %v, want %v", set, err, r, want)
		}
	}
}

// TestRecoverRefuses covers misuse that must be an error, never a panic.
func TestRecoverRefuses(t *testing.T) {
	f := register(t, 3, 2, "pw", [32]byte{})
	as := f.answers(f.rhos(t, "pw"))
	twice := []Answer{as[0], as[0]}
	beyond := []Answer{{Index: MaxNodes}, as[0]}
	for name, tt := range map[string]struct {
		t  int
		as []Answer
	}{
		"threshold 0":     {0, as},
		"one node twice":  {2, twice},
		"place 7":         {2, beyond},
		"place -1":        {2, []Answer{{Index: -1}, as[0]}},
		"eight answers":   {2, append(slices.Repeat(as, 2), as[:2]...)},
		"no answers":      {1, nil},
		"threshold large": {9, as},
	} {
		if r, err := Recover(f.header, f.epoch, f.dealt.Envelope, tt.t, tt.as); err == nil {
			t.Errorf("%s: %v, want an error", name, r)
		}
	}
	if _, err := Recover(f.header, f.epoch, f.dealt.Envelope[1:], 2, as); !errors.Is(err, ErrEnvelope) {
		t.Errorf("cut envelope: %v, want %v", err, ErrEnvelope)
	}
	for name, shares := range map[string][]Share{
		"no share": nil, "place 0": {{X: 0}}, "one place twice": {{X: 1}, {X: 1}}, "eight shares": make([]Share, MaxNodes+1),
	} {
		if _, err := Combine(shares); err == nil {
			t.Errorf("combining %s: no error", name)
		}
	}
	for _, tt := range [][2]int{{0, 0}, {3, 0}, {3, 4}, {8, 4}, {-1, -1}} {
		if _, err := Split([32]byte{}, tt[0], tt[1]); err == nil {
			t.Errorf("%d of %d: no error", tt[1], tt[0])
		}
	}
}

// TestSplitCombine is the definition: any t shares give the secret, and any
// further share follows from them.
func TestSplitCombine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, MaxNodes).Draw(t, "n")
		th := rapid.IntRange(1, n).Draw(t, "t")
		secret := [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "secret"))
		shares, err := Split(secret, n, th)
		if err != nil {
			t.Fatal(err)
		}
		some := rapid.Permutation(shares).Draw(t, "order")[:th]
		got, err := Combine(some)
		if err != nil || got != secret {
			t.Fatalf("combined %x, %v, want %x", got, err, secret)
		}
		for _, s := range shares {
			if y, err := interpolate(some, s.X); err != nil || y != s.Y {
				t.Fatalf("share %d: %x, %v, want %x", s.X, y, err, s.Y)
			}
		}
	})
}

// TestSharesSayNothing fixes t-1 shares and shows that every secret remains
// possible: for each value of a byte there is a last share that gives it.
func TestSharesSayNothing(t *testing.T) {
	shares, err := Split([32]byte{42}, 3, 2)
	if err != nil {
		t.Fatal(err)
	}
	var seen [256]bool
	for y := range 256 {
		got, err := Combine([]Share{shares[0], {X: 2, Y: [32]byte{byte(y)}}})
		if err != nil {
			t.Fatal(err)
		}
		seen[got[0]] = true
	}
	for v, ok := range seen {
		if !ok {
			t.Errorf("the secret cannot begin with %d", v)
		}
	}
}

// TestField checks all products against long division and all inverses.
func TestField(t *testing.T) {
	for a := range 256 {
		for b := range 256 {
			p := 0
			for i := range 8 {
				if b>>i&1 == 1 {
					p ^= a << i
				}
			}
			for i := 14; i >= 8; i-- {
				if p>>i&1 == 1 {
					p ^= 0x11b << (i - 8)
				}
			}
			if got := gfMul(byte(a), byte(b)); got != byte(p) {
				t.Fatalf("%d*%d = %d, want %d", a, b, got, p)
			}
		}
		if inv := gfInv(byte(a)); a != 0 && gfMul(byte(a), inv) != 1 || a == 0 && inv != 0 {
			t.Fatalf("inverse of %d is %d", a, inv)
		}
	}
}

// TestEvaluateAgrees compares the software evaluation with circl's, which
// shares no arithmetic with it, and the whole OPRF with its full evaluation.
func TestEvaluateAgrees(t *testing.T) {
	for range 50 {
		key, public := GenerateKey()
		var sk oprf.PrivateKey
		if err := sk.UnmarshalBinary(oprf.SuiteP256, key[:]); err != nil {
			t.Fatal(err)
		}
		if want, err := sk.Public().MarshalBinary(); err != nil || !bytes.Equal(public[:], want) {
			t.Fatalf("public %x, want %x (%v)", public, want, err)
		}
		var input [40]byte
		rand.Read(input[:])
		b, err := Blind(input[:])
		if err != nil {
			t.Fatal(err)
		}
		p, err := Evaluate(key, b.Element())
		if err != nil {
			t.Fatal(err)
		}
		rho, err := b.Finalize(p)
		if err != nil {
			t.Fatal(err)
		}
		want, err := oprf.NewServer(oprf.SuiteP256, &sk).FullEvaluate(input[:])
		if err != nil || !bytes.Equal(rho[:], want) {
			t.Fatalf("rho %x, want %x (%v)", rho, want, err)
		}
	}
}

// TestBlindHides: two blindings of one input must not be recognised, give the
// same output, and be resumable by their scalar.
func TestBlindHides(t *testing.T) {
	key, _ := GenerateKey()
	in := []byte("input")
	b1, err := Blind(in)
	if err != nil {
		t.Fatal(err)
	}
	b2, err := Blind(in)
	if err != nil {
		t.Fatal(err)
	}
	in[0] ^= 1 // the caller's bytes are the caller's
	b3, err := Resume([]byte("input"), b2.Scalar())
	if err != nil {
		t.Fatal(err)
	}
	if b1.Element() == b2.Element() || b2.Element() != b3.Element() {
		t.Error("blinding is not random, or not resumable")
	}
	var rhos [3][32]byte
	for i, b := range []*Blinded{b1, b2, b3} {
		p, err := Evaluate(key, b.Element())
		if err != nil {
			t.Fatal(err)
		}
		if rhos[i], err = b.Finalize(p); err != nil {
			t.Fatal(err)
		}
	}
	if rhos[0] != rhos[1] || rhos[1] != rhos[2] {
		t.Error("output depends on the blind")
	}
}

func TestScalarRange(t *testing.T) {
	var n, above, below [32]byte
	copy(n[:], order)
	new(big.Int).Add(new(big.Int).SetBytes(order), big.NewInt(1)).FillBytes(above[:])
	new(big.Int).Sub(new(big.Int).SetBytes(order), big.NewInt(1)).FillBytes(below[:])
	g := [33]byte(vectors(t, "point")[0].bytes(t, "point"))
	for _, k := range [][32]byte{{}, n, above, [32]byte(bytes.Repeat([]byte{255}, 32))} {
		if _, err := Evaluate(k, g); !errors.Is(err, ErrScalar) {
			t.Errorf("Evaluate with %x: %v", k, err)
		}
		if _, err := PublicKey(k); !errors.Is(err, ErrScalar) {
			t.Errorf("PublicKey of %x: %v", k, err)
		}
		if _, err := Resume([]byte("x"), k); !errors.Is(err, ErrScalar) {
			t.Errorf("Resume with %x: %v", k, err)
		}
	}
	p, err := Evaluate(below, g)
	if want := [33]byte(vectors(t, "point")[1].bytes(t, "point")); err != nil || p != want {
		t.Errorf("(order-1)·G is %x, %v, want %x", p, err, want)
	}
}

func TestBlindLongInput(t *testing.T) {
	if _, err := Blind(make([]byte, maxInput)); err != nil {
		t.Errorf("%d bytes: %v", maxInput, err)
	}
	// RFC 9497 would write the length of a longer one modulo 65,536.
	if _, err := Blind(make([]byte, maxInput+1)); err == nil {
		t.Errorf("%d bytes: no error", maxInput+1)
	}
}

func TestNormalize(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"correct horse", "correct horse"},
		{"Correct  Horse ", "Correct  Horse "}, // case and spaces count
		{"１２３４", "1234"},
		{"a\u00a0b\u3000c\u1680d", "a b c d"},
		{"e\u0301", "\u00e9"},
		{"\ufb01n", "fin"},
		{"пароль", "пароль"},
		{"🔑 and 🐎", "🔑 and 🐎"},
	} {
		if got, err := Normalize(tt.in); err != nil || got != tt.want {
			t.Errorf("%q: %q, %v, want %q", tt.in, got, err, tt.want)
		}
	}
	for _, in := range []string{"", "a\tb", "a\nb", "a\x00b", "\x7f", "\U000e0080x", "\ufffe", "a\u202eb", strings.Repeat("x", maxPassword+1), "bad\xffutf8"} {
		got, err := Normalize(in)
		if !errors.Is(err, ErrPassword) {
			t.Errorf("%q: %q, %v, want %v", in, got, err, ErrPassword)
		}
		if err != nil && len(in) > 3 && strings.Contains(err.Error(), in) {
			t.Errorf("%q: the error shows the password", in)
		}
	}
}

// TestStretchBinds: another salt, fleet, account or cost is another hash, also
// where the bytes joined would be the same.
func TestStretchBinds(t *testing.T) {
	salt := bytes.Repeat([]byte{1}, 16)
	base := func() ([32]byte, error) { return Stretch("pw", salt, []byte("ab"), []byte("c"), cheap) }
	want, err := base()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[[32]byte]string{want: "base"}
	for name, f := range map[string]func() ([32]byte, error){
		"password": func() ([32]byte, error) { return Stretch("pW", salt, []byte("ab"), []byte("c"), cheap) },
		"salt":     func() ([32]byte, error) { return Stretch("pw", make([]byte, 16), []byte("ab"), []byte("c"), cheap) },
		"border":   func() ([32]byte, error) { return Stretch("pw", salt, []byte("a"), []byte("bc"), cheap) },
		"time":     func() ([32]byte, error) { return Stretch("pw", salt, []byte("ab"), []byte("c"), Argon{2, 64, 1}) },
	} {
		got, err := f()
		if err != nil || seen[got] != "" {
			t.Errorf("%s: %v, equal to %q", name, err, seen[got])
		}
		seen[got] = name
	}
	for _, a := range []Argon{{}, {0, 64, 1}, {1, 63, 1}, {1, 64, 0}, {65, 64, 1}, {1, 2<<20 + 1, 1}, {1, 64, 17}} {
		if _, err := Stretch("pw", salt, nil, nil, a); err == nil {
			t.Errorf("%+v: no error", a)
		}
	}
	for _, n := range []int{0, 15, 65} {
		if _, err := Stretch("pw", make([]byte, n), nil, nil, cheap); err == nil {
			t.Errorf("salt of %d bytes: no error", n)
		}
	}
	if err := DefaultArgon.Check(); err != nil {
		t.Error(err)
	}
}

// TestHidden: a secret in a log is a secret lost.
func TestHidden(t *testing.T) {
	f := register(t, 1, 1, "pw", [32]byte{1, 2, 3})
	b, err := Blind([]byte("a very secret input"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := Recover(f.header, f.epoch, f.dealt.Envelope, 1, f.answers(f.rhos(t, "pw")))
	if err != nil {
		t.Fatal(err)
	}
	outer := struct{ B, D, R any }{b, f.dealt, r}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		if got := fmt.Sprintf(verb, outer); strings.Count(got, "(hidden)") != 3 || strings.Contains(got, hex.EncodeToString([]byte("secret"))) {
			t.Errorf("%s prints %s", verb, got)
		}
	}
}

// TestAccumulated runs 2,000 derivations, sharings and envelopes from a
// stream of known bytes and compares one hash with what it was when the format
// was fixed.
func TestAccumulated(t *testing.T) {
	const want = "0658269d51fa014db2d91025992f372e527407ec303c0df998332694e5acaff0"
	in := &counterStream{}
	sum := sha256.New()
	for range 2000 {
		secret, key, rho := in.b32(), in.b32(), in.b32()
		header := make([]byte, in.b32()[0])
		coeffs := [][32]byte{secret, in.b32(), in.b32()}
		for x := range byte(5) {
			s, m := evalPoly(coeffs, x+1), Mask(rho, []byte{x}, header)
			e := XOR(s.Y, m)
			sum.Write(e[:])
		}
		nonce := in.b32()
		sum.Write(sealEnvelope(secret, key, header, [12]byte(nonce[:])))
		sum.Write(SigningKey(secret, header).Public().(ed25519.PublicKey))
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != want {
		t.Errorf("accumulated hash %s, want %s", got, want)
	}
}

// counterStream is SHA-256 in counter mode.
type counterStream struct{ n uint64 }

func (c *counterStream) b32() [32]byte {
	c.n++
	return sha256.Sum256(fmt.Appendf(nil, "coffer ppss stream %d", c.n))
}

func FuzzOpenEnvelope(f *testing.F) {
	for _, v := range vectors(f, "envelope") {
		s := v.b32(f, "secret")
		f.Add(s[:], v.bytes(f, "header"), v.bytes(f, "envelope"))
	}
	f.Fuzz(func(t *testing.T, s, header, env []byte) {
		if len(s) != 32 {
			return
		}
		key, err := OpenEnvelope([32]byte(s), header, env)
		if err != nil {
			if !errors.Is(err, ErrSecret) && !errors.Is(err, ErrEnvelope) {
				t.Errorf("error of no kind: %v", err)
			}
			return
		}
		if again := sealEnvelope([32]byte(s), key, header, [12]byte(env[nonceAt:])); !bytes.Equal(again, env) {
			t.Errorf("%x opens, and seals to %x", env, again)
		}
	})
}

func FuzzPoint(f *testing.F) {
	for _, v := range vectors(f, "point") {
		f.Add(v.bytes(f, "point"))
	}
	b, err := Blind([]byte("x"))
	if err != nil {
		f.Fatal(err)
	}
	key := [32]byte{31: 1}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) != 33 {
			return
		}
		p := [33]byte(raw)
		q, err := Evaluate(key, p)
		if err == nil && q != p {
			t.Errorf("1·%x is %x", p, q)
		}
		if _, e := b.Finalize(p); (e == nil) != (err == nil) || err != nil && !errors.Is(e, ErrPoint) {
			t.Errorf("%x: Evaluate says %v, Finalize %v", p, err, e)
		}
	})
}

func FuzzNormalize(f *testing.F) {
	for _, v := range vectors(f, "stretch") {
		f.Add(string(v.bytes(f, "password")))
	}
	f.Fuzz(func(t *testing.T, in string) {
		p, err := Normalize(in)
		if err != nil {
			if !errors.Is(err, ErrPassword) {
				t.Errorf("error of no kind: %v", err)
			}
			return
		}
		if len(p) <= maxPassword {
			if again, err := Normalize(p); err != nil || again != p {
				t.Errorf("%q becomes %q, and that %q, %v", in, p, again, err)
			}
		}
	})
}

func BenchmarkClient(b *testing.B) {
	f := register(b, 5, 3, "pw", [32]byte{})
	for b.Loop() {
		if _, err := Recover(f.header, f.epoch, f.dealt.Envelope, 3, f.answers(f.rhos(b, "pw"))[:3]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStretch(b *testing.B) {
	for b.Loop() {
		if _, err := Stretch("pw", make([]byte, 16), nil, nil, DefaultArgon); err != nil {
			b.Fatal(err)
		}
	}
}
