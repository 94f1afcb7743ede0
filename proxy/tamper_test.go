package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/minio/minio-go/v7"

	"coffer/upstream"
)

// liar is an upstream in memory whose objects a test can change.
type liar struct {
	mu      sync.Mutex
	objects map[string]stored
	uploads map[string]map[int][]byte
	metas   map[string]map[string]string
	count   int
	fail    func(op, name string) error // before the call takes effect
	after   func(op, name string) error // after it did
}

type stored struct {
	data []byte
	meta map[string]string
	etag string
}

func newLiar() *liar {
	return &liar{objects: make(map[string]stored), uploads: make(map[string]map[int][]byte), metas: make(map[string]map[string]string)}
}

func (l *liar) call(op, name string, do func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		if err := l.fail(op, name); err != nil {
			return err
		}
	}
	if err := do(); err != nil {
		return err
	}
	if l.after != nil {
		return l.after(op, name)
	}
	return nil
}

func (l *liar) store(name string, data []byte, meta map[string]string) {
	l.count++
	l.objects[name] = stored{data, meta, fmt.Sprint(l.count)}
}

func (l *liar) info(name string, s stored) upstream.Info {
	return upstream.Info{Name: name, Size: int64(len(s.data)), ETag: s.etag, Meta: s.meta}
}

func (l *liar) Put(_ context.Context, name string, body io.Reader, size int64, o upstream.PutOptions) (upstream.Info, error) {
	data, err := io.ReadAll(body)
	if err != nil {
		return upstream.Info{}, err
	}
	if size >= 0 && int64(len(data)) != size {
		return upstream.Info{}, fmt.Errorf("body of %d bytes, declared %d", len(data), size)
	}
	err = l.call("put", name, func() error {
		if _, there := l.objects[name]; there && o.IfAbsent {
			return upstream.ErrExists
		}
		l.store(name, data, o.Meta)
		return nil
	})
	return upstream.Info{}, err
}

func (l *liar) Get(_ context.Context, name string, off, n int64) (io.ReadCloser, upstream.Info, error) {
	var body io.ReadCloser
	var info upstream.Info
	err := l.call("get", name, func() error {
		s, ok := l.objects[name]
		if !ok {
			return upstream.ErrNotExist
		}
		off = min(off, int64(len(s.data)))
		end := int64(len(s.data))
		if n >= 0 {
			end = min(end, off+n)
		}
		body, info = io.NopCloser(bytes.NewReader(s.data[off:end])), l.info(name, s)
		return nil
	})
	return body, info, err
}

func (l *liar) Head(_ context.Context, name string) (upstream.Info, error) {
	var info upstream.Info
	err := l.call("head", name, func() error {
		s, ok := l.objects[name]
		if !ok {
			return upstream.ErrNotExist
		}
		info = l.info(name, s)
		return nil
	})
	return info, err
}

func (l *liar) names() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return sortedNames(l.objects)
}

