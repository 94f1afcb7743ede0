package upstream_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"coffer/upstream"
	"coffer/upstream/faulty"
)

func openFolder(t *testing.T) upstream.Bucket {
	t.Helper()
	f, err := upstream.NewFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func TestMirror(t *testing.T) {
	testBucket(t, store{
		open: func(t *testing.T) upstream.Bucket {
			m, err := upstream.NewMirror(upstream.MirrorConfig{Buckets: []upstream.Bucket{openFolder(t), openFolder(t)}, Quorum: 2})
			if err != nil {
				t.Fatal(err)
			}
			return m
		},
		names: minioNames,
	})
}

// mirrors is a Mirror over folders that can fail.
type mirrors struct {
	*upstream.Mirror
	parts []*faulty.Bucket

	mu     sync.Mutex
	missed []string // "1 name"
}

func openMirrors(t *testing.T, n, quorum int) *mirrors {
	t.Helper()
	ms := &mirrors{}
	c := upstream.MirrorConfig{Quorum: quorum, Missed: func(i int, name string, err error) {
		ms.mu.Lock()
		defer ms.mu.Unlock()
		ms.missed = append(ms.missed, fmt.Sprint(i, " ", name))
	}}
	for range n {
		f := faulty.New(openFolder(t))
		ms.parts = append(ms.parts, f)
		c.Buckets = append(c.Buckets, f)
	}
	m, err := upstream.NewMirror(c)
	if err != nil {
		t.Fatal(err)
	}
	ms.Mirror = m
	return ms
}

var down = faulty.Fault{Err: upstream.ErrUnavailable}

// One mirror that is away must neither stop us, nor come back with old data.
func TestMirrorDown(t *testing.T) {
	for _, away := range []int{0, 1} {
		m := openMirrors(t, 2, 1)
		put(t, m, "changed", []byte("old"), upstream.PutOptions{})
		put(t, m, "deleted", []byte("old"), upstream.PutOptions{})
		m.parts[away].Add(down)
		put(t, m, "changed", []byte("new"), upstream.PutOptions{})
		if _, err := m.Put(t.Context(), "stream", onlyReader{strings.NewReader("stream")}, -1, upstream.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := m.Delete(t.Context(), "deleted"); err != nil {
			t.Fatal(err)
		}
		want := []string{fmt.Sprint(away, " changed"), fmt.Sprint(away, " stream"), fmt.Sprint(away, " deleted")}
		if !slices.Equal(m.missed, want) {
			t.Errorf("missed %q, want %q", m.missed, want)
		}
		check := func(when string) {
			t.Helper()
			for name, want := range map[string]string{"changed": "new", "stream": "stream"} {
				if got, _ := get(t, m, name, 0, -1); string(got) != want {
					t.Errorf("%s: %s is %q, want %q", when, name, got, want)
				}
			}
			// Absent on one mirror while the other is away says nothing.
			if _, err := m.Head(t.Context(), "deleted"); !errors.Is(err, upstream.ErrNotExist) && !(when == "alone" && errors.Is(err, upstream.ErrUnavailable)) {
				t.Errorf("%s: a deleted object is back: %v", when, err)
			}
			if got := list(t, m, "", ""); !slices.Equal(got, []string{"changed", "stream"}) {
				t.Errorf("%s: listed %q", when, got)
			}
		}
		check("away")
		m.parts[away].Reset()
		check("back")
		for _, name := range []string{"changed", "stream", "deleted"} {
			if err := m.Repair(t.Context(), away, name); err != nil {
				t.Error(err)
			}
		}
		check("repaired")
		m.parts[1-away].Add(down)
		check("alone")
	}
}

// Too few mirrors for the quorum is an error, and an outage is not absence.
func TestMirrorQuorum(t *testing.T) {
	m := openMirrors(t, 3, 2)
	put(t, m, "object", []byte("x"), upstream.PutOptions{})
	m.parts[1].Add(down)
	put(t, m, "object", []byte("y"), upstream.PutOptions{})
	if _, err := m.Head(t.Context(), "absent"); !errors.Is(err, upstream.ErrNotExist) {
		t.Errorf("absent on two of three, which is too many for a quorum of two: %v", err)
	}
	m.parts[2].Add(down)
	if _, err := m.Put(t.Context(), "object", strings.NewReader("z"), 1, upstream.PutOptions{}); !errors.Is(err, upstream.ErrUnavailable) {
		t.Errorf("one of three: %v", err)
	}
	if err := m.Delete(t.Context(), "object"); !errors.Is(err, upstream.ErrUnavailable) {
		t.Errorf("deleted on one of three: %v", err)
	}
	if _, err := m.Head(t.Context(), "absent"); !errors.Is(err, upstream.ErrUnavailable) || errors.Is(err, upstream.ErrNotExist) {
		t.Errorf("absent on one, two are away: %v", err)
	}
	m.parts[0].Add(down)
	if err := m.List(t.Context(), "", "", func(upstream.Info) error { return nil }); !errors.Is(err, upstream.ErrUnavailable) {
		t.Errorf("listing with none: %v", err)
	}
	for _, c := range []upstream.MirrorConfig{{}, {Buckets: []upstream.Bucket{openFolder(t)}, Quorum: 2}, {Buckets: []upstream.Bucket{openFolder(t)}, Quorum: -1}} {
		if _, err := upstream.NewMirror(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}

// Conditions are decided in one place, or two writers would each win on another
// mirror.
func TestMirrorConditions(t *testing.T) {
	m := openMirrors(t, 2, 1)
	if _, err := m.Put(t.Context(), "stream", onlyReader{strings.NewReader("data")}, -1, upstream.PutOptions{IfAbsent: true, Meta: map[string]string{"k": "v"}}); err != nil {
		t.Fatal(err)
	}
	put(t, m, "object", []byte("data"), upstream.PutOptions{IfAbsent: true, Meta: map[string]string{"k": "v"}})
	for _, name := range []string{"stream", "object"} {
		if got, info := get(t, m.parts[1], name, 0, -1); string(got) != "data" || info.Meta["k"] != "v" {
			t.Errorf("second mirror: %q, %+v", got, info)
		}
	}
	m.parts[0].Add(down)
	if _, err := m.Put(t.Context(), "new", strings.NewReader("x"), 1, upstream.PutOptions{IfAbsent: true}); !errors.Is(err, upstream.ErrUnavailable) {
		t.Errorf("without the first mirror: %v", err)
	}
	if _, err := m.parts[1].Head(t.Context(), "new"); !errors.Is(err, upstream.ErrNotExist) {
		t.Errorf("written to the second without the first: %v", err)
	}
}

// A mirror that fails in the middle of a body, or of an upload, holds up nobody.
func TestMirrorFailsMidway(t *testing.T) {
	m := openMirrors(t, 2, 1)
	data := randomBytes(6 << 20)
	id, err := m.StartMultipart(t.Context(), "parts", upstream.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m.parts[0].Add(faulty.Fault{Op: faulty.Put, Err: errors.New("broken")})
	m.parts[0].Add(faulty.Fault{Op: faulty.Part, Nth: 2, Err: errors.New("broken")})
	if _, err := m.Put(t.Context(), "stream", onlyReader{bytes.NewReader(data)}, -1, upstream.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	parts := []upstream.Part{part(t, m, "parts", id, 1, data), part(t, m, "parts", id, 2, data), part(t, m, "parts", id, 3, data)}
	info, err := m.CompleteMultipart(t.Context(), "parts", id, parts, upstream.PutOptions{})
	if err != nil || info.Size != 18<<20 {
		t.Fatalf("%+v, %v", info, err)
	}
	if got, _ := get(t, m, "parts", 6<<20, 6<<20); !bytes.Equal(got, data) {
		t.Error("other bytes")
	}
	if got, _ := get(t, m, "stream", 0, -1); !bytes.Equal(got, data) {
		t.Error("other bytes of the stream")
	}
	if !slices.Equal(m.missed, []string{"0 stream", "0 parts"}) {
		t.Errorf("missed %q", m.missed)
	}
	// A body that is cut must not be stored on any.
	if _, err := m.Put(t.Context(), "cut", failing(data, io.ErrUnexpectedEOF), -1, upstream.PutOptions{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut body: %v", err)
	}
	if got := list(t, m, "cut", ""); len(got) != 0 {
		t.Errorf("a cut body is stored: %q", got)
	}
}
