package proxy

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// loseIndex starts the gateway again with an index built from the upstream.
func (w *wire) loseIndex() {
	w.t.Helper()
	w.g.stop()
	if err := os.RemoveAll(filepath.Join(w.g.config.StateDir, "index")); err != nil {
		w.t.Fatal(err)
	}
	w.g.start()
}

// TestSettingsAreBounded: what is kept of a bucket can be read again.
func TestSettingsAreBounded(t *testing.T) {
	w := newBucket(t, func(c *Config) { c.Public = true })
	block := func(padding int) call {
		return call{method: "PUT", path: "/bucket", query: "publicAccessBlock=",
			body: []byte("<PublicAccessBlockConfiguration><BlockPublicPolicy>true</BlockPublicPolicy>" + strings.Repeat(" ", padding) + "</PublicAccessBlockConfiguration>")}
	}
	w.must(block(maxXML-200), 400)
	w.must(block(3000), 200)
	w.loseIndex()
	a := w.must(call{method: "GET", path: "/bucket", query: "publicAccessBlock="}, 200)
	if len(a.body) > 400 || !bytes.Contains(a.body, []byte("<BlockPublicPolicy>true<")) || !bytes.Contains(a.body, []byte("<IgnorePublicAcls>false<")) {
		t.Errorf("the block reads %s", a.body)
	}

	ix, err := w.g.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	keep := func(size int) error {
		b, err := ix.findBucket("bucket")
		if err != nil {
			t.Fatal(err)
		}
		b.keep(corsDocument, make([]byte, size))
		return w.g.keepBucket(t.Context(), ix, "bucket", b)
	}
	if err := keep(maxBucketRow - 100); !errors.Is(err, errInvalidRequest) {
		t.Errorf("too large a row: %v", err)
	}
	if err := keep(maxBucketRow - 4096); err != nil {
		t.Errorf("the largest row, about: %v", err)
	}
	w.loseIndex()
	w.must(call{method: "HEAD", path: "/bucket"}, 200)
}
