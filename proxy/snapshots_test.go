package proxy

import (
	"context"
	"encoding/xml"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// tree is snapshots in memory.
type tree struct{ fstest.MapFS }

func (tr tree) name(p string) string {
	if p == "" {
		return "."
	}
	return p
}

func (tr tree) ReadDir(_ context.Context, p string, fn func(SnapshotEntry) error) error {
	entries, err := fs.ReadDir(tr.MapFS, tr.name(p))
	for _, e := range entries {
		s, _ := tr.Stat(context.Background(), path.Join(p, e.Name()))
		if err := fn(s); err != nil {
			return err
		}
	}
	return err
}

func (tr tree) Stat(_ context.Context, p string) (SnapshotEntry, error) {
	info, err := fs.Stat(tr.MapFS, tr.name(p))
	if err != nil {
		return SnapshotEntry{}, err
	}
	return SnapshotEntry{Name: info.Name(), Dir: info.IsDir(), Size: info.Size(), Modified: time.Unix(1e9, 0)}, nil
}

func (tr tree) Open(_ context.Context, p string, off, n int64) (io.ReadCloser, error) {
	data, err := fs.ReadFile(tr.MapFS, p)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(strings.NewReader(string(data[off : off+n]))), nil
}

// TestSnapshots: the read-only bucket lists every file in order, in pages and by
// folders, gives ranges, and takes nothing.
func TestSnapshots(t *testing.T) {
	files := []string{"home/2026/a", "home/2026/a-b", "home/2026/a/x", "home/2026/a/y/z", "home/2026/a0", "home/2027/q", "work/1/w"}
	m := make(fstest.MapFS)
	for _, name := range files {
		if name != "home/2026/a" { // a folder here
			m[name] = &fstest.MapFile{Data: []byte("content of " + name)}
		}
	}
	w := newWire(t, startGateway(t, func(c *Config) { c.Snapshots = tree{m} }))
	keys := []string{"home/2026/a-b", "home/2026/a/x", "home/2026/a/y/z", "home/2026/a0", "home/2027/q", "work/1/w"}
	list := func(query string) (got []string, last string) {
		t.Helper()
		a := w.must(call{method: "GET", path: "/snapshots", query: "list-type=2&" + query}, 200)
		var out struct {
			Contents              []struct{ Key string }
			CommonPrefixes        []struct{ Prefix string }
			NextContinuationToken string
		}
		if err := xml.Unmarshal(a.body, &out); err != nil {
			t.Fatal(err)
		}
		for _, c := range out.Contents {
			got = append(got, c.Key)
		}
		for _, c := range out.CommonPrefixes {
			got = append(got, c.Prefix)
		}
		return got, out.NextContinuationToken
	}
	var all []string
	for token := ""; ; {
		query := "max-keys=2"
		if token != "" {
			query += "&continuation-token=" + awsEncode(token, true)
		}
		page, next := list(query)
		all = append(all, page...)
		if token = next; token == "" {
			break
		}
	}
	if !slices.Equal(all, keys) {
		t.Errorf("got  %q\nwant %q", all, keys)
	}
	for query, want := range map[string][]string{
		"delimiter=/":                         {"home/", "work/"},
		"delimiter=/&prefix=home/":            {"home/2026/", "home/2027/"},
		"delimiter=/&prefix=home/2026/":       {"home/2026/a-b", "home/2026/a0", "home/2026/a/"},
		"prefix=home/2026/a/":                 {"home/2026/a/x", "home/2026/a/y/z"},
		"start-after=home/2026/a/x":           keys[2:],
		"delimiter=/&start-after=home/":       {"work/"},
		"delimiter=-&prefix=home/2026/":       {"home/2026/a/x", "home/2026/a/y/z", "home/2026/a0", "home/2026/a-"},
		"prefix=none":                         nil,
		"delimiter=/&prefix=home/2026/a/none": nil,
	} {
		if got, _ := list(query); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", query, got, want)
		}
	}
	if a := w.must(call{method: "GET", path: "/snapshots/home/2026/a/x", header: header("Range", "bytes=11-14")}, 206); string(a.body) != "home" {
		t.Errorf("a range is %q", a.body)
	}
	head := w.must(call{method: "HEAD", path: "/snapshots/work/1/w"}, 200)
	w.must(call{method: "HEAD", path: "/snapshots/work/1/w", header: header("If-None-Match", head.header.Get("Etag"))}, 304)
	for _, p := range []string{"/snapshots/home", "/snapshots/home/2026/a/", "/snapshots/none"} {
		w.must(call{method: "GET", path: p}, 404)
	}
	if a := w.post("snapshots", nil, "x"); a.status != 403 {
		t.Errorf("an upload form: %d %s", a.status, a.body)
	}
	for _, c := range []call{{method: "PUT", path: "/snapshots/new"}, {method: "DELETE", path: "/snapshots/work/1/w"}, {method: "PUT", path: "/snapshots"}, {method: "DELETE", path: "/snapshots"}} {
		w.must(c, 403)
	}
	w.must(call{method: "PUT", path: "/bucket"}, 200)
	if a := w.do(call{method: "PUT", path: "/bucket/copy", header: header("X-Amz-Copy-Source", "snapshots/work/1/w")}); a.status != 404 {
		t.Errorf("a copy out of the snapshots: %d", a.status)
	}
	if a := w.must(call{method: "GET", path: "/"}, 200); !strings.Contains(string(a.body), "<Name>snapshots</Name>") {
		t.Errorf("buckets: %s", a.body)
	}
}
