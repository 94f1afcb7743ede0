package upstream

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func newTestFolder(t *testing.T) (*Folder, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "a", "b")
	f, err := NewFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f, dir
}

// decodePath undoes encodePath, entry by entry as a listing does.
func decodePath(p string) (string, bool) {
	entries := strings.Split(p, "/")
	name := ""
	for i, e := range entries {
		piece, ok := decodePiece(e, i < len(entries)-1)
		if !ok {
			return "", false
		}
		name += piece
	}
	return name, true
}

// Two names that meet in one path would overwrite each other; a path that no name
// makes must not be listed as one.
func FuzzEncodePath(f *testing.F) {
	for _, name := range []string{"a", "a/b", "..", "/", ".coffer/x", strings.Repeat("x", 118), strings.Repeat("X", 1024), "%41=", "x=", "a+/b"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p := encodePath(s)
		for entry := range strings.SplitSeq(p, "/") {
			if entry == "" || entry[0] == '.' || len(entry) > 121 || entry != strings.ToLower(entry) {
				t.Errorf("%q: entry %q", s, entry)
			}
		}
		if got, ok := decodePath(p); !ok || got != s {
			t.Errorf("%q comes back as %q, %v", s, got, ok)
		}
		if name, ok := decodePath(s); ok && encodePath(name) != s {
			t.Errorf("path %q is read as %q, whose path is %q", s, name, encodePath(name))
		}
	})
}

// The listing of a folder must have the order of the names whatever they are.
func TestListOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		f, err := NewFolder(filepath.Join(t.TempDir()))
		if err != nil {
			rt.Fatal(err)
		}
		defer f.Close()
		segment := rapid.OneOf(
			rapid.StringOfN(rapid.SampledFrom([]rune("a/.-0Z+=%")), 1, 5, -1),
			rapid.Map(rapid.IntRange(110, 125), func(n int) string { return strings.Repeat("a", n) }),
			rapid.Map(rapid.IntRange(116, 120), func(n int) string { return strings.Repeat("a", n) + "/-" }),
			rapid.Map(rapid.IntRange(116, 120), func(n int) string { return strings.Repeat("a", n) + "0" }),
		)
		names := rapid.SliceOfNDistinct(segment, 1, 12, rapid.ID).Draw(rt, "names")
		for _, n := range names {
			p := encodePath(n) // without fsync: this is about names
			frame, _ := newFrame(0, nil)
			if err := errors.Join(f.root.MkdirAll(filepath.Dir(p), 0o700), f.root.WriteFile(p, frame, 0o600)); err != nil {
				rt.Fatal(err)
			}
		}
		slices.Sort(names)
		prefix := rapid.SampledFrom(names).Draw(rt, "prefix")
		prefix = prefix[:rapid.IntRange(0, len(prefix)).Draw(rt, "cut")]
		after := rapid.SampledFrom(append(names, "", "a", "a/")).Draw(rt, "after")
		var want, got []string
		for _, n := range names {
			if strings.HasPrefix(n, prefix) && n > after {
				want = append(want, n)
			}
		}
		if err := f.List(t.Context(), prefix, after, func(i Info) error { got = append(got, i.Name); return nil }); err != nil {
			rt.Fatal(err)
		}
		if !slices.Equal(got, want) {
			rt.Fatalf("got %q, want %q", got, want)
		}
	})
}

// Whatever is wrong with a file, the object must not pass for whole.
func TestDamagedFile(t *testing.T) {
	f, dir := newTestFolder(t)
	path := filepath.Join(dir, "x", "object=")
	for name, damage := range map[string]func([]byte) []byte{
		"cut in the tail": func(b []byte) []byte { return b[:len(b)-1] },
		"cut to nothing":  func([]byte) []byte { return nil },
		"bytes missing":   func(b []byte) []byte { return b[1:] },
		"bytes added":     func(b []byte) []byte { return append([]byte("x"), b...) },
		"foreign":         func([]byte) []byte { return bytes.Repeat([]byte("hello "), 100) },
		"metadata":        func(b []byte) []byte { b[4]++; return b },
		"etag":            func(b []byte) []byte { b[len(b)-10]++; return b },
		"size":            func(b []byte) []byte { b[len(b)-25] = 0xff; return b },
		"lines":           func(b []byte) []byte { b[len(b)-5] = 0xff; return b },
	} {
		if _, err := f.Put(t.Context(), "x/object", strings.NewReader("data"), 4, PutOptions{Meta: map[string]string{"k": "v"}}); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, damage(b), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := f.Get(t.Context(), "x/object", 0, -1); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want ErrDamaged that names the file", name, err)
		}
		var listed []Info
		err = f.List(t.Context(), "", "", func(i Info) error { listed = append(listed, i); return nil })
		if err != nil || len(listed) != 1 || listed[0].ETag != "" {
			t.Errorf("%s: listed as %+v, %v", name, listed, err)
		}
		if _, err := f.Put(t.Context(), "x/object", strings.NewReader(""), 0, PutOptions{IfAbsent: true}); !errors.Is(err, ErrExists) {
			t.Errorf("%s: IfAbsent gives %v", name, err)
		}
	}
}

