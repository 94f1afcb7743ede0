package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"
)

// sizes are those at which chunking could go wrong.
var sizes = []int{0, 1, 100, ChunkSize - 1, ChunkSize, ChunkSize + 1, 2*ChunkSize - 1, 2 * ChunkSize, 3*ChunkSize + 5, 10*ChunkSize + 17}

// noise makes n bytes that a seed tells.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	var s [32]byte
	s[0], s[1] = byte(seed), byte(seed>>8)
	rand.NewChaCha8(s).Read(b)
	return b
}

// memory is a Source over b that counts what is fetched.
type memory struct {
	b       []byte
	fetches int
	fetched int64
}

func (m *memory) source(_ context.Context, off, n int64) (io.ReadCloser, error) {
	m.fetches++
	m.fetched += n
	if off < 0 || n < 0 || off+n > int64(len(m.b)) {
		return nil, fmt.Errorf("range %d+%d of %d bytes", off, n, len(m.b))
	}
	return io.NopCloser(bytes.NewReader(m.b[off : off+n])), nil
}

func testKeys(t testing.TB) *Keys {
	t.Helper()
	return NewKey().Keys(NewStoreID())
}

// write seals plain with o, in writes of step bytes.
func write(t testing.TB, k *Keys, o Options, plain []byte, step int, r Record) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, k, o)
	if err != nil {
		t.Fatal(err)
	}
	for p := plain; len(p) > 0; p = p[min(step, len(p)):] {
		if _, err := w.Write(p[:min(step, len(p))]); err != nil {
			t.Fatal(err)
		}
	}
	w.SetRecord(r)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// readAll opens sealed with both readers, which must agree.
func readAll(t testing.TB, k *Keys, name string, sealed []byte) ([]byte, Record, error) {
	t.Helper()
	a, rec, errA := readStream(k, name, sealed)
	b, recB, errB := readObject(k, name, sealed)
	if (errA == nil) != (errB == nil) {
		t.Fatalf("the readers disagree: stream %v, object %v", errA, errB)
	}
	if errA == nil && (!bytes.Equal(a, b) || rec.ETag != recB.ETag || rec.Size != recB.Size) {
		t.Fatal("the readers disagree about the plaintext")
	}
	return a, rec, errA
}

func readStream(k *Keys, name string, sealed []byte) ([]byte, Record, error) {
	r, err := NewReader(bytes.NewReader(sealed), k, name)
	if err != nil {
		return nil, Record{}, err
	}
	b, err := io.ReadAll(r)
	return b, r.Record(), err
}

func readObject(k *Keys, name string, sealed []byte) ([]byte, Record, error) {
	m := &memory{b: sealed}
	o, err := OpenObject(context.Background(), m.source, int64(len(sealed)), k, name)
	if err != nil {
		return nil, Record{}, err
	}
	r, err := o.NewReader(context.Background(), 0, -1)
	if err != nil {
		return nil, Record{}, err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return b, o.Record(), err
}

// Every size and way of writing comes back, and has the size that is told before.
func TestRoundTrip(t *testing.T) {
	k := testKeys(t)
	rec := Record{ETag: "0123", Meta: map[string]string{"owner": "anna"}, Created: time.Unix(0, 1764040000123456789).UTC()}
	for _, suite := range []Suite{SuiteAES, SuiteChaCha} {
		for _, n := range sizes {
			for _, o := range []Options{{Suite: suite}, {Suite: suite, Name: "a/b"}, {Suite: suite, Footer: true}, {Suite: suite, Footer: true, Name: "x"}} {
				for _, step := range []int{1 << 20, 4096, ChunkSize, ChunkSize + 1} {
					plain := noise(uint64(n), n)
					sealed := write(t, k, o, plain, step, rec)
					footer := 0
					if o.Footer {
						r := rec
						r.Size = int64(n)
						var err error
						if footer, err = FooterSize(r); err != nil {
							t.Fatal(err)
						}
					}
					if want := SealedSize(int64(n)) + int64(footer); int64(len(sealed)) != want {
						t.Errorf("%d bytes: sealed %d, want %d", n, len(sealed), want)
					}
					if size, err := PlainSize(int64(len(sealed) - footer)); err != nil || size != int64(n) {
						t.Errorf("PlainSize: got %d, %v, want %d", size, err, n)
					}
					got, r, err := readAll(t, k, o.Name, sealed)
					if err != nil || !bytes.Equal(got, plain) || r.Size != int64(n) {
						t.Fatalf("%d bytes, %+v, steps of %d: %v", n, o, step, err)
					}
					if o.Footer && (r.ETag != rec.ETag || !r.Created.Equal(rec.Created) || r.Meta["owner"] != "anna") {
						t.Errorf("record: got %+v", r)
					}
				}
			}
		}
	}
}

// Small objects open under their own name only, and under their own key only.
func TestSealBindsName(t *testing.T) {
	k := testKeys(t)
	sealed := k.Seal("repo/snap/1", []byte("anna"))
	if got, err := k.Open("repo/snap/1", sealed); err != nil || string(got) != "anna" {
		t.Fatalf("got %q, %v", got, err)
	}
	for _, name := range []string{"", "repo/snap/2", "repo/snap/1/"} {
		if _, err := k.Open(name, sealed); !errors.Is(err, ErrCorrupt) {
			t.Errorf("as %q: got %v, want ErrCorrupt", name, err)
		}
	}
	if _, err := k.Open("x", k.Seal("", []byte("anna"))); !errors.Is(err, ErrCorrupt) {
		t.Errorf("an object bound to nothing opened under a name: %v", err)
	}
	if _, err := testKeys(t).Open("repo/snap/1", sealed); !errors.Is(err, ErrKey) {
		t.Errorf("with another key: got %v, want ErrKey", err)
	}
}
