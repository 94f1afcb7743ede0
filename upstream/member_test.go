package upstream_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coffer/upstream"
)

// openMembers is a pair of folder mirrors in dir, of which either may be missing.
func openMembers(t *testing.T, dir string) *upstream.Mirror {
	t.Helper()
	m, err := upstream.OpenMembers(upstream.MembersConfig{
		Names: []string{"disk", "usb"}, Marker: "coffer.json", Journal: filepath.Join(dir, "journal"),
		Members: []upstream.Config{{Type: "folder", Path: filepath.Join(dir, "disk")}, {Type: "folder", Path: filepath.Join(dir, "usb")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A disk that is not mounted is not written to: neither to the folder that is not
// there, nor to the empty one where it would be mounted.
func TestMemberNotMounted(t *testing.T) {
	dir := t.TempDir()
	disk, usb := filepath.Join(dir, "disk"), filepath.Join(dir, "usb")
	for _, path := range []string{disk, usb} {
		f, err := upstream.NewFolder(path)
		if err != nil {
			t.Fatal(err)
		}
		put(t, f, "coffer.json", []byte("{}"), upstream.PutOptions{})
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(usb, usb+".away"); err != nil {
		t.Fatal(err)
	}
	m := openMembers(t, dir)
	put(t, m, "a", []byte("a"), upstream.PutOptions{})
	if _, err := os.Stat(usb); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the mount point was made: %v", err)
	}
	if err := os.Mkdir(usb, 0o700); err != nil { // not mounted
		t.Fatal(err)
	}
	m = openMembers(t, dir)
	put(t, m, "b", []byte("b"), upstream.PutOptions{})
	if _, err := m.CatchUp(t.Context()); !errors.Is(err, upstream.ErrUnavailable) || !strings.Contains(err.Error(), "mirror usb: folder ") {
		t.Errorf("got %v", err)
	}
	// It is mounted while we run.
	if err := os.RemoveAll(usb); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(usb+".away", usb); err != nil {
		t.Fatal(err)
	}
	if r, err := m.CatchUp(t.Context()); err != nil || r.Done != 2 {
		t.Fatalf("got %+v, %v", r, err)
	}
	f, err := upstream.NewFolder(usb)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, name := range []string{"a", "b"} {
		if got, _ := get(t, f, name, 0, -1); !bytes.Equal(got, []byte(name)) {
			t.Errorf("%s is %q", name, got)
		}
	}
}

// The whole contract holds through members, too.
func TestMembers(t *testing.T) {
	testBucket(t, store{
		open: func(t *testing.T) upstream.Bucket {
			dir := t.TempDir()
			for _, path := range []string{"disk", "usb"} {
				f, err := upstream.NewFolder(filepath.Join(dir, path))
				if err != nil {
					t.Fatal(err)
				}
				put(t, f, "\x00marker", nil, upstream.PutOptions{})
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
			}
			m, err := upstream.OpenMembers(upstream.MembersConfig{
				Names: []string{"disk", "usb"}, Marker: "\x00marker", Journal: filepath.Join(dir, "journal"),
				Members: []upstream.Config{{Type: "folder", Path: filepath.Join(dir, "disk")}, {Type: "folder", Path: filepath.Join(dir, "usb")}},
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := m.Head(t.Context(), "\x00marker"); err != nil {
				t.Fatal(err)
			}
			if err := m.Delete(t.Context(), "\x00marker"); err != nil { // the tests want an empty bucket
				t.Fatal(err)
			}
			return m
		},
		names: minioNames,
	})
}

func TestMembersRefuses(t *testing.T) {
	good := upstream.Config{Type: "folder", Path: t.TempDir()}
	for name, c := range map[string]upstream.MembersConfig{
		"names": {Names: []string{"a"}, Members: []upstream.Config{good, good}},
		"twice": {Names: []string{"a", "a"}, Members: []upstream.Config{good, good}},
		"s3":    {Names: []string{"a", "b"}, Members: []upstream.Config{good, {Type: "s3"}}},
		"none":  {},
	} {
		c.Journal = filepath.Join(t.TempDir(), "journal")
		if _, err := upstream.OpenMembers(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A folder whose disk is not mounted is neither made nor written to; it is used as
// soon as it is there.
func TestOpenLater(t *testing.T) {
	ctx := t.Context()
	dir := filepath.Join(t.TempDir(), "usb", "backup")
	if _, err := upstream.OpenFolder(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening what is not there: %v", err)
	}
	b := upstream.OpenLater("usb", upstream.Config{Type: "folder", Path: dir}, "coffer.json")
	put := func() error {
		_, err := b.Put(ctx, "x", strings.NewReader("1"), 1, upstream.PutOptions{})
		return err
	}
	if err := put(); !errors.Is(err, upstream.ErrUnavailable) || !strings.Contains(err.Error(), "upstream usb: ") {
		t.Errorf("put: %v", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil { // the empty place to mount at
		t.Fatal(err)
	}
	if err := put(); !errors.Is(err, upstream.ErrUnavailable) {
		t.Errorf("put to an empty folder: %v", err)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) > 0 {
		t.Errorf("the empty folder has %v, %v", names, err)
	}
	f, err := upstream.NewFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Put(ctx, "coffer.json", strings.NewReader("{}"), 2, upstream.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := put(); err != nil {
		t.Errorf("put when it is there: %v", err)
	}
}
