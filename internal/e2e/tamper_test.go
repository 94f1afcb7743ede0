package e2e

import (
	"crypto/rand"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// One flipped bit in any object of the repository must make check or restore
// fail and name the object; what is restored all the same must be right.
func TestFlippedBitUpstream(t *testing.T) {
	m := newMachine(t)
	up := t.TempDir()
	random := make([]byte, 3<<20)
	rand.Read(random)
	for name, data := range map[string]string{"a.txt": "milk\nbread\n", "photo.raw": string(random), "deep/er/b.txt": strings.Repeat("words ", 5000)} {
		if err := os.MkdirAll(filepath.Dir(m.path("files", name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(m.path("files", name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m.must("coffer", "setup", "--upstream", "folder:"+up, "--digits-file", m.path("digits"), "--source", "files="+m.path("files"))
	m.must("coffer", "backup")

	var objects []string
	err := filepath.WalkDir(filepath.Join(up, "repo"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			objects = append(objects, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(objects) < 4 {
		t.Fatalf("only %d objects upstream: %v", len(objects), objects)
	}
	for _, object := range objects {
		data, err := os.ReadFile(object)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []int{20, len(data) / 2} {
			data[at] ^= 1
			if err := os.WriteFile(object, data, 0o600); err != nil {
				t.Fatal(err)
			}
			// a new machine: nothing cached helps
			fresh := newMachine(t)
			_, errOut, code := fresh.run("coffer", "recover", "--upstream", "folder:"+up, "--digits-file", m.path("digits"))
			if code == 0 {
				_, errOut, code = fresh.run("coffer", "restore", "latest", "--to", fresh.path("out"))
			}
			rel, _ := filepath.Rel(up, object)
			name := strings.TrimSuffix(filepath.Base(rel), "=") // FOLDER.md: a file's name ends with =
			if code == 0 && !indexOnly(rel) {
				t.Errorf("%s flipped at %d: restored without an error", rel, at)
			}
			if code != 0 && !strings.Contains(errOut, name) {
				t.Errorf("%s flipped at %d: the error does not name the object:\n%s", rel, at, errOut)
			}
			checkRestored(t, m.path("files"), fresh.path("out"))
			data[at] ^= 1
		}
		if err := os.WriteFile(object, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// indexOnly are objects that a restore can do without, as their content can be
// rebuilt from others or only serves writers.
func indexOnly(object string) bool {
	return strings.HasPrefix(object, "repo/index/") || strings.HasPrefix(object, "repo/heads/")
}

// checkRestored fails the test when a restored file holds other bytes than the
// source; files that are missing are no matter here.
func checkRestored(t *testing.T, source, restored string) {
	t.Helper()
	filepath.WalkDir(restored, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		rel, _ := filepath.Rel(restored, path)
		want, err := os.ReadFile(filepath.Join(source, rel))
		if err != nil {
			return nil // a temporary file of the restore
		}
		if got, _ := os.ReadFile(path); string(got) != string(want) {
			t.Errorf("%s was restored with wrong bytes", rel)
		}
		return nil
	})
}
