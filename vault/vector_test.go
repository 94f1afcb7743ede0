package vault

import (
	"bytes"
	"crypto/ed25519"
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

var update = flag.Bool("update", false, "write the files in testdata anew")

// A vector is a head (what it is, what to expect, why), an empty line, and the
// bytes in hexadecimal, 32 a line.
type vector struct {
	name, is, expect, comment string
	data                      []byte
}

func readVectors(tb testing.TB) []vector {
	tb.Helper()
	names, err := filepath.Glob("testdata/vectors/*.txt")
	if err != nil || len(names) < 20 { // a glob that stopped matching must not pass
		tb.Fatalf("%d vectors: %v", len(names), err)
	}
	var all []vector
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			tb.Fatal(err)
		}
		headText, body, ok := strings.Cut(string(b), "\n\n")
		if !ok {
			tb.Fatalf("%s: no empty line", name)
		}
		v := vector{name: strings.TrimSuffix(filepath.Base(name), ".txt")}
		for line := range strings.Lines(headText) {
			k, val, _ := strings.Cut(strings.TrimSpace(line), ": ")
			switch k {
			case "is":
				v.is = val
			case "expect":
				v.expect = val
			case "comment":
				v.comment = val
			default:
				tb.Fatalf("%s: unknown head %q", name, k)
			}
		}
		if v.data, err = hex.DecodeString(strings.ReplaceAll(body, "\n", "")); err != nil {
			tb.Fatalf("%s: %v", name, err)
		}
		all = append(all, v)
	}
	return all
}

func (v vector) write(tb testing.TB) {
	tb.Helper()
	var b bytes.Buffer
	fmt.Fprintf(&b, "is: %s\nexpect: %s\ncomment: %s\n\n", v.is, v.expect, v.comment)
	for rest := v.data; len(rest) > 0; {
		n := min(32, len(rest))
		fmt.Fprintf(&b, "%x\n", rest[:n])
		rest = rest[n:]
	}
	if err := os.WriteFile(filepath.Join("testdata", "vectors", v.name+".txt"), b.Bytes(), 0o644); err != nil {
		tb.Fatal(err)
	}
}

// parsers read each thing that comes from outside, and write it again.
var parsers = map[string]func([]byte) ([]byte, error){
	"request": func(b []byte) ([]byte, error) {
		r, err := parseRequest(b)
		if err != nil {
			return nil, err
		}
		body, _, err := parseBody(r.Kind, r.Body)
		if err != nil {
			return nil, err
		}
		r.Body = encode(body)
		return r.encode(), nil
	},
	"attested": func(b []byte) ([]byte, error) {
		var at attested
		if err := at.decode(b); err != nil {
			return nil, err
		}
		if _, err := at.root(); err != nil {
			return nil, err
		}
		return at.encode(len(b))
	},
	"frame": func(b []byte) ([]byte, error) {
		r := bytes.NewReader(b)
		f, data, err := readFrame(r, maxRequest)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || r.Len() != 0 {
			err = ErrMalformed // in a stream, the rest is to come, or is another frame
		}
		return append(f.append(nil), data...), err
	},
	"command": func(b []byte) ([]byte, error) {
		c, err := parseCommand(b)
		if err != nil {
			return nil, err
		}
		body, _, err := parseBody(c.Kind, c.Body)
		if err != nil {
			return nil, err
		}
		c.Body = encode(body)
		return encodeCommand(c), nil
	},
	"record": func(b []byte) ([]byte, error) {
		r, h, err := parseRecord(b)
		if err != nil {
			return nil, err
		}
		r.Header = encode(h)
		return encode(r), nil
	},
	"manifest": func(b []byte) ([]byte, error) {
		s, err := ParseManifest(b)
		if err != nil {
			return nil, err
		}
		m, err := s.Unverified()
		if err != nil {
			return nil, err
		}
		s.Manifest = encode(m)
		return s.Bytes(), nil
	},
	"answer": func(b []byte) ([]byte, error) {
		var a Answer
		err := a.decode(b)
		return a.encode(), err
	},
	"ledger": func(b []byte) ([]byte, error) {
		r := &entryReader{r: bytes.NewReader(b)}
		if err := r.magic(); err != nil {
			return nil, err
		}
		out, h := []byte(ledgerMagic), head{}
		for {
			e, err := r.next()
			if err == io.EOF && len(out) != len(b) {
				return nil, ErrLedger // openLedger cuts such a tail off, if it is not anchored
			}
			if err == io.EOF {
				return out, nil
			}
			if err != nil {
				return nil, err
			}
			h = h.next(e.frame())
			out = append(append(out, e.frame()...), h.link[:]...)
		}
	},
}

