package proxy

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"

	"coffer/seal"
)

// specimen is an object of some kind, its twin of the same size, and what the
// storage held under its name before.
type specimen struct {
	kind, bucket, key, version string
	want                       []byte
	name, twin                 string // upstream
	older                      stored
	parts                      []int64 // sealed sizes, of one with several
}

// specimens makes one of every kind of object there is upstream.
func specimens(t *testing.T, g *gateway, l *liar) []specimen {
	t.Helper()
	c := g.client()
	for _, bucket := range []string{"plain", "versions"} {
		if err := c.MakeBucket(t.Context(), bucket, minio.MakeBucketOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.EnableVersioning(t.Context(), "versions"); err != nil {
		t.Fatal(err)
	}
	write := func(bucket, key string, data []byte) string {
		t.Helper()
		info, err := c.PutObject(t.Context(), bucket, key, bytes.NewReader(data), int64(len(data)), minio.PutObjectOptions{PartSize: 5 << 20})
		if err != nil {
			t.Fatal(err)
		}
		return info.VersionID
	}
	copied := func(src, dst string) {
		t.Helper()
		_, err := c.CopyObject(t.Context(), minio.CopyDestOptions{Bucket: "plain", Object: dst, ReplaceMetadata: true, UserMetadata: map[string]string{"k": dst}},
			minio.CopySrcOptions{Bucket: "plain", Object: src})
		if err != nil {
			t.Fatal(err)
		}
	}
	long := strings.Repeat("long/", 3) + strings.Repeat("n", 900)
	var all []specimen
	add := func(kind, bucket, key string, size int, make func(key string, data []byte) string) {
		t.Helper()
		s := specimen{kind: kind, bucket: bucket, key: key, want: randomBytes(12, size)}
		name := func(key, version string) string {
			name, err := g.objectName(g.index.keys, bucket, key, version)
			if err != nil {
				t.Fatal(err)
			}
			return name
		}
		make(key, randomBytes(11, size))
		s.older = l.objects[name(key, "")]
		s.version = make(key, s.want)
		s.name, s.twin = name(key, s.version), name(key+"2", make(key+"2", randomBytes(13, size)))
		if s.version != "" { // the older version has a place of its own
			s.older = l.objects[name(key, make(key, randomBytes(14, size)))]
		}
		all = append(all, s)
	}
	plain := func(key string, data []byte) string { return write("plain", key, data) }
	add("small", "plain", "small", 1000, plain)
	add("stream", "plain", "stream", 1<<20+1, plain)
	add("parts", "plain", "parts", 10<<20+7, plain)
	all[len(all)-1].parts = []int64{seal.SealedSize(5 << 20), seal.SealedSize(5 << 20), seal.SealedSize(7)}
	add("long name", "plain", long, 70_000, plain)
	add("copy", "plain", "copy", 200_000, func(key string, data []byte) string {
		write("plain", "source of "+key, data)
		copied("source of "+key, key)
		return ""
	})
	add("new metadata", "plain", "meta", 3000, func(key string, data []byte) string {
		write("plain", key, data)
		copied(key, key)
		return ""
	})
	add("version", "versions", "version", 5000, func(key string, data []byte) string { return write("versions", key, data) })
	return all
}

// get reads the whole specimen.
func (s *specimen) get(t *testing.T, g *gateway) ([]byte, error) {
	t.Helper()
	core := minio.Core{Client: g.client()}
	body, _, _, err := core.GetObject(t.Context(), s.bucket, s.key, minio.GetObjectOptions{VersionID: s.version})
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(body)
}

// damages are what a storage can do to the object that whole is, beside a twin.
func (s *specimen) damages(whole, twin stored) map[string]stored {
	with := func(data []byte) stored { return stored{data, whole.meta, whole.etag} }
	out := map[string]stored{
		"flip":                      with(flipped(whole.data, len(whole.data)/2)),
		"truncate":                  with(whole.data[:len(whole.data)-1]),
		"extend":                    with(slices.Concat(whole.data, []byte{0})),
		"swap two":                  twin,
		"swap the bytes of two":     with(twin.data),
		"swap the metadata of two":  {whole.data, twin.meta, whole.etag},
		"roll back":                 s.older,
		"roll back the bytes":       with(s.older.data),
		"roll back the metadata":    {whole.data, s.older.meta, whole.etag},
		"strip metadata":            {whole.data, nil, whole.etag},
		"the footer of another":     with(slices.Concat(whole.data[:len(whole.data)-544], twin.data[len(twin.data)-544:])),
		"the header of another":     with(slices.Concat(twin.data[:192], whole.data[192:])),
		"nothing":                   with(nil),
		"the whole object, twice":   with(slices.Concat(whole.data, whole.data)),
		"something in the clear":    with(s.want),
		"something before the rest": with(slices.Concat([]byte{0}, whole.data)),
	}
	if len(whole.data) > 192+3*65552 {
		chunk := func(n int) []byte { return whole.data[192+n*65552:][:65552] }
		out["swap two chunks"] = with(slices.Concat(whole.data[:192], chunk(1), chunk(0), whole.data[192+2*65552:]))
		out["a chunk twice"] = with(slices.Concat(whole.data[:192], chunk(0), chunk(0), whole.data[192+2*65552:]))
		out["a chunk less"] = with(slices.Concat(whole.data[:192], whole.data[192+65552:]))
	}
	if len(s.parts) > 0 {
		a, b := whole.data[:s.parts[0]], whole.data[s.parts[0]:][:s.parts[1]]
		rest := whole.data[s.parts[0]+s.parts[1]:]
		out["swap two parts"] = with(slices.Concat(b, a, rest))
		out["a part twice"] = with(slices.Concat(a, a, b, rest))
		out["a part in place of another"] = with(slices.Concat(a, a, rest))
		out["a part less"] = with(slices.Concat(b, rest))
		out["a part of another"] = with(slices.Concat(twin.data[:s.parts[0]], b, rest))
		out["a part of an earlier one"] = with(slices.Concat(s.older.data[:s.parts[0]], b, rest))
	}
	return out
}

func flipped(data []byte, at int) []byte {
	data = bytes.Clone(data)
	data[at] ^= 1
	return data
}

// TestDamageOfEveryKind: for every kind of object, whatever the storage does to it
// makes a GET fail; also, but for a
// rollback, of a gateway that has lost its index.
func TestDamageOfEveryKind(t *testing.T) {
	g, l := startLying(t)
	all := specimens(t, g, l)
	check := func(s *specimen, what string) {
		t.Helper()
		got, err := s.get(t, g)
		if err == nil {
			t.Errorf("%s, %s: a GET gives %d bytes", s.kind, what, len(got))
		}
		if !bytes.HasPrefix(s.want, got) || len(got) == len(s.want) {
			t.Errorf("%s, %s: a GET gives %d bytes that are not a true beginning of %d", s.kind, what, len(got), len(s.want))
		}
		if e := minio.ToErrorResponse(err); e.Code == "ObjectCorrupt" && e.Key != s.key {
			t.Errorf("%s, %s: the error names %q", s.kind, what, e.Key)
		}
	}
	for i := range all {
		s := &all[i]
		if got, err := s.get(t, g); err != nil || !bytes.Equal(got, s.want) {
			t.Fatalf("%s before all: %d bytes, %v", s.kind, len(got), err)
		}
		whole := l.objects[s.name]
		if len(s.parts) > 0 && !bytes.Equal(whole.data[:8], whole.data[s.parts[0]:][:8]) {
			t.Fatal("the second part is not where it should be")
		}
		damages := s.damages(whole, l.objects[s.twin])
		for _, what := range sortedNames(damages) {
			l.objects[s.name] = damages[what]
			check(s, what)
		}
		delete(l.objects, s.name)
		check(s, "delete")
		l.objects[s.name] = whole
		if got, err := s.get(t, g); err != nil || !bytes.Equal(got, s.want) {
			t.Errorf("%s after all: %d bytes, %v", s.kind, len(got), err)
		}
	}
	for _, what := range []string{"flip", "swap two", "strip metadata", "the footer of another"} {
		wholes := make(map[string]stored)
		for i := range all {
			s := &all[i]
			wholes[s.name] = l.objects[s.name]
			l.objects[s.name] = s.damages(wholes[s.name], l.objects[s.twin])[what]
		}
		g.stop()
		if err := os.RemoveAll(filepath.Join(g.config.StateDir, "index")); err != nil {
			t.Fatal(err)
		}
		g.start()
		for i := range all {
			check(&all[i], what+", and no index")
		}
		for name, whole := range wholes {
			l.objects[name] = whole
		}
	}
}

// TestDamagedBucketRow: what describes a bucket is held to its name and its key as
// well: a gateway without an index does not take over what it is not sure of.
func TestDamagedBucketRow(t *testing.T) {
	g, l := startLying(t)
	all := specimens(t, g, l)
	row := func(bucket string) string {
		folder, err := g.bucketFolder(g.index.keys, bucket)
		if err != nil {
			t.Fatal(err)
		}
		return folder + bucketObject
	}
	name, other := row("plain"), row("versions")
	whole := l.objects[name]
	for what, damaged := range map[string]stored{
		"flip":     {flipped(whole.data, len(whole.data)/2), whole.meta, whole.etag},
		"truncate": {whole.data[:len(whole.data)-1], whole.meta, whole.etag},
		"extend":   {slices.Concat(whole.data, []byte{0}), whole.meta, whole.etag},
		"swap":     l.objects[other],
		"nothing":  {nil, whole.meta, whole.etag},
		"whole":    whole,
	} {
		l.objects[name] = damaged
		g.stop()
		if err := os.RemoveAll(filepath.Join(g.config.StateDir, "index")); err != nil {
			t.Fatal(err)
		}
		g.start()
		got, err := all[0].get(t, g)
		if what == "whole" {
			if err != nil || !bytes.Equal(got, all[0].want) {
				t.Errorf("%s: %d bytes, %v", what, len(got), err)
			}
		} else if err == nil {
			t.Errorf("%s: a GET from the bucket gives %d bytes", what, len(got))
		}
	}
}
