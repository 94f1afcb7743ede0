package seal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha3"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write testdata/vectors anew")

// vector is one file of testdata/vectors: a head of "name: value" lines, an empty
// line, and bytes. FORMAT.md says what the fields mean.
type vector struct {
	file string
	head map[string]string
	body []byte
}

func readVectors(tb testing.TB) []vector {
	tb.Helper()
	files, err := filepath.Glob("testdata/vectors/*")
	if err != nil || len(files) == 0 { // a glob that stopped matching must not pass
		tb.Fatalf("no vectors: %v", err)
	}
	var all []vector
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			tb.Fatal(err)
		}
		text, body, ok := bytes.Cut(raw, []byte("\n\n"))
		if !ok {
			tb.Fatalf("%s: no empty line", f)
		}
		v := vector{filepath.Base(f), make(map[string]string), body}
		for line := range strings.SplitSeq(string(text), "\n") {
			name, value, _ := strings.Cut(line, ": ")
			v.head[name] = value
		}
		all = append(all, v)
	}
	return all
}

// field decodes a hexadecimal field.
func (v vector) field(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(v.head[name])
	if err != nil {
		tb.Fatalf("%s: %s: %v", v.file, name, err)
	}
	return b
}

func (v vector) keys(tb testing.TB) *Keys {
	tb.Helper()
	key, err := KeyFromBytes(v.field(tb, "key"))
	if err != nil {
		tb.Fatal(err)
	}
	return key.Keys(StoreID(v.field(tb, "store")))
}

// open does what the vector is about, and returns the plaintext.
func (v vector) open(tb testing.TB) ([]byte, error) {
	k := v.keys(tb)
	bucket, name := string(v.field(tb, "bucket")), string(v.field(tb, "name"))
	switch v.head["kind"] {
	case "object":
		plain, _, err := readObject(k, name, v.body)
		if streamed, _, errS := readStream(k, name, v.body); errS != errStream && (errS == nil) != (err == nil) {
			tb.Errorf("%s: the readers disagree: stream %v, object %v", v.file, errS, err)
		} else if errS == nil && !bytes.Equal(streamed, plain) {
			tb.Errorf("%s: the readers disagree about the plaintext", v.file)
		}
		return plain, err
	case "envelope":
		e, err := k.OpenEnvelope(bucket, name, string(v.body))
		if err != nil {
			return nil, err
		}
		return fmt.Appendf(nil, "%v %d %x %t %t %q %q %q", e.Object, e.Generation, e.Header, e.Deleted, e.Replaced, e.Headers, e.Meta, e.Tags), nil
	case "name":
		plain, err := k.OpenName(bucket, string(v.body))
		return []byte(plain), err
	}
	tb.Fatalf("%s: kind %q", v.file, v.head["kind"])
	return nil, nil
}

var expectations = map[string]error{"success": nil, "corrupt": ErrCorrupt, "key": ErrKey, "version": ErrVersion, "long": ErrLongName}

// Every vector opens as it says. Bad ones outnumber the good: what must not open
// is most of the format.
func TestVectors(t *testing.T) {
	if *update {
		writeVectors(t)
	}
	good, bad := 0, 0
	for _, v := range readVectors(t) {
		t.Run(v.file, func(t *testing.T) {
			want, known := expectations[v.head["expect"]]
			if !known {
				t.Fatalf("expect: %q", v.head["expect"])
			}
			plain, err := v.open(t)
			if want != nil {
				bad++
				if !errors.Is(err, want) {
					t.Errorf("got %v, want %v", err, want)
				}
				return
			}
			good++
			if err != nil {
				t.Fatal(err)
			}
			if sum := sha256.Sum256(plain); hex.EncodeToString(sum[:]) != v.head["plain-sha256"] {
				t.Errorf("plaintext is not the one that was sealed: %q", plain[:min(len(plain), 80)])
			}
		})
	}
	if bad <= good || good < 10 {
		t.Errorf("%d good and %d bad vectors", good, bad)
	}
}

// The writer still makes the good vectors, byte for byte.
func TestVectorsAreReproduced(t *testing.T) {
	made := make(map[string]vector)
	for _, v := range makeVectors(t) {
		made[v.file] = v
	}
	for _, v := range readVectors(t) {
		if m, ok := made[v.file]; ok && !bytes.Equal(m.body, v.body) {
			t.Errorf("%s: the writer now makes other bytes", v.file)
		}
		delete(made, v.file)
	}
	for name := range made {
		t.Errorf("%s: made but not in testdata: run with -update", name)
	}
}