// sampleHeader is a header with each field filled.
func sampleHeader() *Header {
	return &Header{
		Version: 1, Fleet: FleetID(bytes.Repeat([]byte{0xf1}, 16)), UID: UID(bytes.Repeat([]byte{0xaa}, 32)),
		Epoch: Epoch(bytes.Repeat([]byte{0xe0}, 16)), Salt: [32]byte(bytes.Repeat([]byte{0x5a}, 32)),
		Argon: Argon{3, 65536, 4}, Threshold: 2, Policy: DefaultPolicy(),
		Nodes: []RecordNode{{"n1", samplePoint(1)}, {"n2", samplePoint(2)}, {"n3", samplePoint(3)}},
	}
}

func samplePoint(b byte) (p [33]byte) {
	p = [33]byte(bytes.Repeat([]byte{b}, 33))
	p[0] = 2
	return p
}

func sampleRecord() []byte {
	env := bytes.Repeat([]byte{0xee}, 93)
	env[0] = 1
	return encode(&Record{
		Header: encode(sampleHeader()), Masked: [][32]byte{{1}, {2}, {3}}, Envelope: env,
		Public: [32]byte(bytes.Repeat([]byte{0xbb}, 32)),
	})
}

func sampleManifest() *SignedManifest {
	root := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))
	m := &Manifest{
		Version: 1, Fleet: FleetID(bytes.Repeat([]byte{0xf1}, 16)), Name: "three homes", Sequence: 2,
		Previous: [32]byte{9}, Issued: 1767225600, NotAfter: 1798761600, Threshold: 1, Policy: DefaultPolicy(), Argon: Argon{3, 65536, 4},
		Nodes: []Node{{ID: "n1", Operator: "anna", URL: "https://n1.example:7443", Raft: "n1.example:7444", HSM: "software",
			// the base point of P-256
			Identity: [33]byte(must(hex.DecodeString("036b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296")))}},
	}
	sm := must(Unsigned(m))
	sm.Sign(root)
	return sm
}

