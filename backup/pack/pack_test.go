package pack

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"coffer/backup/chunk"
)

func id(b byte) chunk.ID { return chunk.ID(bytes.Repeat([]byte{b}, 32)) }

func example() *Record {
	return &Record{Name: Name{1, 2, 3}, Size: 4096, Segments: []Segment{
		{Compressed: true, Stored: 100, Chunks: []Chunk{{id(1), 200}, {id(2), 0}}},
		{Tree: true, Stored: 50, Chunks: []Chunk{{id(3), 50}}},
		{Tree: true, Compressed: true, Stored: 10, Chunks: []Chunk{}},
	}}
}

func TestPadded(t *testing.T) {
	for n := range 1 << 16 {
		p := Padded(n)
		if p < n || p > n+n*12/100+1 || Padded(p) != p {
			t.Fatalf("Padded(%d) = %d", n, p)
		}
	}
	sizes := map[int]bool{}
	for n := 24 << 20; n < 25<<20; n++ {
		sizes[Padded(n)] = true
	}
	if len(sizes) > 3 || Padded(24<<20+1) > 24<<20*103/100 {
		t.Errorf("%d sizes between 24 and 25 MiB", len(sizes))
	}
}

// The end of a pack describes it, and makes its length a padded one.
func TestEnd(t *testing.T) {
	for _, segments := range []int{160, 1000, 99999} {
		rec := example()
		b := append(make([]byte, segments), AppendEnd(segments, rec, []byte("config"))...)
		if len(b) != Padded(len(b)) || int(rec.Size) != len(b) {
			t.Errorf("%d bytes, recorded as %d", len(b), rec.Size)
		}
		n, err := ParseTail(b[len(b)-TailSize:])
		if err != nil {
			t.Fatal(err)
		}
		config, got, err := ParseFooter(b[len(b)-TailSize-n:len(b)-TailSize], int64(len(b)))
		if err != nil || string(config) != "config" || !reflect.DeepEqual(got, rec) {
			t.Errorf("%q %+v, %v", config, got, err)
		}
		if _, _, err := ParseFooter(b[len(b)-TailSize-n:len(b)-TailSize], int64(len(b))+1); !errors.Is(err, ErrFormat) {
			t.Errorf("a footer of a pack of another size: %v", err)
		}
	}
	for _, bad := range [][]byte{nil, []byte("cpk1"), []byte("\x00\x00\x00\x00cpk2"), []byte("\xff\xff\xff\xffcpk1")} {
		if _, err := ParseTail(bad); !errors.Is(err, ErrFormat) {
			t.Errorf("tail %q: %v", bad, err)
		}
	}
}

// vectors calls fn for each file of testdata/vectors: a head ("expect: ok" or
// "expect: format", then a comment), an empty line, hex of an index.
func vectors(tb testing.TB, fn func(name, expect string, b []byte)) {
	names, err := filepath.Glob("testdata/vectors/*")
	if err != nil || len(names) < 8 { // a glob that stopped matching must not pass
		tb.Fatalf("%d vectors: %v", len(names), err)
	}
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			tb.Fatal(err)
		}
		head, body, _ := strings.Cut(string(raw), "\n\n")
		expect, _, _ := strings.Cut(strings.TrimPrefix(head, "expect: "), "\n")
		b, err := hex.DecodeString(strings.Join(strings.Fields(body), ""))
		if err != nil {
			tb.Fatal(name, err)
		}
		fn(filepath.Base(name), expect, b)
	}
}

func TestVectors(t *testing.T) {
	want := map[string]error{"ok": nil, "format": ErrFormat}
	vectors(t, func(name, expect string, b []byte) {
		_, err := ParseIndex(b)
		if w, known := want[expect]; !known || !errors.Is(err, w) {
			t.Errorf("%s: %v, want %s", name, err, expect)
		}
		reencode(t, b)
	})
}

func reencode(t *testing.T, b []byte) {
	x, err := ParseIndex(b)
	if err != nil {
		if !errors.Is(err, ErrFormat) {
			t.Errorf("an error without sentinel: %v", err)
		}
		return
	}
	if got := x.Append(nil); !bytes.Equal(got, b) {
		t.Errorf("encodes to\n%x\nwant\n%x", got, b)
	}
}

func FuzzIndex(f *testing.F) {
	vectors(f, func(_, _ string, b []byte) { f.Add(b) })
	f.Fuzz(func(t *testing.T, b []byte) { reencode(t, b) })
}

func FuzzFooter(f *testing.F) {
	rec := example()
	end := AppendEnd(160, rec, []byte("config"))
	n, _ := ParseTail(end[len(end)-TailSize:])
	f.Add(end[len(end)-TailSize-n:len(end)-TailSize], int64(rec.Size))
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		config, rec, err := ParseFooter(b, size)
		if err == nil && !bytes.Equal(appendFooter(nil, rec, config), b) {
			t.Error("a footer encodes to other bytes")
		}
	})
}

func TestCodec(t *testing.T) {
	text := bytes.Repeat([]byte("some text "), 1000)
	stored, ok := NewCompressor().Compress(text)
	if !ok || len(stored) > 500 {
		t.Fatalf("%d bytes, %v", len(stored), ok)
	}
	z := NewDecompressor()
	got, err := z.Decompress([]byte("before"), stored, len(text))
	if err != nil || string(got) != "before"+string(text) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	for _, size := range []int{0, len(text) - 1, len(text) + 1, MaxPlain + 1} {
		if _, err := z.Decompress(nil, stored, size); !errors.Is(err, ErrFormat) {
			t.Errorf("size %d: %v", size, err)
		}
	}
	if _, err := z.Decompress(nil, text, len(text)); !errors.Is(err, ErrFormat) {
		t.Errorf("what is not compressed: %v", err)
	}
	noise := make([]byte, 1000)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	if got, ok := NewCompressor().Compress(noise); ok || !bytes.Equal(got, noise) {
		t.Error("noise was compressed")
	}
}
