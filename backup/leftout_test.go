package backup

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLook: what a look says is left out, a backup with the same options leaves
// out, and it saves the rest.
func TestLook(t *testing.T) {
	f := newFixture(t)
	src := filepath.Join(t.TempDir(), "src")
	for name, size := range map[string]int{
		"a.txt": 10, "b.tmp": 20, "keep/c.tmp": 30, "keep/.cofferignore": 6, "keep/d.log": 40, "node_modules/x/y.js": 1000, "node_modules/z.js": 500,
		"cache/CACHEDIR.TAG": 0, "cache/big": 70000, "large": 5000, "sub/node_modules/q": 1,
	} {
		file := filepath.Join(src, name)
		text := strings.Repeat("x", size)
		switch filepath.Base(name) {
		case ".cofferignore":
			text = "*.log\n"
		case "CACHEDIR.TAG":
			text = "Signature: 8a477f597d28d172789f06886806bc55\n"
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := BackupOptions{Source: "s", Paths: []string{src}, Exclude: []string{"*.tmp", "!/keep/c.tmp", "node_modules/"}, ExcludeCaches: true, ExcludeLarger: 4000}
	got, err := Look(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	_, report, err := f.repo.Backup(t.Context(), o)
	if err != nil || len(report.Failed) > 0 {
		t.Fatal(err, report.Failed)
	}
	if got.Saved != report.Files || got.Size != report.Bytes {
		t.Errorf("%d files, %d bytes would be saved; a backup saves %d, %d", got.Saved, got.Size, report.Files, report.Bytes)
	}
	var list []string
	for _, p := range got.Biggest {
		list = append(list, fmt.Sprint(strings.TrimPrefix(p.Path, src+"/"), " ", p.Dir, p.Files, p.Bytes))
	}
	want := "cache/big false 1 70000, large false 1 5000, node_modules true 2 1500, keep/d.log false 1 40, b.tmp false 1 20, sub/node_modules true 1 1"
	if text := strings.Join(list, ", "); text != want || got.Files != 7 || got.Bytes != 76561 || got.Places != 6 || got.Partial {
		t.Errorf("got %s\n%+v", text, got)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := Look(ended, o); err != nil || !got.Partial {
		t.Errorf("out of time: %+v, %v", got, err)
	}
	if _, err := Look(t.Context(), BackupOptions{Source: "s", Paths: []string{src + "/none"}}); err == nil {
		t.Error("a path that is not there")
	}
	if got, err := Look(t.Context(), BackupOptions{Source: "s", Paths: []string{src + "/a.txt"}}); err != nil || got.Saved != 1 || got.Size != 10 {
		t.Errorf("a file: %+v, %v", got, err)
	}
}