// goodVectors are the bytes that PROTOCOL.md describes.
func goodVectors() []vector {
	uid, epoch, id := UID(bytes.Repeat([]byte{0xaa}, 32)), Epoch(bytes.Repeat([]byte{0xe0}, 16)), AttemptID(bytes.Repeat([]byte{0x1d}, 16))
	sig := [64]byte(bytes.Repeat([]byte{0x99}, 64))
	bodies := map[Kind]any{
		KindRecord: &RecordBody{uid}, KindStart: &StartBody{uid, epoch, samplePoint(5)}, KindKey: &KeyBody{uid, epoch, samplePoint(5)},
		KindCommit: &CommitBody{uid, sampleRecord(), sig, []byte{}}, KindReceipt: &ReceiptBody{uid, epoch, [32]byte{8}},
		KindAttempt: &AttemptBody{uid, epoch, id, samplePoint(5)}, KindEval: &EvalBody{uid, epoch, id, samplePoint(5)},
		KindProve: &ProveBody{uid, epoch, id, 7, sig}, KindDisable: &DisableBody{uid, epoch, sig[:]},
	}
	var all []vector
	for k, b := range bodies {
		r := &Request{Version: 1, Kind: k, Nonce: [16]byte{1}, Manifest: [32]byte{2}, Token: []byte("token"), Body: encode(b)}
		all = append(all, vector{"request-" + kindNames[k], "request", "ok", "a request of kind " + kindNames[k], encode(r)})
	}
	for _, k := range []Kind{KindStart, KindCommit, KindAttempt, KindProve, KindDisable} {
		c := &Command{Kind: k, Time: 1767225600123, Token: []byte("token"), Body: encode(bodies[k])}
		all = append(all, vector{"command-" + kindNames[k], "command", "ok", "a command of kind " + kindNames[k], encodeCommand(c)})
	}
	sweep := &Command{Kind: KindSweep, Time: 1767225600123, Token: []byte{}, Body: encode(bodies[KindRecord])}
	answer := &Answer{Version: 1, Node: "n1", Code: CodeOK, Left: 9, Failed: 1, UID: uid, Epoch: epoch, ID: id, Seq: 7,
		Element: samplePoint(5), Result: samplePoint(6), Public: samplePoint(1), Record: []byte{}, Former: []byte{}}
	leaf := leafHash(encode(answer))
	_, paths := hashTree([][32]byte{{1}, {2}, leaf})
	alone := must((&attested{Answer: encode(answer), Sig: sig}).encode(1024))
	third := must((&attested{encode(answer), sig, paths[2].sides, paths[2].hashes}).encode(1024))
	request := encode(&Request{Version: 1, Kind: KindRecord, Token: []byte{}, Body: encode(bodies[KindRecord])})
	ledger, h := []byte(ledgerMagic), head{}
	p := DefaultPolicy()
	for _, e := range []*entry{
		{Kind: entryFirst, ID: AttemptID(bytes.Repeat([]byte{0xf1}, 16)), Node: "n1"},
		{Kind: entryKey, UID: uid, Epoch: epoch, Own: 1767225600000, Feed: 1, Element: samplePoint(5), Public: samplePoint(1)},
		{Kind: entryCommit, UID: uid, Epoch: epoch, Own: 1767225601000, Feed: 2, Proof: [32]byte{1}, Hash: [32]byte{2}, Policy: &p, How: howFirst},
		{Kind: entrySpend, UID: uid, Epoch: epoch, Own: 1767225602000, Feed: 3, Seq: 1, ID: id, Element: samplePoint(6), At: 1767225601999},
	} {
		h = h.next(e.frame())
		ledger = append(append(ledger, e.frame()...), h.link[:]...)
	}
	return append(all,
		vector{"command-sweep", "command", "ok", "a command of kind sweep", encodeCommand(sweep)},
		vector{"record", "record", "ok", "three nodes, any two recover", sampleRecord()},
		vector{"manifest", "manifest", "ok", "one node, signed by the key of seed 07 07 ...", sampleManifest().Bytes()},
		vector{"answer-eval", "answer", "ok", "what is signed, without the padding", encode(answer)},
		vector{"attested-alone", "attested", "ok", "an answer in a stream, with its padding, that shares its signature with none", alone},
		vector{"attested-third", "attested", "ok", "the third of three answers: one hash, the left one, leads to the root", third},
		vector{"frame-request", "frame", "ok", "request 7 of a stream", append(frame{7, 0, uint16(len(request))}.append(nil), request...)},
		vector{"frame-refused", "frame", "ok", "request 7 came too fast", frame{7, 429, 0}.append(nil)},
		vector{"ledger", "ledger", "ok", "whose it is, a key, a commit, a spend", ledger},
	)
}

