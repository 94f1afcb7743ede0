package seal

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
)

// multipart seals parts of the sizes told, last one first, all but the first
// twice, and returns the object and its plaintext.
func multipart(t testing.TB, k *Keys, sizes []int) (sealed, plain []byte) {
	t.Helper()
	key, err := NewObjectKey(k, Options{Multipart: true})
	if err != nil {
		t.Fatal(err)
	}
	// An upload outlives the process: the key comes back from its header.
	if key, err = OpenObjectKey(k, key.Header(), ""); err != nil {
		t.Fatal(err)
	}
	parts, bodies := make([]Part, len(sizes)), make([][]byte, len(sizes))
	for i := len(sizes) - 1; i >= 0; i-- {
		for range min(i+1, 2) {
			var b bytes.Buffer
			w, err := key.NewPartWriter(&b, 10*i+1)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(noise(uint64(i), sizes[i])); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if parts[i].Salt == w.Part().Salt {
				t.Fatal("a part sealed again has the same salt")
			}
			parts[i], bodies[i] = w.Part(), b.Bytes()
			if int64(b.Len()) != parts[i].Sealed() {
				t.Fatalf("part of %d bytes, told %d", b.Len(), parts[i].Sealed())
			}
		}
		plain = append(noise(uint64(i), sizes[i]), plain...)
	}
	footer, err := key.Footer(parts, Record{ETag: "x"})
	if err != nil {
		t.Fatal(err)
	}
	return append(bytes.Join(bodies, nil), footer...), plain
}

