package upstream_test

import (
	"strings"
	"testing"

	"coffer/upstream"
)

// hostileNames must not leave the folder, meet each other, or be lost.
var hostileNames = []string{
	"a", "a/b", "a/", "/", "//", "///", "/a", "a//b", ".", "..", "./..", "../..", "../../etc/passwd", "a/../b", "a/./b", ".coffer", ".coffer/tmp/x",
	"\x00", "a\x00b", "\xff\xfe", "A", "Ä", "%", "%41", "%2e", "a=", "a+", "=", "+", "a b", "con", "a\\b", "\n", "é",
	strings.Repeat("x", 117), strings.Repeat("x", 118), strings.Repeat("x", 119), strings.Repeat("x", 118) + "/y", strings.Repeat("x", 118) + "-y",
	strings.Repeat("x", 118) + "0", strings.Repeat("X", 300), strings.Repeat("X", 40) + "/", strings.Repeat("x", 117) + "X",
	strings.Repeat("\xff", 1024), strings.Repeat("/", 100), strings.Repeat("X/", 512), strings.Repeat("x", 1024), strings.Repeat(".", 500),
}

func TestFolder(t *testing.T) {
	testBucket(t, store{
		open: func(t *testing.T) upstream.Bucket {
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
		},
		names: hostileNames,
	})
}