// Who can write into the folder must not make us read or write elsewhere, or hang.
func TestHostileFolder(t *testing.T) {
	f, dir := newTestFolder(t)
	outside := t.TempDir()
	frame, _ := newFrame(6, nil)
	if err := os.WriteFile(filepath.Join(outside, "secret="), append([]byte("secret"), frame...), 0o600); err != nil {
		t.Fatal(err)
	}
	err := errors.Join(
		os.Symlink(outside, filepath.Join(dir, "link")),
		os.Symlink(filepath.Join(outside, "secret="), filepath.Join(dir, "file=")),
		syscall.Mkfifo(filepath.Join(dir, "fifo="), 0o600),
		os.Mkdir(filepath.Join(dir, "dir="), 0o700),
		os.WriteFile(filepath.Join(dir, "README.txt"), nil, 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link/secret", "file", "fifo", "dir"} {
		if _, _, err := f.Get(t.Context(), name, 0, -1); err == nil || errors.Is(err, ErrNotExist) {
			t.Errorf("%s: %v, want an error that is not ErrNotExist", name, err)
		}
	}
	if _, err := f.Put(t.Context(), "link/new", strings.NewReader("x"), 1, PutOptions{}); err == nil {
		t.Error("written through a link that leads out")
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
		t.Errorf("outside: %v, %v", entries, err)
	}
	if err := f.List(t.Context(), "", "", func(i Info) error { t.Errorf("listed: %+v", i); return nil }); err != nil {
		t.Error(err)
	}
}

// What interrupted writers leave must go, what is under way must stay.
func TestSweep(t *testing.T) {
	f, dir := newTestFolder(t)
	id, err := f.StartMultipart(t.Context(), "x", PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(dir, ownFolder)
	long := time.Now().Add(-30 * 24 * time.Hour)
	for _, name := range []string{"tmp/old", "tmp/new", "parts/old/00001"} {
		p := filepath.Join(own, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o700), os.WriteFile(p, []byte("x"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chtimes(filepath.Join(own, "tmp/old"), long, long), os.Chtimes(filepath.Join(own, "parts/old"), long, long)); err != nil {
		t.Fatal(err)
	}
	again, err := NewFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	left, err := filepath.Glob(own + "/*/*")
	want := []string{filepath.Join(own, "parts", id), filepath.Join(own, "tmp/new")}
	if err != nil || !slices.Equal(left, want) {
		t.Errorf("left %q, want %q", left, want)
	}
}

// A disk that was pulled out must not look like a store from which all was
// deleted.
func TestFolderGone(t *testing.T) {
	f, dir := newTestFolder(t)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	_, errHead := f.Head(t.Context(), "object")
	_, errPut := f.Put(t.Context(), "object", strings.NewReader(""), 0, PutOptions{IfAbsent: true})
	errList := f.List(t.Context(), "", "", func(Info) error { return nil })
	for _, err := range []error{errHead, errPut, errList, f.Delete(t.Context(), "object")} {
		if !errors.Is(err, ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
	}
}

// A full disk must leave the old object and nothing else.
func TestFolderFull(t *testing.T) {
	f, dir := newTestFolder(t)
	if _, err := f.Put(t.Context(), "object", strings.NewReader("old"), 3, PutOptions{}); err != nil {
		t.Fatal(err)
	}
	full := func(*os.File) (int64, error) {
		dev, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			return 0, err
		}
		defer dev.Close()
		return copyBody(t.Context(), dev, strings.NewReader("new"), 3)
	}
	if _, err := f.put(t.Context(), "object", PutOptions{}, full); !errors.Is(err, ErrFull) {
		t.Errorf("got %v, want ErrFull", err)
	}
	left, err := filepath.Glob(filepath.Join(dir, ownFolder, "tmp", "*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left: %q, %v", left, err)
	}
	if info, err := f.Head(t.Context(), "object"); err != nil || info.Size != 3 {
		t.Errorf("%+v, %v", info, err)
	}
}

// A folder of a later version must be refused, not written over.
func TestFolderVersion(t *testing.T) {
	_, dir := newTestFolder(t)
	if err := os.WriteFile(filepath.Join(dir, ownFolder, "layout"), []byte("coffer folder 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewFolder(dir); err == nil || !strings.Contains(err.Error(), "layout") {
		t.Errorf("got %v", err)
	}
	if _, err := NewFolder(""); err == nil {
		t.Error("an empty path is taken")
	}
}

// Folders come and go with their objects; nothing may be lost in between.
func TestFolderChurn(t *testing.T) {
	f, dir := newTestFolder(t)
	done := make(chan error)
	for i := range 4 {
		go func() {
			name := "d/e/" + string(rune('a'+i))
			for range 50 {
				if _, err := f.Put(t.Context(), name, strings.NewReader("x"), 1, PutOptions{}); err != nil {
					done <- err
					return
				}
				if err := f.Delete(t.Context(), name); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left: %v, %v", entries, err)
	}
}
