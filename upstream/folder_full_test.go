package upstream_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"coffer/upstream"
)

// TestFolderOnFullDisk: a disk that is really full (of 8 MB, in a mount namespace of
// its own) is said to be; nothing is damaged or left behind, removing works, and
// then writing does.
func TestFolderOnFullDisk(t *testing.T) {
	const env = "COFFER_TEST_FULL"
	if os.Getenv(env) == "" {
		cmd := exec.Command("unshare", "-rm", "sh", "-ec", `mount -t tmpfs -o size=8m tmpfs "$COFFER_TEST_FULL" && exec "$0" -test.run='^TestFolderOnFullDisk$'`, os.Args[0])
		cmd.Env = append(os.Environ(), env+"="+t.TempDir())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	dir := os.Getenv(env)
	f, err := upstream.NewFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	acked := make(map[string][]byte)
	write := func(name string, size int) error {
		data := randomBytes(size)
		_, err := f.Put(t.Context(), name, onlyReader{bytes.NewReader(data)}, int64(len(data)), upstream.PutOptions{Meta: map[string]string{"k": "v"}})
		if err == nil {
			acked[name] = data
		}
		return err
	}
	for i := 0; err == nil; i++ {
		err = write(fmt.Sprintf("object-%d", i), 700_000)
	}
	if !errors.Is(err, upstream.ErrFull) || len(acked) < 8 {
		t.Fatalf("after %d objects: %v", len(acked), err)
	}
	if err := write("object-0", 2_000_000); !errors.Is(err, upstream.ErrFull) { // over one that is there
		t.Errorf("replacing: %v", err)
	}
	id, err := f.StartMultipart(t.Context(), "parts", upstream.PutOptions{})
	if err == nil {
		_, err = f.PutPart(t.Context(), "parts", id, 1, bytes.NewReader(make([]byte, 6<<20)), 6<<20)
	}
	if !errors.Is(err, upstream.ErrFull) {
		t.Errorf("a part: %v", err)
	}
	if id != "" {
		if err := f.AbortMultipart(t.Context(), "parts", id); err != nil {
			t.Errorf("aborting on a full disk: %v", err)
		}
	}
	intact := func() {
		t.Helper()
		if names := list(t, f, "", ""); len(names) != len(acked) {
			t.Errorf("%d objects are listed, %d were acknowledged", len(names), len(acked))
		}
		for name, want := range acked {
			r, info, err := f.Get(t.Context(), name, 0, -1)
			if err != nil {
				t.Error(err)
				continue
			}
			got, err := io.ReadAll(r)
			if err := errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, want) || info.Meta["k"] != "v" {
				t.Errorf("%s: %d bytes, %v", name, len(got), err)
			}
		}
	}
	intact()
	for _, sub := range []string{"tmp", "parts"} {
		if left, err := filepath.Glob(filepath.Join(dir, ".coffer", sub, "*")); err != nil || len(left) > 0 {
			t.Errorf("left behind: %q, %v", left, err)
		}
	}
	for _, name := range []string{"object-1", "object-2"} {
		if err := f.Delete(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		delete(acked, name)
	}
	if err := write("new", 1_000_000); err != nil {
		t.Errorf("with room again: %v", err)
	}
	intact()
}
