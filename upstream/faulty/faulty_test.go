package faulty_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"coffer/upstream"
	"coffer/upstream/faulty"
)

func open(t *testing.T, names ...string) *faulty.Bucket {
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
	for _, n := range names {
		if _, err := f.Put(t.Context(), n, strings.NewReader(n), int64(len(n)), upstream.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return faulty.New(f)
}

func read(t *testing.T, b upstream.Bucket, name string, off, n int64) (string, error) {
	t.Helper()
	r, _, err := b.Get(t.Context(), name, off, n)
	if err != nil {
		return "", err
	}
	data, err := io.ReadAll(r)
	return string(data), errors.Join(err, r.Close())
}

// A fault that hits another call than the one meant makes the test that uses it
// worthless.
func TestWhich(t *testing.T) {
	b := open(t, "a/1", "b/1")
	broken := errors.New("broken")
	b.Add(faulty.Fault{Op: faulty.Head, Prefix: "a/", Nth: 2, Err: broken})
	b.Add(faulty.Fault{Op: faulty.Delete, From: 2, Err: broken})
	var got []bool
	for _, name := range []string{"a/1", "b/1", "a/1", "b/1", "a/1"} {
		_, err := b.Head(t.Context(), name)
		got = append(got, errors.Is(err, broken))
	}
	for range 3 {
		got = append(got, errors.Is(b.Delete(t.Context(), "none"), broken))
	}
	if want := []bool{false, false, true, false, false, false, true, true}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if b.Calls(faulty.Head) != 5 || b.Calls("") != 8 {
		t.Errorf("%d and %d calls", b.Calls(faulty.Head), b.Calls(""))
	}
	b.Reset()
	if err := b.Delete(t.Context(), "none"); err != nil || b.Calls("") != 1 {
		t.Errorf("after Reset: %v", err)
	}
}

func TestLostAnswer(t *testing.T) {
	b := open(t)
	b.Add(faulty.Fault{Op: faulty.Put, Nth: 1, Err: upstream.ErrUnavailable, After: true})
	b.Add(faulty.Fault{Op: faulty.Put, Nth: 2, Err: upstream.ErrUnavailable})
	for _, name := range []string{"there", "not"} {
		if _, err := b.Put(t.Context(), name, strings.NewReader("x"), 1, upstream.PutOptions{}); !errors.Is(err, upstream.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := b.Head(t.Context(), "there"); err != nil {
		t.Errorf("the effect is missing: %v", err)
	}
	if _, err := b.Head(t.Context(), "not"); !errors.Is(err, upstream.ErrNotExist) {
		t.Errorf("a call that failed had an effect: %v", err)
	}
}

func TestBodies(t *testing.T) {
	for _, tt := range []struct {
		fault  faulty.Fault
		off, n int64
		want   string
		err    error
	}{
		{faulty.Fault{Cut: true, CutAt: 3}, 0, -1, "obj", io.ErrUnexpectedEOF},
		{faulty.Fault{Cut: true}, 0, -1, "", io.ErrUnexpectedEOF},
		{faulty.Fault{Short: true, CutAt: 2}, 2, -1, "je", nil},
		{faulty.Fault{Flip: true, FlipAt: 1}, 0, -1, "ocject", nil},
		{faulty.Fault{Flip: true, FlipAt: -1}, -2, -1, "cu", nil},
		{faulty.Fault{Flip: true, FlipAt: 0}, 1, -1, "bject", nil},
		{faulty.Fault{Flip: true, FlipAt: 4}, 3, 2, "eb", nil},
		{faulty.Fault{Other: "other"}, 0, -1, "other", nil},
	} {
		b := open(t, "object", "other")
		tt.fault.Op = faulty.Get
		b.Add(tt.fault)
		if got, err := read(t, b, "object", tt.off, tt.n); got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%+v: got %q, %v, want %q, %v", tt.fault, got, err, tt.want, tt.err)
		}
	}
}

func TestStaleList(t *testing.T) {
	b := open(t, "a", "b")
	if err := b.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	b.Add(faulty.Fault{Op: faulty.List, Nth: 1, Stale: true})
	for _, want := range []string{"ab", "b"} {
		got := ""
		if err := b.List(t.Context(), "", "", func(i upstream.Info) error { got += i.Name; return nil }); err != nil || got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
}

func TestDelay(t *testing.T) {
	b := open(t, "a")
	synctest.Test(t, func(t *testing.T) {
		b.Add(faulty.Fault{Op: faulty.Head, Delay: time.Hour})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := b.Head(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		start := time.Now()
		if _, err := b.Head(t.Context(), "a"); err != nil || time.Since(start) != time.Hour {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}