// Ranges of objects of one and of many parts are what they are in the plaintext,
// and cost their own chunks only.
func TestRanges(t *testing.T) {
	k := testKeys(t)
	type object struct{ sealed, plain []byte }
	var objects []object
	for _, n := range sizes {
		plain := noise(uint64(n), n)
		objects = append(objects, object{write(t, k, Options{}, plain, 1<<20, Record{}), plain}, object{write(t, k, Options{Footer: true}, plain, 1<<20, Record{}), plain})
	}
	for _, sizes := range [][]int{{0}, {5}, {0, 0, 0}, {ChunkSize, 1, 0, 2*ChunkSize + 1, 0}, {100, 200, 300}, {3 * ChunkSize, 3 * ChunkSize}} {
		sealed, plain := multipart(t, k, sizes)
		objects = append(objects, object{sealed, plain})
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, o := range objects {
		m := &memory{b: o.sealed}
		obj, err := OpenObject(t.Context(), m.source, int64(len(o.sealed)), k, "")
		if err != nil {
			t.Fatal(err)
		}
		size := int64(len(o.plain))
		if obj.Size() != size {
			t.Fatalf("size %d, want %d", obj.Size(), size)
		}
		known, err := obj.Key().Object(m.source, obj.Parts(), obj.Record())
		if err != nil {
			t.Fatal(err)
		}
		for range 60 {
			off := rnd.Int64N(size + 1)
			n := rnd.Int64N(size - off + 2)
			if rnd.IntN(4) == 0 {
				off = min(off/ChunkSize*ChunkSize, size)
			}
			m.fetches, m.fetched = 0, 0
			r, err := known.NewReader(t.Context(), off, n)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if want := o.plain[off:min(off+n, size)]; err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%d+%d of %d: got %d bytes, %v", off, n, size, len(got), err)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			most := n + 2*chunkSealed + n/ChunkSize*tagSize + int64(len(obj.Parts()))*(headerSize+tagSize)
			if m.fetches > 1 || m.fetched > most {
				t.Errorf("%d+%d: %d requests, %d bytes", off, n, m.fetches, m.fetched)
			}
		}
		if _, err := obj.NewReader(t.Context(), size+1, 1); err == nil {
			t.Error("a range beyond the end was opened")
		}
	}
}

// Opening costs one request for small objects, two without and three with a footer.
func TestOpenRequests(t *testing.T) {
	k := testKeys(t)
	for _, c := range []struct {
		o       Options
		size    int
		fetches int
	}{{Options{}, 1000, 1}, {Options{Footer: true}, 1000, 1}, {Options{}, 1 << 20, 1}, {Options{Footer: true}, 1 << 20, 2}} {
		m := &memory{b: write(t, k, c.o, noise(1, c.size), 1<<20, Record{})}
		o, err := OpenObject(t.Context(), m.source, int64(len(m.b)), k, "")
		if err != nil || m.fetches != c.fetches {
			t.Errorf("%+v: %d requests, %v", c, m.fetches, err)
		}
		var b bytes.Buffer
		r, err := o.NewReader(t.Context(), 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(&b, r); err != nil || n != int64(c.size) || !bytes.Equal(b.Bytes(), noise(1, c.size)) {
			t.Errorf("%+v: copied %d, %v", c, n, err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("a closed reader answered %v", err)
		}
	}
}

// A table of parts beyond the first suffix that is fetched is found all the same,
// and the largest there can be fits.
func TestManyParts(t *testing.T) {
	k := testKeys(t)
	key, err := NewObjectKey(k, Options{Multipart: true})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	var parts []Part
	for n := 1; n <= MaxParts; n++ {
		w, err := key.NewPartWriter(&b, n)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte{byte(n)}); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		p := w.Part()
		p.MD5, p.Checksum = make([]byte, 16), make([]byte, 64)
		parts = append(parts, p)
	}
	footer, err := key.Footer(parts, Record{})
	if err != nil {
		t.Fatal(err)
	}
	m := &memory{b: append(b.Bytes(), footer...)}
	o, err := OpenObject(t.Context(), m.source, int64(len(m.b)), k, "")
	if err != nil || m.fetches != 3 {
		t.Fatalf("%d requests, %v", m.fetches, err)
	}
	r, err := o.NewReader(t.Context(), 4998, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, []byte{0x87, 0x88, 0x89}) {
		t.Errorf("got %x, %v", got, err)
	}
	for _, n := range []int{0, -1, MaxParts + 1} {
		if _, err := key.NewPartWriter(io.Discard, n); err == nil {
			t.Errorf("part number %d was taken", n)
		}
	}
	parts[3], parts[4] = parts[4], parts[3]
	if _, err := key.Footer(parts, Record{}); err == nil {
		t.Error("a footer over parts out of order was sealed")
	}
	if _, err := key.Footer(nil, Record{}); err == nil {
		t.Error("a footer over no parts was sealed")
	}
}

// Parts are sealed at the same time from one key.
func TestPartsInParallel(t *testing.T) {
	key, err := NewObjectKey(testKeys(t), Options{Multipart: true})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	salts := make([][32]byte, 16)
	for i := range salts {
		wg.Go(func() {
			w, err := key.NewPartWriter(io.Discard, i+1)
			if err == nil {
				_, err = w.Write(make([]byte, 200000))
			}
			if err == nil {
				err = w.Close()
			}
			if err != nil {
				t.Error(err)
				return
			}
			salts[i] = w.Part().Salt
		})
	}
	wg.Wait()
	seen := make(map[[32]byte]bool)
	for _, s := range salts {
		seen[s] = true
	}
	if len(seen) != len(salts) {
		t.Error("two parts share a salt")
	}
}

// A source that lies about the size, ends early or fails is an error.
func TestSourceFails(t *testing.T) {
	k := testKeys(t)
	m := &memory{b: write(t, k, Options{}, noise(2, 5*ChunkSize), 1<<20, Record{})}
	short := func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
		return io.NopCloser(io.LimitReader(bytes.NewReader(m.b[off:]), n/2)), nil
	}
	o, err := OpenObject(t.Context(), m.source, int64(len(m.b)), k, "")
	if err != nil {
		t.Fatal(err)
	}
	cut, err := o.Key().Object(short, o.Parts(), o.Record())
	if err != nil {
		t.Fatal(err)
	}
	r, err := cut.NewReader(t.Context(), 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a source that ends early: got %v", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenObject(t.Context(), short, int64(len(m.b)), k, ""); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("header cut: got %v", err)
	}
	gone := errors.New("gone")
	fails := func(context.Context, int64, int64) (io.ReadCloser, error) { return nil, gone }
	if _, err := OpenObject(t.Context(), fails, int64(len(m.b)), k, ""); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
}

// After a change of the backup key an object opens through the rewrapped header
// in its envelope, and a header of another object does not open it.
func TestRewrap(t *testing.T) {
	old, renewed := testKeys(t), testKeys(t)
	plain := noise(9, 3*ChunkSize)
	m := &memory{b: write(t, old, Options{Footer: true}, plain, 1<<20, Record{})}
	o, err := OpenObject(t.Context(), m.source, int64(len(m.b)), old, "")
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := o.Key().Rewrap(renewed, "")
	if err != nil {
		t.Fatal(err)
	}
	key, err := OpenObjectKey(renewed, wrapped.Header(), "")
	if err != nil || key.ID() != o.Key().ID() {
		t.Fatalf("rewrapped header: %v", err)
	}
	if _, err := OpenObjectKey(old, wrapped.Header(), ""); !errors.Is(err, ErrKey) {
		t.Errorf("the old key opens the new header: %v", err)
	}
	again, err := key.OpenObject(t.Context(), m.source, int64(len(m.b)))
	if err != nil {
		t.Fatal(err)
	}
	r, err := again.NewReader(t.Context(), 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	other, err := NewObjectKey(renewed, Options{Footer: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.OpenObject(t.Context(), m.source, int64(len(m.b))); !errors.Is(err, ErrCorrupt) {
		t.Errorf("another object's key opened it: %v", err)
	}
	if _, err := o.Key().Rewrap(renewed, "name"); err == nil {
		t.Error("an object without a name was rewrapped to one")
	}
}

// What must not happen to a wrong kind of object.
func TestWrongKind(t *testing.T) {
	k := testKeys(t)
	many, err := NewObjectKey(k, Options{Multipart: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := many.NewWriter(io.Discard); err == nil {
		t.Error("a multipart object was sealed as one stream")
	}
	one, err := NewObjectKey(k, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := one.NewPartWriter(io.Discard, 1); err == nil {
		t.Error("a part was sealed for an object of one part")
	}
	if _, err := NewObjectKey(k, Options{Suite: 9}); !errors.Is(err, ErrVersion) {
		t.Errorf("suite 9: %v", err)
	}
	sealed, _ := multipart(t, k, []int{10})
	if _, err := NewReader(bytes.NewReader(sealed), k, ""); err == nil || !strings.Contains(err.Error(), "stream") {
		t.Errorf("a multipart object as a stream: %v", err)
	}
	if _, err := one.Object(nil, nil, Record{}); err == nil {
		t.Error("an object of no parts was opened")
	}
	if _, err := many.Object(nil, []Part{{Number: 1, Size: -1}}, Record{}); err == nil {
		t.Error("a part of negative size was taken")
	}
}