func writeVectors(t *testing.T) {
	t.Helper()
	for _, v := range makeVectors(t) {
		var b bytes.Buffer
		for _, name := range []string{"expect", "kind", "comment", "key", "store", "bucket", "name", "plain-sha256"} {
			if value := v.head[name]; value != "" {
				fmt.Fprintf(&b, "%s: %s\n", name, value)
			}
		}
		b.WriteByte('\n')
		b.Write(v.body)
		if err := os.WriteFile(filepath.Join("testdata/vectors", v.file), b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// maker makes vectors with a fixed key; its random bytes come from SHAKE128 of
// the file name.
type maker struct {
	t    *testing.T
	key  Key
	k    *Keys
	sid  StoreID
	all  []vector
	last []byte // the last good body, which the bad ones spoil
}

func makeVectors(t *testing.T) []vector {
	raw := sha256.Sum256([]byte("coffer vectors"))
	key, err := KeyFromBytes(raw[:])
	if err != nil {
		t.Fatal(err)
	}
	m := &maker{t: t, key: key, sid: StoreID(raw[16:])}
	m.k = key.Keys(m.sid)
	m.objects()
	m.multipart()
	m.envelopes()
	m.names()
	return m.all
}

// random is the source of one vector.
func random(label string) io.Reader {
	x := sha3.NewSHAKE128()
	x.Write([]byte(label))
	return x
}

func (m *maker) add(file, expect, kind, bucket, name, comment string, body []byte) {
	raw := m.key.Bytes()
	v := vector{file, map[string]string{
		"expect": expect, "kind": kind, "comment": comment, "key": hex.EncodeToString(raw[:]), "store": m.sid.String(),
		"bucket": hex.EncodeToString([]byte(bucket)), "name": hex.EncodeToString([]byte(name)),
	}, body}
	if expect == "success" {
		plain, err := v.open(m.t)
		if err != nil {
			m.t.Fatalf("%s: %v", file, err)
		}
		sum := sha256.Sum256(plain)
		v.head["plain-sha256"] = hex.EncodeToString(sum[:])
		m.last = body
	}
	m.all = append(m.all, v)
}

// object seals noise with random bytes that file tells.
func (m *maker) object(file string, o Options, size int, r Record) []byte {
	key, err := newObjectKey(m.k, o, random(file))
	if err != nil {
		m.t.Fatal(err)
	}
	var b bytes.Buffer
	w, err := key.NewWriter(&b)
	if err != nil {
		m.t.Fatal(err)
	}
	w.SetRecord(r)
	if _, err := w.Write(noise(uint64(size), size)); err != nil {
		m.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		m.t.Fatal(err)
	}
	return b.Bytes()
}

// spoiled copies b and changes it.
func spoiled(b []byte, change func([]byte) []byte) []byte { return change(bytes.Clone(b)) }

// set returns a change of the byte at off (from the end if negative).
func set(off int, x byte) func([]byte) []byte {
	return func(b []byte) []byte {
		if off < 0 {
			off += len(b)
		}
		b[off] ^= x
		return b
	}
}

func (m *maker) objects() {
	good := func(file, comment string, o Options, size int, r Record) {
		m.add(file, "success", "object", "", o.Name, comment, m.object(file, o, size, r))
	}
	bad := func(file, expect, comment string, change func([]byte) []byte) {
		m.add(file, expect, "object", "", "", comment, spoiled(m.last, change))
	}
	good("object-empty-chacha", "an empty object is one empty chunk", Options{Suite: SuiteChaCha}, 0, Record{})
	good("object-chacha", "suite 2", Options{Suite: SuiteChaCha}, 1000, Record{})
	good("object-full-chunk", "exactly one chunk, which is the last", Options{Suite: SuiteAES}, ChunkSize, Record{})
	good("object-two-chunks", "one byte more than a chunk", Options{Suite: SuiteAES}, ChunkSize+1, Record{})
	bad("object-cut-chunk", "corrupt", "cut at the border of the last chunk", func(b []byte) []byte { return b[:headerSize+chunkSealed] })
	good("object-empty", "an empty object is one empty chunk", Options{Suite: SuiteAES}, 0, Record{})
	bad("object-no-chunk", "corrupt", "header only", func(b []byte) []byte { return b[:headerSize] })
	good("object-bound", "bound to its name", Options{Suite: SuiteAES, Name: "repo/x"}, 10, Record{})
	m.add("object-bound-other", "corrupt", "object", "", "repo/y", "under another name", m.last)
	bad("object-bound-none", "corrupt", "bound, opened as if it were not", set(0, 0))
	bad("object-bound-unset", "corrupt", "flag taken off", set(11, flagBound))
	good("object", "the plain case", Options{Suite: SuiteAES}, 100, Record{})
	m.add("object-unbound-named", "corrupt", "object", "", "repo/y", "not bound, opened under a name", m.last)
	bad("object-nothing", "corrupt", "no bytes at all", func([]byte) []byte { return nil })
	bad("object-plain", "corrupt", "not a sealed object", func([]byte) []byte { return bytes.Repeat([]byte("milk, bread\n"), 40) })
	bad("object-magic", "corrupt", "first byte", set(0, 0x80))
	bad("object-version", "version", "version 2", set(8, 3))
	bad("object-suite", "version", "suite 3", set(9, 2))
	bad("object-suite-swapped", "corrupt", "suite 2 written over suite 1", set(9, 3))
	bad("object-chunk-size", "version", "chunks of 128 KiB", set(10, 1))
	bad("object-flag-unknown", "version", "flag 8", set(11, 8))
	bad("object-flag-footer", "corrupt", "footer flag without a footer", set(11, flagFooter))
	bad("object-flag-multipart", "corrupt", "multipart flag without footer flag", set(11, flagMultipart))
	bad("object-header-length", "corrupt", "length of the header", set(15, 1))
	bad("object-id", "corrupt", "object id", set(16, 1))
	bad("object-key-id", "key", "id of another backup key", set(32, 1))
	bad("object-salt", "corrupt", "wrap salt", set(40, 1))
	bad("object-wrapped", "corrupt", "sealed data key", set(72, 1))
	bad("object-commitment", "corrupt", "commitment", set(151, 1))
	bad("object-part-salt", "corrupt", "part salt", set(152, 1))
	bad("object-part-number", "corrupt", "part number in an object of one part", set(185, 1))
	bad("object-zero", "corrupt", "where zero belongs", set(191, 1))
	bad("object-tag", "corrupt", "last byte", set(-1, 1))
	bad("object-cut", "corrupt", "cut by one byte", func(b []byte) []byte { return b[:len(b)-1] })
	bad("object-longer", "corrupt", "longer by one byte", func(b []byte) []byte { return append(b, 0) })
	bad("object-empty-last", "corrupt", "a full chunk and then an empty last one", func([]byte) []byte { return m.emptyLast() })
	m.foreign()
	full := Record{
		ETag: "0123456789abcdef", Checksums: []Checksum{{Type: "FULL_OBJECT", Algo: "CRC32", Value: "AAAAAA=="}},
		Headers: map[string]string{"content-type": "text/plain"}, Meta: map[string]string{"b": "2", "a": "\xff\x00"},
		Tags: map[string]string{"t": ""}, Created: time.Unix(1764040000, 7), Writer: "test", Bucket: "bk", Key: "a//b\xfe",
	}
	good("object-footer-large", "a footer of 1024 bytes", Options{Suite: SuiteChaCha, Footer: true}, 3, Record{Key: strings.Repeat("k", 500)})
	good("object-footer", "all attributes", Options{Suite: SuiteAES, Footer: true}, 50, full)
	bad("object-footer-gone", "corrupt", "footer cut off", func(b []byte) []byte { return b[:SealedSize(50)] })
	bad("object-footer-tail", "corrupt", "tail cut off", func(b []byte) []byte { return b[:len(b)-tailSize] })
	bad("object-footer-length", "corrupt", "length in the tail", set(-32, 1))
	bad("object-footer-parts", "corrupt", "count of parts", set(-25, 1))
	bad("object-footer-zero", "corrupt", "where zero belongs", set(-9, 1))
	bad("object-footer-magic", "corrupt", "magic of the tail", set(-1, 1))
	bad("object-footer-record", "corrupt", "sealed record", set(-200, 1))
	bad("object-footer-salt", "corrupt", "footer salt", func(b []byte) []byte { return set(int(SealedSize(50)), 1)(b) })
	m.forgedFooters()
}

// foreign objects were sealed under another key.
func (m *maker) foreign() {
	raw := sha256.Sum256([]byte("another key"))
	other, err := KeyFromBytes(raw[:])
	if err != nil {
		m.t.Fatal(err)
	}
	key, err := newObjectKey(other.Keys(m.sid), Options{Suite: SuiteAES}, random("foreign"))
	if err != nil {
		m.t.Fatal(err)
	}
	var b bytes.Buffer
	w, err := key.NewWriter(&b)
	if err != nil {
		m.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		m.t.Fatal(err)
	}
	m.add("object-foreign", "key", "object", "", "", "sealed under another backup key", b.Bytes())
	id := m.k.ID()
	m.add("object-foreign-disguised", "corrupt", "object", "", "", "sealed under another backup key, with our key id",
		spoiled(b.Bytes(), func(b []byte) []byte { copy(b[32:], id[:]); return b }))
}

// emptyLast makes what a writer never makes: an empty chunk after a full one.
func (m *maker) emptyLast() []byte {
	key, err := newObjectKey(m.k, Options{Suite: SuiteAES}, random("empty-last"))
	if err != nil {
		m.t.Fatal(err)
	}
	h := key.h
	c := newChunker(key.partCipher(h.partSalt, 0))
	b := h.append(nil)
	b = append(b, c.seal(nil, noise(1, ChunkSize), false)...)
	return append(b, c.seal(nil, nil, true)...)
}

// forgedFooters are sealed by one who has the key but not the rules.
func (m *maker) forgedFooters() {
	forge := func(file, comment string, record []byte) {
		key, err := newObjectKey(m.k, Options{Suite: SuiteAES, Footer: true}, random(file))
		if err != nil {
			m.t.Fatal(err)
		}
		h := key.h
		b := append(h.append(nil), newChunker(key.partCipher(h.partSalt, 0)).seal(nil, nil, true)...)
		padded := make([]byte, footerUnit-32-tagSize)
		copy(padded, record)
		var salt [32]byte
		tail := appendTail(nil, footerUnit+tailSize, 0)
		b = append(b, salt[:]...)
		b = sealOnce(key.footerCipher(salt), b, padded, append(h.partSalt[:], tail...))
		m.add(file, "corrupt", "object", "", "", comment, append(b, tail...))
	}
	forge("record-size", "the record tells another size", []byte{0xa1, 1, 1})
	forge("record-no-map", "the record is no map", []byte{0x80})
	forge("record-long-int", "an integer in a longer form", []byte{0xa1, 1, 0x18, 0})
	forge("record-order", "keys of the map out of order", []byte{0xa2, 3, 0x41, 'e', 1, 0})
	forge("record-twice", "a key of the map twice", []byte{0xa2, 1, 0, 1, 0})
	forge("record-unknown", "an unknown key of the map", []byte{0xa2, 1, 0, 0x18, 99, 0})
	forge("record-text", "a text string", []byte{0xa2, 1, 0, 3, 0x61, 'e'})
	forge("record-indefinite", "an indefinite length", []byte{0xbf, 1, 0, 0xff})
	forge("record-tagged", "a tagged value", []byte{0xa1, 1, 0xc1, 0})
	forge("record-rest", "bytes after the record", []byte{0xa1, 1, 0, 0, 0, 1})
	forge("record-negative", "a negative size", []byte{0xa1, 1, 0x20})
	forge("record-parts", "parts in an object of one part", append([]byte{0xa2, 1, 0, 2, 0x81, 0x85, 1, 0, 0x58, 32}, make([]byte, 34)...))
	forge("record-cut", "a record that ends too early", []byte{0xa2, 1, 0, 3, 0x5a, 0x7f, 0xff, 0xff, 0xff})
}

// multipart makes objects of parts and spoils them.
func (m *maker) multipart() {
	key, err := newObjectKey(m.k, Options{Suite: SuiteAES, Multipart: true}, random("multipart"))
	if err != nil {
		m.t.Fatal(err)
	}
	part := func(number, size int) ([]byte, Part) {
		var b bytes.Buffer
		w, err := key.NewPartWriter(&b, number)
		if err != nil {
			m.t.Fatal(err)
		}
		if _, err := w.Write(noise(uint64(number), size)); err != nil {
			m.t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			m.t.Fatal(err)
		}
		return b.Bytes(), w.Part()
	}
	footer := func(parts ...Part) []byte {
		b, err := key.Footer(parts, Record{ETag: "x-3"})
		if err != nil {
			m.t.Fatal(err)
		}
		return b
	}
	p3, r3 := part(7, 300)
	p1, r1 := part(1, 100)
	again, _ := part(1, 100)
	p2, r2 := part(5, 0)
	f := footer(r1, r2, r3)
	join := func(b ...[]byte) []byte { return bytes.Join(b, nil) }
	m.add("multipart", "success", "object", "", "", "three parts, numbers with gaps, one empty", join(p1, p2, p3, f))
	bad := func(file, comment string, b []byte) { m.add(file, "corrupt", "object", "", "", comment, b) }
	bad("multipart-attempt", "part 1 of another attempt", join(again, p2, p3, f))
	bad("multipart-missing", "the empty part is missing", join(p1, p3, f))
	bad("multipart-first-missing", "the first part is missing", join(p2, p3, f))
	bad("multipart-twice", "part 1 twice", join(p1, p1, p2, p3, f))
	bad("multipart-moved", "parts in another order", join(p1, p3, p2, f))
	bad("multipart-footer-moved", "footer in the middle", join(p1, p2, f, p3))
	bad("multipart-footer-gone", "no footer", join(p1, p2, p3))
	bad("multipart-footer-other", "footer of two of the parts", join(p1, p2, p3, footer(r1, r3)))
	bad("multipart-middle-header", "header of a part in the middle", spoiled(join(p1, p2, p3, f), set(len(p1)+20, 1)))
	bad("multipart-middle-number", "number of a part in the middle", spoiled(join(p1, p2, p3, f), set(len(p1)+185, 2)))
	bad("multipart-single", "one part, number 0", spoiled(join(p1, p2, p3, f), set(185, 1)))
	bad("multipart-count", "count of parts in the tail", spoiled(join(p1, p2, p3, f), set(-25, 1)))
	o, err := OpenObject(context.Background(), (&memory{b: m.last}).source, int64(len(m.last)), m.k, "")
	if err != nil || len(o.Parts()) != 3 {
		m.t.Fatalf("multipart vector: %v", err)
	}
}

func (m *maker) envelopes() {
	good := func(file, bucket, name, comment string, e Envelope, s Suite) string {
		env, err := m.k.sealEnvelope(bucket, name, e, s, random(file))
		if err != nil {
			m.t.Fatal(err)
		}
		m.add(file, "success", "envelope", bucket, name, comment, []byte(env))
		return env
	}
	key, err := newObjectKey(m.k, Options{Suite: SuiteAES, Footer: true}, random("envelope key"))
	if err != nil {
		m.t.Fatal(err)
	}
	long := strings.Repeat("long/", 200)
	good("envelope-chacha", "bk", "key", "suite 2", Envelope{Object: key.ID(), Generation: 1}, SuiteChaCha)
	good("envelope-replaced", "bk", "key", "new header and metadata", Envelope{Object: key.ID(), Generation: 1 << 40, Header: key.Header(),
		Replaced: true, Meta: map[string]string{"a": "\xff"}}, SuiteAES)
	env := good("envelope-long", "bk", long, "a name that the envelope holds", Envelope{Object: key.ID(), Generation: 2, Deleted: true}, SuiteAES)
	m.add("envelope-long-other", "corrupt", "envelope", "bk", long+"x", "under another long name", []byte(env))
	env = good("envelope", "bk", "key", "the plain case", Envelope{Object: key.ID(), Generation: 1}, SuiteAES)
	bad := func(file, expect, bucket, name, comment string, s string) {
		m.add(file, expect, "envelope", bucket, name, comment, []byte(s))
	}
	flip := func(off int, x byte) string {
		b, err := base64url.DecodeString(env)
		if err != nil {
			m.t.Fatal(err)
		}
		return base64url.EncodeToString(set(off, x)(b))
	}
	bad("envelope-other-key", "corrupt", "bk", "kez", "under another name", env)
	bad("envelope-other-bucket", "corrupt", "bl", "key", "under another bucket", env)
	bad("envelope-split", "corrupt", "bkk", "ey", "bucket and key split elsewhere", env)
	bad("envelope-empty", "corrupt", "bk", "key", "nothing", "")
	bad("envelope-version", "version", "bk", "key", "version 2", flip(0, 3))
	bad("envelope-suite", "version", "bk", "key", "suite 3", flip(1, 2))
	bad("envelope-foreign", "key", "bk", "key", "id of another backup key", flip(2, 1))
	bad("envelope-salt", "corrupt", "bk", "key", "salt", flip(20, 1))
	bad("envelope-content", "corrupt", "bk", "key", "content", flip(40, 1))
	bad("envelope-cut", "corrupt", "bk", "key", "cut", env[:len(env)-4])
	bad("envelope-padded", "corrupt", "bk", "key", "padding of base64", env+"=")
	bad("envelope-line", "corrupt", "bk", "key", "a line end", env+"\n")
	bad("envelope-alphabet", "corrupt", "bk", "key", "the other alphabet of base64", "+"+env[1:])
	bad("envelope-long-text", "corrupt", "bk", "key", "longer than any envelope", env+strings.Repeat("A", MaxEnvelope))
}

func (m *maker) names() {
	for _, n := range []struct{ file, name string }{
		{"name", "photos/2026/anna.jpg"}, {"name-one", "a"}, {"name-double-slash", "a//b"}, {"name-slash", "/"}, {"name-folder", "dir/"},
		{"name-dot", "./x"}, {"name-dots", "a/../b"}, {"name-bytes", "\x00\xff\x80/\x80\x00"}, {"name-15", strings.Repeat("x", 15)},
		{"name-16", strings.Repeat("x", 16)}, {"name-127", strings.Repeat("y", 127)},
	} {
		s, err := m.k.SealName("bk", n.name)
		if err != nil {
			m.t.Fatal(err)
		}
		m.add(n.file, "success", "name", "bk", "", fmt.Sprintf("%.60q", n.name), []byte(s))
	}
	for _, n := range []struct{ file, name string }{{"name-128", strings.Repeat("y", 128)}, {"name-many", strings.Repeat("/", 1024)}} {
		s, err := m.k.SealName("bk", n.name)
		if err != nil {
			m.t.Fatal(err)
		}
		m.add(n.file, "long", "name", "bk", "", fmt.Sprintf("%.60q", n.name), []byte(s))
	}
	s, err := m.k.SealName("bk", "one/two")
	if err != nil {
		m.t.Fatal(err)
	}
	one, two, _ := strings.Cut(s, "/")
	for _, n := range []struct{ file, comment, sealed string }{
		{"name-bad-case", "upper case", strings.ToUpper(s)}, {"name-bad-line", "a line end", one + "\n/" + two},
		{"name-bad-cut", "cut", s[:len(s)-1]}, {"name-bad-bits", "bits beyond the last byte", one[:len(one)-1] + string(one[len(one)-1]+1)},
		{"name-bad-order", "segments swapped", two + "/" + one}, {"name-bad-parent", "a segment without its parent", two},
		{"name-bad-twice", "a segment twice", one + "/" + one}, {"name-bad-empty", "an empty segment", one + "//" + two},
		{"name-bad-none", "nothing", ""}, {"name-bad-plain", "a plain name", "hello"},
		{"name-bad-flip", "one letter", strings.Replace(s, s[30:31], string(rune('0'+(s[30]-'0'+1)%8)), 1)},
		{"name-bad-root", "sealed nothing", m.k.sealSegment(macSegment, "bk", "", "")},
		{"name-bad-bucket", "a sealed bucket", m.k.sealSegment(macBucket, "", "", "one")},
		{"name-bad-long", "longer than any sealed name", strings.Repeat(one+"/", 20) + one},
	} {
		m.add(n.file, "corrupt", "name", "bk", "", n.comment, []byte(n.sealed))
	}
	other, err := m.k.SealName("other", "one")
	if err != nil {
		m.t.Fatal(err)
	}
	m.add("name-bad-other", "corrupt", "name", "bk", "", "of another bucket", []byte(other))
}
