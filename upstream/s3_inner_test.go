package upstream

import (
	"bytes"
	"io"
	"testing"

	"coffer/internal/testminio"
)

// A copy of more than 5 GiB goes in parts; here the bound is lower.
func TestCopyInParts(t *testing.T) {
	endpoint, access, secret := testminio.Start(t)
	s, err := NewS3(Config{Type: "s3", Endpoint: endpoint, Bucket: "copies", Create: true, AccessKey: access, SecretKey: NewSecret(secret)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.maxCopy = 5 << 20
	data := bytes.Repeat([]byte("0123456789abcdef"), 11<<20/16)
	if _, err := s.Put(t.Context(), "src", bytes.NewReader(data), int64(len(data)), PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, dst := range []string{"dst", "src"} {
		info, err := s.Copy(t.Context(), dst, "src", PutOptions{Meta: map[string]string{"k": dst}})
		if err != nil || info.Size != int64(len(data)) || info.Meta["k"] != dst {
			t.Fatalf("%+v, %v", info, err)
		}
		r, _, err := s.Get(t.Context(), dst, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// The same upload has the same ETag on every S3 store that makes MD5s.
func TestJoinedETag(t *testing.T) {
	parts := []Part{{1, "d41d8cd98f00b204e9800998ecf8427e"}, {2, "d41d8cd98f00b204e9800998ecf8427e"}}
	if got, want := joinedETag(parts), "5873dd45edd01f09c1ef2e7819369e8e-2"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := joinedETag([]Part{{1, "not an md5"}}); got != "" {
		t.Errorf("got %q of no MD5", got)
	}
}

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-9/100", "bytes 0-0/1", "bytes */100", "bytes 5-4/10", "bytes 0--1/0", "bytes -1-2/3", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		start, size, err := parseContentRange(s)
		if err == nil && (start < 0 || size < 0 || start > size) {
			t.Errorf("%q: %d of %d", s, start, size)
		}
	})
}