// badVectors spoil good ones. Each must be refused by every version to come.
func badVectors() []vector {
	request := func(r Request) []byte { return encode(&r) }
	rec := Request{Version: 1, Kind: KindRecord, Token: []byte{}, Body: encode(&RecordBody{})}
	ok := request(rec)
	with := func(from, to string) []byte {
		f, t := must(hex.DecodeString(from)), must(hex.DecodeString(to))
		if !bytes.Contains(ok, f) {
			panic("no " + from)
		}
		return bytes.Replace(ok, f, t, 1)
	}
	v := func(name, is, comment string, data []byte) vector {
		return vector{"bad-" + name, is, "malformed", comment, data}
	}
	version2, kind0, kindSweep, long := rec, rec, rec, rec
	version2.Version, kind0.Kind, kindSweep.Kind = 2, 0, KindSweep
	long.Token = make([]byte, maxToken+1)
	unsorted := sampleHeader()
	unsorted.Nodes[0], unsorted.Nodes[1] = unsorted.Nodes[1], unsorted.Nodes[0]
	record := func(h *Header) []byte {
		var r Record
		if err := decode(sampleRecord(), &r); err != nil {
			panic(err)
		}
		r.Header = encode(h)
		return encode(&r)
	}
	few := sampleHeader()
	few.Threshold = 4
	leaf := func(at attested) []byte { return must(at.encode(1024)) }
	greedy := sampleHeader()
	greedy.Policy.Budget = 200
	return []vector{
		v("empty", "request", "no bytes", nil),
		v("trailing", "request", "a byte follows", append(bytes.Clone(ok), 0)),
		v("cut", "request", "the last byte is missing", ok[:len(ok)-1]),
		v("version", "request", "version 2", request(version2)),
		v("kind", "request", "kind 0", request(kind0)),
		v("kind-sweep", "request", "clients do not sweep", request(kindSweep)),
		v("token", "request", "a token that is too long", request(long)),
		v("integer", "request", "the version in two bytes", with("0101", "011801")),
		v("indefinite", "request", "a map without length", append(append([]byte{0xbf}, ok[1:]...), 0xff)),
		v("duplicate", "request", "field 1 twice", append(append([]byte{0xa7}, ok[1:]...), 1, 1)),
		v("unknown", "request", "a field 7", append(append([]byte{0xa7}, ok[1:]...), 7, 1)),
		v("order", "request", "fields 2 and 1 in this order", with("01010201", "02010101")),
		v("null", "request", "null for an empty token", with("0540", "05f6")),
		v("nonce", "request", "a nonce of 15 bytes", with("0350"+strings.Repeat("00", 16), "034f"+strings.Repeat("00", 15))),
		v("tag", "request", "a tagged version", with("0101", "01c101")),
		v("float", "request", "a version that is a float", with("0101", "01f93c00")),
		v("command-empty", "command", "no version", nil),
		v("command-time", "command", "a time before 1970", append([]byte{1}, encode(&Command{Kind: KindSweep, Time: -1, Body: encode(&RecordBody{})})...)),
		v("record-order", "record", "nodes that are not sorted", record(unsorted)),
		v("record-threshold", "record", "threshold 4 of 3", record(few)),
		v("record-budget", "record", "a budget of 200", record(greedy)),
		v("ledger-link", "ledger", "the link of the first entry is wrong", append(append([]byte(ledgerMagic), (&entry{Kind: entryFirst, Node: "n1"}).frame()...), make([]byte, 32)...)),
		v("attested-path", "attested", "nine hashes lead to the root", leaf(attested{Path: make([]byte, 9*32)})),
		v("attested-half", "attested", "half a hash", leaf(attested{Path: make([]byte, 16)})),
		v("attested-sides", "attested", "a side without a hash", leaf(attested{Sides: 2, Path: make([]byte, 32)})),
		v("attested-padding", "attested", "something follows that is not zero", append(leaf(attested{}), 1)),
		v("frame-long", "frame", "a request of 8,193 bytes", append(frame{7, 0, maxRequest + 1}.append(nil), make([]byte, maxRequest+1)...)),
		{"newer-command", "command", "newer", "version 2 and anything after it: the node halts", []byte{2, 0xff}},
	}
}

// What was ever written must be read for ever, and what was refused stays refused.
func TestVectors(t *testing.T) {
	if *update {
		for _, v := range append(goodVectors(), badVectors()...) {
			v.write(t)
		}
	}
	files := make(map[string]vector)
	for _, v := range readVectors(t) {
		files[v.name] = v
		out, err := parsers[v.is](v.data)
		switch v.expect {
		case "ok":
			if err != nil || !bytes.Equal(out, v.data) {
				t.Errorf("%s: %v, or not the same bytes when encoded again", v.name, err)
			}
		case "malformed":
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrLedger) {
				t.Errorf("%s (%s): %v, want malformed", v.name, v.comment, err)
			}
		case "newer":
			if !errors.Is(err, ErrNewer) {
				t.Errorf("%s: %v, want ErrNewer", v.name, err)
			}
		default:
			t.Errorf("%s: expects %q", v.name, v.expect)
		}
	}
	for _, v := range append(goodVectors(), badVectors()...) {
		if f, ok := files[v.name]; !ok || !bytes.Equal(f.data, v.data) {
			t.Errorf("%s: the file is not what this program writes", v.name)
		}
	}
	roots := Roots{Keys: []ed25519.PublicKey{ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32)).Public().(ed25519.PublicKey)}}
	sm, err := ParseManifest(files["manifest"].data)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sm.Verify(roots, time.Unix(1767225600, 0)); err != nil {
		t.Errorf("the manifest's signature: %v", err)
	}
}