func (l *liar) List(_ context.Context, prefix, after string, fn func(upstream.Info) error) error {
	for _, name := range l.names() {
		if strings.HasPrefix(name, prefix) && name > after {
			if err := fn(upstream.Info{Name: name}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *liar) Delete(_ context.Context, name string) error {
	return l.call("delete", name, func() error {
		delete(l.objects, name)
		return nil
	})
}

func (l *liar) Copy(_ context.Context, dst, src string, o upstream.PutOptions) (upstream.Info, error) {
	return upstream.Info{}, l.call("copy", dst, func() error {
		s, ok := l.objects[src]
		if !ok {
			return upstream.ErrNotExist
		}
		l.store(dst, s.data, o.Meta)
		return nil
	})
}

func (l *liar) StartMultipart(_ context.Context, name string, o upstream.PutOptions) (string, error) {
	var id string
	err := l.call("start", name, func() error {
		l.count++
		id = fmt.Sprint(l.count)
		l.uploads[id], l.metas[id] = make(map[int][]byte), o.Meta
		return nil
	})
	return id, err
}

func (l *liar) PutPart(_ context.Context, name, id string, number int, body io.Reader, size int64) (string, error) {
	data, err := io.ReadAll(body)
	if err != nil || int64(len(data)) != size {
		return "", errors.Join(err, fmt.Errorf("part of %d bytes, declared %d", len(data), size))
	}
	return "part", l.call("part", name, func() error {
		if l.uploads[id] == nil {
			return upstream.ErrNotExist
		}
		l.uploads[id][number] = data
		return nil
	})
}

func (l *liar) CompleteMultipart(_ context.Context, name, id string, parts []upstream.Part, _ upstream.PutOptions) (upstream.Info, error) {
	return upstream.Info{}, l.call("complete", name, func() error {
		if l.uploads[id] == nil {
			return upstream.ErrNotExist
		}
		var data []byte
		for _, part := range parts {
			data = append(data, l.uploads[id][part.Number]...)
		}
		l.store(name, data, l.metas[id])
		delete(l.uploads, id)
		return nil
	})
}

func (l *liar) AbortMultipart(_ context.Context, name, id string) error {
	return l.call("abort", name, func() error {
		delete(l.uploads, id)
		return nil
	})
}

func (l *liar) ListMultipart(context.Context, string, func(upstream.Upload) error) error { return nil }

// startLying starts a gateway over a liar.
func startLying(t testing.TB) (*gateway, *liar) {
	l := newLiar()
	return startGateway(t, func(c *Config) { c.Bucket = l }), l
}

// randomBytes are always the same for one seed.
func randomBytes(seed byte, size int) []byte {
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{seed}).Read(data)
	return data
}

// read gets an object, or a range of it, and returns what came before the error.
func read(t testing.TB, c *minio.Client, key string, off, n int64) ([]byte, error) {
	t.Helper()
	var o minio.GetObjectOptions
	if n >= 0 {
		if err := o.SetRange(off, off+n-1); err != nil {
			t.Fatal(err)
		}
	}
	core := minio.Core{Client: c}
	body, _, _, err := core.GetObject(t.Context(), "bucket", key, o)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(body)
}

// victims are objects of every kind: sealed in one piece, streamed, in parts, and
// a copy.
func victims(t testing.TB, g *gateway) map[string][]byte {
	t.Helper()
	c := g.client()
	if err := c.MakeBucket(t.Context(), "bucket", minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	objects := map[string][]byte{
		"empty": {}, "small": randomBytes(1, 1000), "chunks": randomBytes(2, 300000), "stream": randomBytes(3, 1<<20+1),
		"parts": randomBytes(4, 11<<20),
	}
	for key, data := range objects {
		put(t, c, key, data)
	}
	_, err := c.CopyObject(t.Context(), minio.CopyDestOptions{Bucket: "bucket", Object: "copy"}, minio.CopySrcOptions{Bucket: "bucket", Object: "chunks"})
	if err != nil {
		t.Fatal(err)
	}
	objects["copy"] = objects["chunks"]
	return objects
}

func put(t testing.TB, c *minio.Client, key string, data []byte) {
	t.Helper()
	_, err := c.PutObject(t.Context(), "bucket", key, bytes.NewReader(data), int64(len(data)), minio.PutObjectOptions{PartSize: 5 << 20})
	if err != nil {
		t.Fatalf("putting %s: %v", key, err)
	}
}

// refuses demands that a GET of key fails, that what it gave before is a true
// beginning of want, and that the error names the object if it is one of S3.
func refuses(t *testing.T, c *minio.Client, key string, want []byte, what string) {
	t.Helper()
	got, err := read(t, c, key, 0, -1)
	if err == nil {
		t.Errorf("%s: a GET of %s succeeds", what, key)
	}
	if !bytes.HasPrefix(want, got) || len(got) == len(want) && len(want) > 0 {
		t.Errorf("%s: a GET of %s gives %d bytes that are not a true beginning of %d", what, key, len(got), len(want))
	}
	var e minio.ErrorResponse
	if errors.As(err, &e) && (e.Key != key || e.Code != "ObjectCorrupt") {
		t.Errorf("%s: the error for %s is %s of %q", what, key, e.Code, e.Key)
	}
}

// TestTamper: whatever the storage does to an object, a GET fails; it gives no
// wrong byte, and no part as if it were the whole.
func TestTamper(t *testing.T) {
	g, l := startLying(t)
	c := g.client()
	objects := victims(t, g)
	for _, key := range sortedNames(objects) {
		want := objects[key]
		if got, err := read(t, c, key, 0, -1); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%s before all: %d bytes, %v", key, len(got), err)
		}
		name, err := g.objectName(g.index.keys, "bucket", key, "")
		if err != nil {
			t.Fatal(err)
		}
		whole := l.objects[name]
		try := func(what string, s stored) {
			t.Helper()
			l.objects[name] = s
			refuses(t, c, key, want, what)
			l.objects[name] = whole
		}
		for _, at := range places(len(whole.data)) {
			data := bytes.Clone(whole.data)
			data[at] ^= 1
			try(fmt.Sprintf("flipped at %d of %d", at, len(data)), stored{data, whole.meta, whole.etag})
		}
		n := len(whole.data)
		for _, cut := range []int{0, 1, 191, 192, n / 2, n - 545, n - 32, n - 1} {
			if cut >= 0 && cut < n {
				try(fmt.Sprintf("cut at %d", cut), stored{whole.data[:cut], whole.meta, whole.etag})
			}
		}
		try("extended", stored{append(bytes.Clone(whole.data), 0), whole.meta, whole.etag})
		try("doubled", stored{append(bytes.Clone(whole.data), whole.data...), whole.meta, whole.etag})
		try("metadata stripped", stored{whole.data, nil, whole.etag})
		envelope := []byte(whole.meta[envelopeKey])
		envelope[len(envelope)/2] ^= 1
		try("envelope flipped", stored{whole.data, map[string]string{envelopeKey: string(envelope)}, whole.etag})
		try("plain bytes", stored{want, whole.meta, whole.etag})
		delete(l.objects, name)
		refuses(t, c, key, want, "deleted")
		l.objects[name] = whole
	}
}

// places are where to flip a bit: every byte of a small object; of a large one
// the edges of header, chunks and footer, and some in between.
func places(n int) []int {
	var out []int
	if n <= 2000 {
		for i := range n {
			out = append(out, i)
		}
		return out
	}
	out = append(out, 0, 8, 11, 20, 40, 75, 130, 160, 184, 191, 192, 65727, 65728, 65743, 65744)
	for back := 1; back <= 600; back += 37 {
		out = append(out, n-back)
	}
	for i := 1; i < 6; i++ {
		out = append(out, n/6*i)
	}
	return slices.DeleteFunc(out, func(at int) bool { return at < 0 || at >= n })
}

// TestSwap: two objects of the same size in each other's place, with and without
// their envelopes.
func TestSwap(t *testing.T) {
	g, l := startLying(t)
	c := g.client()
	victims(t, g)
	one, two := randomBytes(8, 5000), randomBytes(9, 5000)
	put(t, c, "one", one)
	put(t, c, "two", two)
	a, _ := g.objectName(g.index.keys, "bucket", "one", "")
	b, _ := g.objectName(g.index.keys, "bucket", "two", "")
	first, second := l.objects[a], l.objects[b]
	l.objects[a], l.objects[b] = second, first
	refuses(t, c, "one", one, "swapped")
	refuses(t, c, "two", two, "swapped")
	l.objects[a] = stored{second.data, first.meta, first.etag}
	l.objects[b] = stored{first.data, second.meta, second.etag}
	refuses(t, c, "one", one, "bytes swapped")
	refuses(t, c, "two", two, "bytes swapped")
	l.objects[a] = stored{first.data, second.meta, first.etag}
	refuses(t, c, "one", one, "envelope swapped")
}

// TestRollback: an older version of an object, valid in itself, is not taken for
// the newest.
func TestRollback(t *testing.T) {
	g, l := startLying(t)
	c := g.client()
	victims(t, g)
	for _, size := range []int{100, 2 << 20} {
		old, young := randomBytes(5, size), randomBytes(6, size)
		put(t, c, "key", old)
		name, _ := g.objectName(g.index.keys, "bucket", "key", "")
		before := l.objects[name]
		put(t, c, "key", young)
		after := l.objects[name]
		l.objects[name] = before
		refuses(t, c, "key", young, "rolled back")
		g.restart()
		c = g.client()
		refuses(t, c, "key", young, "rolled back, after a restart")
		l.objects[name] = after
		if got, err := read(t, c, "key", 0, -1); err != nil || !bytes.Equal(got, young) {
			t.Errorf("after all: %d bytes, %v", len(got), err)
		}
	}
	// An object that was removed does not come back.
	put(t, c, "gone", []byte("gone"))
	name, _ := g.objectName(g.index.keys, "bucket", "gone", "")
	before := l.objects[name]
	if err := c.RemoveObject(t.Context(), "bucket", "gone", minio.RemoveObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	l.objects[name] = before
	if _, err := read(t, c, "gone", 0, -1); minio.ToErrorResponse(err).Code != "NoSuchKey" {
		t.Errorf("a removed object that the storage brings back: %v", err)
	}
}

// TestRangesOfDamaged: a range is refused if its own chunks are damaged, and given if
// they are not.
func TestRangesOfDamaged(t *testing.T) {
	g, l := startLying(t)
	c := g.client()
	objects := victims(t, g)
	for _, key := range []string{"chunks", "stream", "parts"} {
		want := objects[key]
		name, _ := g.objectName(g.index.keys, "bucket", key, "")
		s := l.objects[name]
		data := bytes.Clone(s.data)
		data[192+65552+100] ^= 1 // in the second chunk
		l.objects[name] = stored{data, s.meta, s.etag}
		if _, err := read(t, c, key, 65536, 10); err == nil {
			t.Errorf("%s: a range in a damaged chunk is given", key)
		}
		if got, err := read(t, c, key, 100, 65436); err != nil || !bytes.Equal(got, want[100:65536]) {
			t.Errorf("%s: a range in a good chunk: %d bytes, %v", key, len(got), err)
		}
		if got, err := read(t, c, key, 131072, 1000); err != nil || !bytes.Equal(got, want[131072:132072]) {
			t.Errorf("%s: a range behind a damaged chunk: %d bytes, %v", key, len(got), err)
		}
	}
}
