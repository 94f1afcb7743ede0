package seal

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// isSealError tells whether err is one a caller can branch on.
func isSealError(err error) bool {
	return errors.Is(err, ErrCorrupt) || errors.Is(err, ErrKey) || errors.Is(err, ErrVersion)
}

// prefixOnly reads sealed as a stream: what is released before the error must be
// a true beginning of plain.
func prefixOnly(t *testing.T, k *Keys, name string, sealed, plain []byte, what string) {
	t.Helper()
	r, err := NewReader(bytes.NewReader(sealed), k, name)
	if err != nil {
		if !isSealError(err) && err != errStream {
			t.Errorf("%s: stream: %v", what, err)
		}
	} else {
		got, err := io.ReadAll(r)
		if !isSealError(err) {
			t.Errorf("%s: stream: got %v", what, err)
		}
		if !bytes.HasPrefix(plain, got) {
			t.Errorf("%s: stream released what was not written", what)
		}
	}
	got, _, err := readObject(k, name, sealed)
	if !isSealError(err) {
		t.Errorf("%s: object: got %v", what, err)
	}
	if !bytes.HasPrefix(plain, got) {
		t.Errorf("%s: object released what was not written", what)
	}
}

// Every byte of an object is authentic: no flip is overlooked.
func TestFlipEveryByte(t *testing.T) {
	k := testKeys(t)
	plain := noise(3, 100)
	small, _ := multipart(t, k, []int{40, 0, 60})
	for _, c := range []struct {
		what, name string
		sealed     []byte
	}{
		{"aes", "", write(t, k, Options{Suite: SuiteAES}, plain, 100, Record{})},
		{"chacha, bound", "n", write(t, k, Options{Suite: SuiteChaCha, Name: "n"}, plain, 100, Record{})},
		{"footer", "", write(t, k, Options{Footer: true}, plain, 100, Record{ETag: "e"})},
		{"multipart", "", small},
	} {
		whole, _, err := readObject(k, c.name, c.sealed)
		if err != nil {
			t.Fatal(err)
		}
		for i := range c.sealed {
			for _, x := range []byte{1, 0x80} {
				b := bytes.Clone(c.sealed)
				b[i] ^= x
				prefixOnly(t, k, c.name, b, whole, c.what)
				if t.Failed() {
					t.Fatalf("%s: byte %d of %d", c.what, i, len(b))
				}
			}
		}
	}
}

// An object that is cut anywhere is an error, also at the borders.
func TestCut(t *testing.T) {
	k := testKeys(t)
	plain := noise(4, 3*ChunkSize+10)
	for _, o := range []Options{{}, {Footer: true}} {
		sealed := write(t, k, o, plain, 1<<20, Record{})
		cuts := []int{0, 1, 8, ObjectHeaderSize, headerSize, headerSize + tagSize, len(sealed) - tailSize, len(sealed) - 1}
		for c := 1; c <= 3; c++ {
			at := headerSize + c*chunkSealed
			cuts = append(cuts, at-1, at, at+1, at+tagSize)
		}
		cuts = append(cuts, int(SealedSize(int64(len(plain))))-1)
		for _, n := range cuts {
			prefixOnly(t, k, "", sealed[:n], plain, "cut")
			if t.Failed() {
				t.Fatalf("%+v: cut at %d of %d", o, n, len(sealed))
			}
		}
		prefixOnly(t, k, "", append(bytes.Clone(sealed), 0), plain, "longer")
		prefixOnly(t, k, "", append(bytes.Clone(sealed), sealed...), plain, "twice")
	}
}