// fuzz checks a parser: what it reads it writes alike, and what it does not read
// it refuses with a known error.
func fuzz(f *testing.F, is string) {
	seeds := 0
	for _, v := range readVectors(f) {
		if v.is == is {
			f.Add(v.data)
			seeds++
		}
	}
	if seeds == 0 {
		f.Fatalf("no vector is a %s", is)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		out, err := parsers[is](data)
		if err == nil && !bytes.Equal(out, data) {
			t.Errorf("%x is read, and written as %x", data, out)
		}
		known := errors.Is(err, ErrMalformed) || errors.Is(err, ErrNewer) || errors.Is(err, ErrLedger) || is == "manifest"
		if err != nil && !known {
			t.Errorf("%x: unknown error %v", data, err)
		}
	})
}

func FuzzRequest(f *testing.F)  { fuzz(f, "request") }
func FuzzCommand(f *testing.F)  { fuzz(f, "command") }
func FuzzRecord(f *testing.F)   { fuzz(f, "record") }
func FuzzManifest(f *testing.F) { fuzz(f, "manifest") }
func FuzzAttested(f *testing.F) { fuzz(f, "attested") }
func FuzzFrame(f *testing.F)    { fuzz(f, "frame") }
func FuzzLedger(f *testing.F)   { fuzz(f, "ledger") }

// FuzzMachine: whatever the bytes of a log, the machine answers, and two nodes that
// read the same log hold the same state.
func FuzzMachine(f *testing.F) {
	var log []byte
	for _, v := range readVectors(f) {
		if v.is == "command" && len(v.data) < 1<<16 {
			log = append(append(log, byte(len(v.data)>>8), byte(len(v.data))), v.data...)
			f.Add(v.data)
		}
	}
	f.Add(log)
	f.Fuzz(func(t *testing.T, log []byte) {
		a, b := newMemKV(), newMemKV()
		var m Machine
		for i := uint64(1); len(log) > 2; i++ {
			n := min(int(log[0])<<8|int(log[1]), len(log)-2)
			cmd := log[2 : 2+n]
			log = log[2+n:]
			x, y := m.Apply(a, i, cmd), m.Apply(b, i, cmd)
			var o outcome
			if err := decode(x, &o); err != nil || !bytes.Equal(x, y) {
				t.Fatalf("answers %x and %x, %v", x, y, err)
			}
		}
		if len(a.m) != len(b.m) {
			t.Fatalf("%d and %d keys", len(a.m), len(b.m))
		}
		for k, v := range a.m {
			if !bytes.Equal(v, b.m[k]) {
				t.Fatalf("key %q differs", k)
			}
		}
	})
}

// FuzzToken: only a token whose bytes the operator signed is accepted.
func FuzzToken(f *testing.F) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{3}, 32))
	fleet, now := FleetID{1}, time.Unix(1767225600, 0)
	good := IssueToken(key, fleet, "anna", now, now.Add(time.Hour))
	f.Add(good)
	f.Add(tokenPrefix + "." + "")
	a := TokenAuth{Fleet: fleet, Keys: []ed25519.PublicKey{key.Public().(ed25519.PublicKey)}}
	f.Fuzz(func(t *testing.T, token string) {
		if err := a.Check([]byte(token), AccountUID(fleet, "anna"), now); (err == nil) != (token == good) {
			t.Errorf("%q: %v", token, err)
		}
	})
}
