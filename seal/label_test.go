package seal

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each label of Derive, wherever it is used, is listed in FORMAT.md and used
// once: two uses of one key are two algorithms under one key.
func TestLabelsAreListed(t *testing.T) {
	format, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	call := regexp.MustCompile(`\.Derive\(([^)]*)\)`)
	uses := make(map[string]int)
	err = filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || d.Name() == "tools" || len(d.Name()) > 2 && d.Name()[0] == '.') {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") || filepath.Dir(path) == filepath.Join("..", "seal") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range call.FindAllSubmatch(src, -1) {
			label, ok := strings.CutPrefix(string(m[1]), `"`)
			if label = strings.TrimSuffix(label, `"`); !ok || !strings.Contains(string(format), "| `"+label+"` |") {
				t.Errorf("%s: label %s is not listed in FORMAT.md", path, m[1])
			}
			uses[label]++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(uses) == 0 {
		t.Error("no label found: the search stopped matching")
	}
	for label, n := range uses {
		if n > 1 {
			t.Errorf("label %q is used %d times", label, n)
		}
	}
}
