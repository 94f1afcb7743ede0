package hsm

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/nistec"
)

// seeds returns the files of a folder of testdata.
func seeds(f *testing.F, folder string) [][]byte {
	f.Helper()
	paths, err := filepath.Glob("testdata/" + folder + "/*")
	if err != nil || len(paths) < 2 {
		f.Fatalf("%d seeds in %s, %v", len(paths), folder, err)
	}
	var all [][]byte
	for _, p := range paths {
		raw, err := os.ReadFile(p)
		if err != nil {
			f.Fatal(err)
		}
		if strings.HasSuffix(p, ".hex") {
			if raw, err = hex.DecodeString(strings.TrimSpace(string(raw))); err != nil {
				f.Fatal(err)
			}
		}
		all = append(all, raw)
	}
	return all
}

// FuzzRecord: what parses must encode to the same bytes.
func FuzzRecord(f *testing.F) {
	for _, raw := range seeds(f, "records") {
		if r, err := parseRecord(raw); err != nil || r.mode == 0 {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := parseRecord(raw)
		if err != nil {
			if !errors.Is(err, ErrRecord) {
				t.Errorf("error of no kind: %v", err)
			}
			return
		}
		if again := r.bytes(); !bytes.Equal(again, raw) {
			t.Errorf("%x encodes to %x", raw, again)
		}
	})
}

// FuzzMeta: whatever token.json says, no file outside the folder is read.
func FuzzMeta(f *testing.F) {
	for _, raw := range seeds(f, "meta") {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := parseMeta(raw)
		if err != nil {
			return
		}
		for name := range m.Files {
			if rel, err := filepath.Rel("/durable", filepath.Join("/durable", m.Dir, name)); err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
				t.Errorf("%q in %q is outside", name, m.Dir)
			}
		}
		again, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseMeta(again); err != nil {
			t.Errorf("%s becomes %s: %v", raw, again, err)
		}
	})
}

// FuzzECPoint: a public key that a token gives is on the curve, or refused.
func FuzzECPoint(f *testing.F) {
	f.Add(generator)
	f.Add(append([]byte{4, 65}, generator...))
	f.Add(append([]byte{4, 64}, generator...))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := parseECPoint(raw)
		if err != nil {
			return
		}
		if !bytes.Contains(raw, p.Bytes()) {
			t.Errorf("%x is read as %x", raw, p.Bytes())
		}
		if _, err := nistec.NewP256Point().SetBytes(p.BytesCompressed()); err != nil {
			t.Errorf("%x is off the curve", raw)
		}
	})
}
