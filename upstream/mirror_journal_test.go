package upstream_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"coffer/upstream"
	"coffer/upstream/faulty"
)

// lasting is mirrors whose journal and folders outlive a process.
type lasting struct {
	t       *testing.T
	journal string
	folders []upstream.Bucket
}

func newLasting(t *testing.T, n int) *lasting {
	t.Helper()
	l := &lasting{t: t, journal: filepath.Join(t.TempDir(), "mirrors")}
	for range n {
		l.folders = append(l.folders, openFolder(t))
	}
	return l
}

// open is a new process.
func (l *lasting) open() (*upstream.Mirror, []*faulty.Bucket) {
	l.t.Helper()
	var names []string
	var parts []*faulty.Bucket
	var c upstream.MirrorConfig
	for i, f := range l.folders {
		names = append(names, fmt.Sprint("m", i))
		parts = append(parts, faulty.New(f))
		c.Buckets = append(c.Buckets, parts[i])
	}
	var err error
	if c.Journal, err = upstream.OpenJournal(l.journal, names); err != nil {
		l.t.Fatal(err)
	}
	m, err := upstream.NewMirror(c)
	if err != nil {
		l.t.Fatal(err)
	}
	return m, parts
}

func (l *lasting) file() string {
	l.t.Helper()
	b, err := os.ReadFile(l.journal)
	if err != nil {
		l.t.Fatal(err)
	}
	return string(b)
}

// same checks that all folders have these objects, and no others.
func (l *lasting) same(want map[string]string) {
	l.t.Helper()
	for i, f := range l.folders {
		names := list(l.t, f, "", "")
		if len(names) != len(want) {
			l.t.Errorf("mirror %d has %q, want %d objects", i, names, len(want))
		}
		for name, text := range want {
			if !slices.Contains(names, name) {
				l.t.Errorf("mirror %d lacks %q", i, name)
			} else if got, _ := get(l.t, f, name, 0, -1); string(got) != text {
				l.t.Errorf("mirror %d: %q is %q, want %q", i, name, got, text)
			}
		}
	}
}

// What a mirror missed is known to the next process, which does not read old data
// from it, and brings it up to date.
func TestJournal(t *testing.T) {
	l := newLasting(t, 2)
	odd := "odd \"name\"\n\xff"
	m, parts := l.open()
	put(t, m, "changed", []byte("old"), upstream.PutOptions{})
	put(t, m, "deleted", []byte("old"), upstream.PutOptions{})
	parts[1].Add(down)
	for _, name := range []string{"changed", odd} {
		put(t, m, name, []byte("new"), upstream.PutOptions{})
	}
	if err := m.Delete(t.Context(), "deleted"); err != nil {
		t.Fatal(err)
	}

	m, parts = l.open()
	parts[0].Add(down)
	if got, _, err := m.Get(t.Context(), "changed", 0, -1); !errors.Is(err, upstream.ErrUnavailable) {
		t.Errorf("the next process reads what is out of date: %v, %v", got, err)
	}
	if r, err := m.CatchUp(t.Context()); err == nil || r.Left != 3 || r.Done != 0 {
		t.Errorf("with nobody to copy from: %+v, %v", r, err)
	}

	m, parts = l.open()
	parts[1].Add(down)
	if r, err := m.CatchUp(t.Context()); !errors.Is(err, upstream.ErrUnavailable) || r.Left != 3 {
		t.Errorf("while it is away: %+v, %v", r, err)
	}
	if n := parts[1].Calls(faulty.Put) + parts[1].Calls(faulty.Delete); n > 2 {
		t.Errorf("%d calls to a mirror that is away", n)
	}

	m, _ = l.open()
	if r, err := m.CatchUp(t.Context()); err != nil || r != (upstream.Repaired{Done: 3}) {
		t.Errorf("got %+v, %v", r, err)
	}
	l.same(map[string]string{"changed": "new", odd: "new"})
	if got := l.file(); got != "" {
		t.Errorf("the journal still says %q", got)
	}
	if r, err := m.CatchUp(t.Context()); err != nil || r != (upstream.Repaired{}) {
		t.Errorf("again: %+v, %v", r, err)
	}
}

// What one process misses while another one runs, that one makes good too.
func TestJournalOfTwoProcesses(t *testing.T) {
	l := newLasting(t, 2)
	daemon, _ := l.open()
	command, parts := l.open()
	parts[0].Add(down)
	put(t, command, "a", []byte("x"), upstream.PutOptions{})
	put(t, command, "a", []byte("y"), upstream.PutOptions{})
	if r, err := daemon.CatchUp(t.Context()); err != nil || r.Done != 1 {
		t.Errorf("got %+v, %v", r, err)
	}
	l.same(map[string]string{"a": "y"})
}