// Chunks keep their place: none can be swapped, dropped, repeated or taken from
// another object, or from another attempt at the same one.
func TestSplice(t *testing.T) {
	k := testKeys(t)
	key, err := NewObjectKey(k, Options{})
	if err != nil {
		t.Fatal(err)
	}
	plain := noise(5, 4*ChunkSize)
	attempt := func() []byte {
		var b bytes.Buffer
		w, err := key.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(plain); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	a, again, other := attempt(), attempt(), write(t, k, Options{}, plain, 1<<20, Record{})
	if bytes.Equal(a[headerSize:], again[headerSize:]) {
		t.Fatal("two attempts made the same bytes: nonces repeat")
	}
	chunk := func(b []byte, i int) []byte { return b[headerSize+i*chunkSealed:][:chunkSealed] }
	head := a[:headerSize]
	for what, b := range map[string][]byte{
		"swapped":         bytes.Join([][]byte{head, chunk(a, 1), chunk(a, 0), chunk(a, 2), chunk(a, 3)}, nil),
		"dropped":         bytes.Join([][]byte{head, chunk(a, 0), chunk(a, 2), chunk(a, 3)}, nil),
		"repeated":        bytes.Join([][]byte{head, chunk(a, 0), chunk(a, 0), chunk(a, 1), chunk(a, 2), chunk(a, 3)}, nil),
		"last moved":      bytes.Join([][]byte{head, chunk(a, 0), chunk(a, 1), chunk(a, 3)}, nil),
		"last repeated":   bytes.Join([][]byte{a, chunk(a, 3)}, nil),
		"of another":      bytes.Join([][]byte{head, chunk(a, 0), chunk(other, 1), chunk(a, 2), chunk(a, 3)}, nil),
		"of an attempt":   bytes.Join([][]byte{head, chunk(a, 0), chunk(again, 1), chunk(a, 2), chunk(a, 3)}, nil),
		"another's head":  bytes.Join([][]byte{other[:headerSize], a[headerSize:]}, nil),
		"attempt's head":  bytes.Join([][]byte{again[:headerSize], a[headerSize:]}, nil),
		"attempt's salts": bytes.Join([][]byte{a[:ObjectHeaderSize], again[ObjectHeaderSize:headerSize], a[headerSize:]}, nil),
	} {
		prefixOnly(t, k, "", b, plain, what)
	}
}

// A footer belongs to its attempt: body and footer of two attempts of the same
// size do not mix.
func TestFooterBelongsToItsPart(t *testing.T) {
	k := testKeys(t)
	key, err := NewObjectKey(k, Options{Footer: true})
	if err != nil {
		t.Fatal(err)
	}
	var sealed [2][]byte
	for i := range sealed {
		var b bytes.Buffer
		w, err := key.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(noise(uint64(i), 100)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		sealed[i] = b.Bytes()
	}
	n := SealedSize(100)
	mixed := append(bytes.Clone(sealed[0][:n]), sealed[1][n:]...)
	prefixOnly(t, k, "", mixed, nil, "mixed")
}

// A reader that fails passes the failure on, and an object is never mistaken for
// whole because its reader stopped.
func TestReaderFails(t *testing.T) {
	k := testKeys(t)
	sealed := write(t, k, Options{}, noise(6, 3*ChunkSize), 1<<20, Record{})
	broken := errors.New("broken line")
	for _, n := range []int{0, 10, headerSize, headerSize + chunkSealed, len(sealed)} {
		src := io.MultiReader(bytes.NewReader(sealed[:n]), failing{broken})
		r, err := NewReader(src, k, "")
		if err == nil {
			_, err = io.ReadAll(r)
		}
		if !errors.Is(err, broken) {
			t.Errorf("after %d bytes: got %v", n, err)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error)  { return 0, f.err }
func (f failing) Write([]byte) (int, error) { return 0, f.err }

// A Writer whose output fails, or that is closed, takes no more.
func TestWriterFails(t *testing.T) {
	k := testKeys(t)
	broken := errors.New("disk full")
	w, err := NewWriter(failing{broken}, k, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 2*ChunkSize)); !errors.Is(err, broken) {
		t.Errorf("Write: got %v", err)
	}
	if err := w.Close(); !errors.Is(err, broken) {
		t.Errorf("Close: got %v", err)
	}
	w, err = NewWriter(io.Discard, k, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("Write after Close took bytes")
	}
	if err := w.Close(); err == nil {
		t.Error("a second Close wrote a second last chunk")
	}
	w, err = NewWriter(io.Discard, k, Options{Footer: true})
	if err != nil {
		t.Fatal(err)
	}
	w.SetRecord(Record{Writer: string(make([]byte, maxFooter))})
	if err := w.Close(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a footer that no stream reader could hold: got %v", err)
	}
}
