package seal

import (
	"bytes"
	"crypto/sha3"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

// Each parser: what it takes encodes to the same bytes, what it refuses it
// refuses with a sentinel. The seeds are the vectors.

func FuzzHeader(f *testing.F) {
	for _, v := range readVectors(f) {
		if v.head["kind"] == "object" {
			f.Add(v.body[:min(len(v.body), headerSize)])
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHeader(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
				t.Errorf("got %v", err)
			}
			return
		}
		if !bytes.Equal(h.append(nil), b[:headerSize]) {
			t.Error("parsed header encodes to other bytes")
		}
	})
}

// records are the plain records of the good vectors and of the forged ones.
func records(f *testing.F) [][]byte {
	var all [][]byte
	for _, v := range readVectors(f) {
		if v.head["kind"] != "object" || len(v.body) < headerSize {
			continue
		}
		h, err := parseHeader(v.body)
		if err != nil || h.flags&flagFooter == 0 {
			continue
		}
		key, err := openObjectKey(v.keys(f), h, "")
		if err != nil {
			continue
		}
		size, _, err := parseTail(v.body, maxFooterParts)
		if err != nil || size > len(v.body) {
			continue
		}
		b := v.body[len(v.body)-size:]
		data := b[size-tailSize:]
		if h.flags&flagMultipart == 0 {
			data = append(h.partSalt[:], data...)
		}
		if plain, err := openOnce(key.footerCipher([32]byte(b[:32])), nil, b[32:size-tailSize], data); err == nil {
			all = append(all, plain)
		}
	}
	if len(all) < 10 {
		f.Fatalf("only %d records in the vectors", len(all))
	}
	return all
}

func FuzzRecord(f *testing.F) {
	for _, r := range records(f) {
		f.Add(r)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, n, err := decodeRecord(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("got %v", err)
			}
			return
		}
		again, err := r.encode()
		if err != nil || !bytes.Equal(append(again, make([]byte, len(b)-n)...), b) {
			t.Errorf("parsed record encodes to other bytes: %v", err)
		}
	})
}

func FuzzTail(f *testing.F) {
	for _, v := range readVectors(f) {
		if v.head["kind"] == "object" {
			f.Add(v.body[max(0, len(v.body)-tailSize):])
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		size, parts, err := parseTail(b, maxFooterParts)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("got %v", err)
			}
			return
		}
		if !bytes.Equal(appendTail(nil, size, parts), b[len(b)-tailSize:]) || size > maxFooterParts {
			t.Error("parsed tail encodes to other bytes")
		}
	})
}

func FuzzEnvelope(f *testing.F) {
	for _, v := range readVectors(f) {
		if v.head["kind"] != "envelope" || v.head["expect"] != "success" {
			continue
		}
		w, err := v.keys(f).openEnvelope(v.keys(f).nameTag(string(v.field(f, "bucket")), string(v.field(f, "name"))), string(v.body))
		if err != nil {
			f.Fatal(err)
		}
		plain, err := encMode.Marshal(w)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(plain)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := decodeEnvelope(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("got %v", err)
			}
			return
		}
		if again, err := encMode.Marshal(w); err != nil || !bytes.Equal(again, b) {
			t.Errorf("parsed envelope encodes to other bytes: %v", err)
		}
	})
}

// FuzzOpen: an object opens to what its writer wrote, or fails with a sentinel;
// both readers agree.
func FuzzOpen(f *testing.F) {
	var k *Keys
	for _, v := range readVectors(f) {
		if v.head["kind"] == "object" && len(v.body) < ChunkSize {
			k = v.keys(f)
			f.Add(v.body)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		plain, _, err := readObject(k, "", b)
		if err != nil && !isSealError(err) {
			t.Errorf("got %v", err)
		}
		streamed, _, errS := readStream(k, "", b)
		if errS != errStream && (err == nil) != (errS == nil) || errS == nil && !bytes.Equal(plain, streamed) {
			t.Errorf("the readers disagree: %v, %v", err, errS)
		}
	})
}

// FuzzOpenName: what opens seals to the same name.
func FuzzOpenName(f *testing.F) {
	var k *Keys
	for _, v := range readVectors(f) {
		if v.head["kind"] == "name" {
			k = v.keys(f)
			f.Add(string(v.field(f, "bucket")), string(v.body))
		}
	}
	f.Fuzz(func(t *testing.T, bucket, sealed string) {
		key, err := k.OpenName(bucket, sealed)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrLongName) {
				t.Errorf("got %v", err)
			}
			return
		}
		if again, err := k.SealName(bucket, key); err != nil || again != sealed {
			t.Errorf("%q opens to %q, which seals to %q, %v", sealed, key, again, err)
		}
	})
}