// A journal with a line that a crash cut, or that makes no sense, has everything
// compared.
func TestJournalDamaged(t *testing.T) {
	for _, junk := range []string{"ABCDEFGHIJKL m1 \"nam", "nonsense\n", "\x00\x00\x00\n"} {
		l := newLasting(t, 2)
		for name, text := range map[string]string{"a": "a", "b": "b", "size": "long"} {
			put(t, l.folders[0], name, []byte(text), upstream.PutOptions{})
		}
		put(t, l.folders[1], "size", []byte("x"), upstream.PutOptions{})
		if err := os.WriteFile(l.journal, []byte(junk), 0o600); err != nil {
			t.Fatal(err)
		}
		m, parts := l.open()
		parts[1].Add(down)
		put(t, m, "c", []byte("c"), upstream.PutOptions{}) // after the line that was cut
		parts[1].Reset()
		m, _ = l.open()
		if r, err := m.CatchUp(t.Context()); err != nil || r.Left != 0 {
			t.Errorf("%q: %+v, %v", junk, r, err)
		}
		if got := l.file(); got != "" {
			t.Errorf("%q: the journal still says %q", junk, got)
		}
		for _, name := range []string{"a", "b", "c"} {
			if got, _ := get(t, l.folders[1], name, 0, -1); string(got) != name {
				t.Errorf("%q: %s is %q", junk, name, got)
			}
		}
	}
}

// A mirror that was away too long is compared whole: what was deleted goes there,
// as long as the other is sure of it.
func TestJournalOverflow(t *testing.T) {
	l := newLasting(t, 2)
	m, parts := l.open()
	for _, name := range []string{"kept", "deleted"} {
		put(t, m, name, []byte("old"), upstream.PutOptions{})
	}
	var b bytes.Buffer
	for i := 0; b.Len() < 16<<20; i++ {
		fmt.Fprintf(&b, "ABCDEFGHIJKL m1 \"%s%d\"\n", strings.Repeat("n", 200), i)
	}
	if err := os.WriteFile(l.journal, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	parts[1].Add(down)
	put(t, m, "kept", []byte("new"), upstream.PutOptions{})
	if err := m.Delete(t.Context(), "deleted"); err != nil {
		t.Fatal(err)
	}
	if got := l.file(); len(got) > 100 || !strings.Contains(got, " m1 \"\"\n") {
		t.Errorf("the journal has %d bytes, ending in %q", len(got), got[max(0, len(got)-50):])
	}
	m, parts = l.open()
	parts[0].Add(down)
	if _, err := m.CatchUp(t.Context()); err == nil {
		t.Error("compared with a mirror that is away")
	}
	m, _ = l.open()
	if r, err := m.CatchUp(t.Context()); err != nil || r.Done != 2 { // the whole, and what was missed after that was noted
		t.Errorf("got %+v, %v", r, err)
	}
	l.same(map[string]string{"kept": "new"})
}

// Where every mirror may have missed something, nothing is deleted.
func TestNothingIsDeletedUnsure(t *testing.T) {
	l := newLasting(t, 2)
	put(t, l.folders[0], "a", []byte("a"), upstream.PutOptions{})
	put(t, l.folders[1], "b", []byte("b"), upstream.PutOptions{})
	if err := os.WriteFile(l.journal, []byte("nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, _ := l.open()
	if r, err := m.CatchUp(t.Context()); err != nil || r.Done != 2 {
		t.Errorf("got %+v, %v", r, err)
	}
	l.same(map[string]string{"a": "a", "b": "b"})
}

// Compare lists what each mirror has, and is no comparison when one is away.
func TestCompare(t *testing.T) {
	m := openMirrors(t, 2, 1)
	put(t, m, "both", []byte("both"), upstream.PutOptions{})
	put(t, m.parts[0], "first", []byte("1"), upstream.PutOptions{})
	put(t, m.parts[1], "second", []byte("2"), upstream.PutOptions{})
	put(t, m.parts[0], "size", []byte("1"), upstream.PutOptions{})
	put(t, m.parts[1], "size", []byte("12"), upstream.PutOptions{})
	var got []string
	compare := func() error {
		got = nil
		return m.Compare(t.Context(), "", func(d upstream.Difference) error {
			got = append(got, fmt.Sprint(d.Name, d.Infos[0] != nil, d.Infos[1] != nil, d.Same()))
			return nil
		})
	}
	want := []string{"bothtrue true true", "firsttrue false false", "secondfalse true false", "sizetrue true false"}
	if err := compare(); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
	m.parts[1].Add(down)
	if err := compare(); !errors.Is(err, upstream.ErrUnavailable) {
		t.Errorf("with one away: %q, %v", got, err)
	}
}

func TestOpenJournalRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	for _, names := range [][]string{{"a", "a"}, {""}, {"a b"}} {
		if _, err := upstream.OpenJournal(path, names); err == nil {
			t.Errorf("names %q", names)
		}
	}
	j, err := upstream.OpenJournal(path, []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := upstream.NewMirror(upstream.MirrorConfig{Buckets: []upstream.Bucket{openFolder(t), openFolder(t)}, Journal: j}); err == nil {
		t.Error("a journal for fewer mirrors")
	}
}
