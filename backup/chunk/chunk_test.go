package chunk

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/zeebo/blake3"
)

func random(seed string, n int) []byte {
	b := make([]byte, n)
	io.ReadFull(rand.NewChaCha8(sha256.Sum256([]byte(seed))), b)
	return b
}

func newCutter(tb testing.TB, p Params, secret string) *Cutter {
	c, err := NewCutter(p, sha256.Sum256([]byte(secret)))
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func cutAll(c *Cutter, data []byte) (lengths []int) {
	for len(data) > 0 {
		n := c.Cut(data)
		lengths = append(lengths, n)
		data = data[n:]
	}
	return lengths
}

var small = Params{Min: 256, Normal: 1024, Max: 4096, Candidate: 4, Short: 8, Long: 4}

// slowCut is the definition of FORMAT.md, byte by byte.
func slowCut(p Params, secret [32]byte, data []byte) int {
	c, _ := NewCutter(p, secret)
	for i := p.Min; i < min(len(data), p.Max); i++ {
		var h uint64
		for _, b := range data[i-window+1 : i+1] {
			h = h<<1 + c.table[b]
		}
		// The hash of the first window after Min lacks nothing: it is 64 bits wide.
		if h>>(64-p.Candidate) != 0 {
			continue
		}
		var in, out [16]byte
		binary.LittleEndian.PutUint64(in[:], h)
		c.block.Encrypt(out[:], in[:])
		bits := p.Long
		if i < p.Normal {
			bits = p.Short
		}
		if binary.LittleEndian.Uint64(out[:])&(1<<bits-1) == 0 {
			return i + 1
		}
	}
	return min(len(data), p.Max)
}

// The unrolled loop must agree with the definition at every border.
func TestCutIsTheDefinition(t *testing.T) {
	data := random("definition", 200_000)
	secret := sha256.Sum256([]byte("s"))
	c := newCutter(t, small, "s")
	for len(data) > 0 {
		got, want := c.Cut(data), slowCut(small, secret, data)
		if got != want {
			t.Fatalf("%d bytes left: cut at %d, want %d", len(data), got, want)
		}
		data = data[got:]
	}
}

// An insertion must move few borders, else nothing would be found again.
func TestCutSurvivesInsertion(t *testing.T) {
	data := random("insertion", 1<<20)
	c := newCutter(t, small, "s")
	before := cutAll(c, data)
	after := cutAll(c, slices.Insert(slices.Clone(data), len(data)/2, 'x'))
	same := 0
	for i := 1; i <= min(len(before), len(after)) && before[len(before)-i] == after[len(after)-i]; i++ {
		same++
	}
	for i := 0; i < min(len(before), len(after)) && before[i] == after[i]; i++ {
		same++
	}
	if same < len(before)-8 {
		t.Errorf("%d of %d chunks are the same after one byte was inserted", same, len(before))
	}
}

// Other secrets give other borders: lengths say nothing about known files.
func TestCutDependsOnSecret(t *testing.T) {
	data := random("secret", 1<<20)
	borders := func(secret string) map[int]bool {
		m, at := map[int]bool{}, 0
		for _, n := range cutAll(newCutter(t, small, secret), data) {
			at += n
			m[at] = true
		}
		return m
	}
	a, b, both := borders("a"), borders("b"), 0
	for at := range a {
		if b[at] {
			both++
		}
	}
	// About one in the mean length would meet by chance.
	if both > len(a)/50 {
		t.Errorf("%d of %d borders are the same under another secret", both, len(a))
	}
}

func TestCutLengths(t *testing.T) {
	data := random("lengths", 64<<20)
	lengths := cutAll(newCutter(t, DefaultParams, "s"), data)
	for i, n := range lengths {
		if n > DefaultParams.Max || n <= DefaultParams.Min && i < len(lengths)-1 {
			t.Errorf("chunk %d has %d bytes", i, n)
		}
	}
	if mean := len(data) / len(lengths); mean < 800<<10 || mean > 1600<<10 {
		t.Errorf("mean length %d, want about 1.2 MiB", mean)
	}
	if n := len(cutAll(newCutter(t, DefaultParams, "s"), make([]byte, 16<<20))); n < 4 {
		t.Errorf("16 MiB of zeros are %d chunks, want at least 4", n)
	}
}

// The vector file is a head, an empty line and the expected values: borders and
// ids for fixed data. A change of any of them makes old repositories unreadable.
func TestVectors(t *testing.T) {
	raw, err := os.ReadFile("testdata/vectors/cut")
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	got.WriteString("comment: lengths and ids of the chunks of BLAKE3 output, see vector() in chunk_test.go\n\n")
	vector(t, &got)
	if string(raw) != got.String() {
		t.Errorf("testdata/vectors/cut:\n%swant\n%s", got.String(), raw)
	}
}

// vector cuts 100,000 bytes of BLAKE3("coffer vector")'s output stream under
// the secret SHA-256("coffer secret").
func vector(tb testing.TB, w io.Writer) {
	h := blake3.New()
	h.WriteString("coffer vector")
	data := make([]byte, 100_000)
	h.Digest().Read(data)
	c := newCutter(tb, small, "coffer secret")
	hash := NewHasher(sha256.Sum256([]byte("coffer secret")))
	for len(data) > 0 {
		n := c.Cut(data)
		id := hash.Sum(data[:n])
		io.WriteString(w, hex.EncodeToString(binary.BigEndian.AppendUint32(nil, uint32(n)))+" "+id.String()+"\n")
		data = data[n:]
	}
}

func TestFlat(t *testing.T) {
	text := bytes.Repeat([]byte("the quick brown fox jumps over the lazy dog\n"), 2000)
	for _, tt := range []struct {
		name string
		data []byte
		want bool
	}{
		{"random", random("flat", 1<<20), true},
		{"random, one block", random("flat", 300), true},
		{"text", text, false},
		{"zeros", make([]byte, 1<<20), false},
		{"short", random("flat", 100), false},
		{"text that ends random", append(text[:len(text):len(text)], random("flat", len(text)/4)...), false},
	} {
		if got := Flat(tt.data); got != tt.want {
			t.Errorf("%s: flat is %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestParamsCheck(t *testing.T) {
	for _, p := range []Params{{}, {Min: 63, Normal: 100, Max: 200, Candidate: 4}, {Min: 64, Normal: 64, Max: MaxLen + 1, Candidate: 4}} {
		if _, err := NewCutter(p, [32]byte{}); err == nil {
			t.Errorf("%+v: no error", p)
		}
	}
}

func BenchmarkCut(b *testing.B) {
	data := random("bench", 64<<20)
	for _, bits := range []int{6, 8, 10} {
		p := DefaultParams
		p.Candidate, p.Short, p.Long = bits, 22-bits, 18-bits
		c := newCutter(b, p, "s")
		b.Run(string(rune('0'+bits/10))+string(rune('0'+bits%10)), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				for d := data; len(d) > 0; {
					d = d[c.Cut(d):]
				}
			}
		})
	}
}