// FuzzSealName: every key of S3 has a sealed name within the limits of stores,
// and comes back from it, by itself or with its envelope.
func FuzzSealName(f *testing.F) {
	k := testKeys(f)
	for _, key := range oddNames {
		f.Add("bucket", key)
	}
	f.Fuzz(func(t *testing.T, bucket, key string) {
		if len(bucket) > maxSegment || bucket == "" {
			return
		}
		sealed, err := k.SealName(bucket, key)
		if err != nil {
			if len(key) >= 1 && len(key) <= MaxName {
				t.Errorf("%q: %v", key, err)
			}
			return
		}
		checkName(t, k, bucket, key, sealed)
	})
}

var oddNames = []string{
	"a", "a//b", "/", "//", "a/", "/a", "./x", "a/../b", "..", ".", "\x00", "\xff/\xfe", "a b+c%20", "ä/ö", "~x", "x\ny",
	strings.Repeat("x", 127), strings.Repeat("x", 128), strings.Repeat("x", 300), strings.Repeat("x", 1024),
	strings.Repeat("a/", 512), strings.Repeat("/", 1024), strings.Repeat("y", 300) + "/z", strings.Repeat("1234567/", 15),
	strings.Repeat("\x80", 127), "x\x80", "x\x00", "\x80\x00\x00",
}

// checkName holds a sealed name to its limits and takes the key back out of it.
func checkName(t *testing.T, k *Keys, bucket, key, sealed string) {
	t.Helper()
	sb, err := k.SealBucket(bucket)
	if err != nil {
		t.Fatal(err)
	}
	if full := "s3/" + sb + "/" + sealed; len(full) > MaxName || len(sealed) > MaxSealedName {
		t.Errorf("%q: sealed name of %d bytes", key, len(full))
	}
	for s := range strings.SplitSeq(sealed, "/") {
		if len(s) > 255 || len(s) == 0 || strings.Trim(s, "0123456789abcdefghijklmnopqrstuv~") != "" {
			t.Errorf("%q: segment %q", key, s)
		}
	}
	got, err := k.OpenName(bucket, sealed)
	if errors.Is(err, ErrLongName) {
		e := Envelope{Generation: 7}
		env, errE := k.SealEnvelope(bucket, key, e)
		if errE != nil {
			t.Fatal(errE)
		}
		var back Envelope
		if got, back, err = k.OpenLongName(bucket, sealed, env); back.Generation != 7 {
			t.Errorf("%q: envelope %+v", key, back)
		}
	}
	if err != nil || got != key {
		t.Errorf("%q: came back as %q, %v", key, got, err)
	}
}

// Ten thousand objects, names and envelopes in 32 bytes: a change of any byte of
// the format changes the sum.
func TestAccumulated(t *testing.T) {
	in, out := sha3.NewSHAKE128(), sha3.NewSHAKE128()
	in.Write([]byte("coffer seal v1"))
	take := func(n int) []byte {
		b := make([]byte, n)
		in.Read(b)
		return b
	}
	key, err := KeyFromBytes(take(32))
	if err != nil {
		t.Fatal(err)
	}
	k := key.Keys(StoreID(take(16)))
	for i := range 10000 {
		r := take(8)
		o := Options{Suite: Suite(1 + r[0]&1), Footer: r[0]&2 != 0}
		if r[0]&4 != 0 {
			o.Name = string(take(1 + int(r[1])))
		}
		size := int(r[2])
		if i%500 == 0 {
			size += ChunkSize * int(r[3]&3)
		}
		obj, err := newObjectKey(k, o, in)
		if err != nil {
			t.Fatal(err)
		}
		w, err := obj.NewWriter(out)
		if err != nil {
			t.Fatal(err)
		}
		w.SetRecord(Record{ETag: hex.EncodeToString(r[4:]), Meta: map[string]string{string(r[5:]): string(r[6:])}})
		if _, err := w.Write(take(size)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		name, err := k.SealName("bucket", string(take(1+int(r[5]))))
		if err != nil {
			t.Fatal(err)
		}
		env, err := k.sealEnvelope("bucket", string(r), Envelope{Object: obj.ID(), Generation: uint64(i), Header: obj.Header()}, o.Suite, in)
		if err != nil {
			t.Fatal(err)
		}
		out.Write([]byte(name + "\n" + env + "\n"))
	}
	sum := make([]byte, 32)
	out.Read(sum)
	const want = "1af3bb61f3f4b7eec191aa12ef4532b4eae759b7400c14c256dd04c879473d08"
	if got := hex.EncodeToString(sum); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
