package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coffer/backup"
	"coffer/internal/config"
)

// TestFolders: the page may restore to what is the user's, and not into what
// coffer keeps for itself, by whatever way that is reached.
func TestFolders(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	c := &config.User{StateDir: filepath.Join(home, "state"), CacheDir: filepath.Join(home, "cache"), Host: "laptop",
		Upstreams: []config.Upstream{{Type: "folder", Path: filepath.Join(home, "store")}}}
	for _, dir := range []string{"state", "store/repo", "docs"} {
		if err := os.MkdirAll(filepath.Join(home, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(home, "state"), filepath.Join(home, "docs", "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := folders{c}
	for dir, want := range map[string]string{
		"":                    "from the root on",
		"docs":                "from the root on",
		home + "/docs/../x":   "from the root on",
		home + "/new/and/new": "",
		home + "/docs/":       "",
		home + "/state/x":     "for the files of coffer itself",
		home + "/state":       "for the files of coffer itself",
		home + "/docs/link/x": "for the files of coffer itself",
		home + "/store/new":   "for the files of coffer itself",
		home + "/cache":       "for the files of coffer itself",
		f.own() + "/1":        "",
		home + "/file/x":      "not a directory",
		home + "/file":        "is not a folder",
	} {
		switch err := f.Check(dir); {
		case want == "" && err != nil:
			t.Errorf("%q: %v", dir, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: %v, want %s", dir, err, want)
		}
	}
	s := &backup.Snapshot{Source: "my/docs", Host: "laptop", Paths: []string{filepath.Join(home, "docs", "letters")}}
	if dir, note := f.Suggest(s); !strings.HasPrefix(dir, filepath.Join(home, "docs", "restored-my-docs-20")) || note != "" {
		t.Errorf("beside the source: %s, %q", dir, note)
	}
	s.Host = "another"
	if dir, note := f.Suggest(s); !strings.HasPrefix(dir, filepath.Join(home, "restored-")) || note != "" {
		t.Errorf("of another machine: %s, %q", dir, note)
	}
	t.Setenv("HOME", filepath.Join(home, "none"))
	if dir, _ := f.Suggest(s); !strings.HasPrefix(dir, f.own()) {
		t.Errorf("without a home: %s", dir)
	}
}
