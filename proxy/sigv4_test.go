package proxy

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// vector is a request and what becomes of it.
type vector struct {
	name   string
	expect string
	after  time.Duration // how long after it was signed it arrives
	raw    []byte
}

// vectors reads testdata/sigv4: a text head, an empty line, the request.
func vectors(t testing.TB) []vector {
	t.Helper()
	names, err := filepath.Glob("testdata/sigv4/*")
	if err != nil || len(names) == 0 {
		t.Fatalf("no vectors: %v", err)
	}
	var out []vector
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		head, raw, ok := bytes.Cut(data, []byte("\n\n"))
		if !ok {
			t.Fatalf("%s has no head", name)
		}
		v := vector{name: filepath.Base(name), raw: raw}
		for line := range strings.Lines(string(head)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			switch key {
			case "expect":
				v.expect = value
			case "after":
				if v.after, err = time.ParseDuration(value); err != nil {
					t.Fatal(err)
				}
			}
		}
		out = append(out, v)
	}
	return out
}

// example is a gateway that knows the access key of Amazon's documentation.
func example(t testing.TB) *Proxy {
	t.Helper()
	p, err := New(Config{
		Bucket: newLiar(), Keys: unlocked{}, StateDir: t.TempDir(), Domains: []string{"s3.amazonaws.com"},
		Access: []AccessKey{{ID: "AKIAIOSFODNN7EXAMPLE", Secret: NewSecret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var signedAt = time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)

// authenticateAll authenticates a request and reads its body to the end.
func authenticateAll(p *Proxy, r *http.Request) error {
	rq := &request{Request: r, query: r.URL.Query()}
	var err error
	if rq.who, rq.pay, err = p.authenticate(r, rq.query); err != nil {
		return err
	}
	b, err := p.openBody(rq, true, true)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, b)
	return err
}

// TestVectors: the examples of Amazon's documentation, and what differs from them.
func TestVectors(t *testing.T) {
	p := example(t)
	for _, v := range vectors(t) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(v.raw)))
		if err != nil {
			t.Fatalf("%s: %v", v.name, err)
		}
		p.now = func() time.Time { return signedAt.Add(v.after) }
		got := "ok"
		if r.ContentLength == 0 {
			r.Header.Set("Content-Length", "0")
		}
		if err := authenticateAll(p, r); err != nil {
			got = p.failed(err).code
		}
		if got != v.expect {
			t.Errorf("%s: got %s, want %s", v.name, got, v.expect)
		}
	}
}

// FuzzRequest: whatever a request holds, it is answered with a failure of the table
// or authenticated, and only a request that is signed is.
func FuzzRequest(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.raw)
	}
	p := example(f)
	p.now = func() time.Time { return signedAt }
	good := make(map[string]bool)
	for _, v := range vectors(f) {
		if v.expect == "ok" {
			good[signatureIn(v.raw)] = true
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			return
		}
		err = authenticateAll(p, r)
		if err == nil && !good[signatureIn(raw)] {
			t.Errorf("a forged request is taken: %q", raw)
		}
		if err != nil && p.failed(err).code == "InternalError" {
			t.Errorf("%q: %v", raw, err)
		}
	})
}

// signatureIn finds the signature in a request: the one thing nobody can make.
func signatureIn(raw []byte) string {
	_, rest, _ := strings.Cut(string(raw), "Signature=")
	return rest[:min(64, len(rest))]
}
