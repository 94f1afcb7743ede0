package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestLook: a mount point is told from a folder, and an empty one from one that
// holds something.
func TestLook(t *testing.T) {
	dir := t.TempDir()
	full := filepath.Join(dir, "full")
	if err := os.MkdirAll(filepath.Join(full, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path string
		want place
		dir  bool
	}{
		{"/proc", place{mounted: true, filled: true}, true},
		{full, place{filled: true}, true},
		{filepath.Join(full, "x"), place{}, true},
		{filepath.Join(dir, "file"), place{}, false},
		{filepath.Join(dir, "none"), place{}, false},
	} {
		if got, isDir := look(tt.path); got != tt.want || isDir != tt.dir {
			t.Errorf("%s: got %+v, %v, want %+v, %v", tt.path, got, isDir, tt.want, tt.dir)
		}
	}
}

// TestMissing: what is not as it was is not backed up, with files in it or not.
func TestMissing(t *testing.T) {
	for _, tt := range []struct {
		before, now place
		allow       bool
		want        string
	}{
		{place{true, true}, place{true, true}, false, ""},
		{place{true, true}, place{false, true}, false, "was a mount point and is none now"}, // files that lie below the mount
		{place{true, true}, place{false, false}, false, "was a mount point"},
		{place{false, true}, place{false, false}, false, "is empty and was not before"},
		{place{true, false}, place{true, false}, false, ""},
		{place{false, false}, place{true, true}, false, ""}, // a disk is new
		{place{true, true}, place{false, false}, true, ""},
	} {
		s := &source{c: Source{Path: "/mnt/disk", AllowUnmounted: tt.allow}, record: record{Mounted: tt.before.mounted, Filled: tt.before.filled}}
		err := s.missing(tt.now)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%+v: got %v", tt, err)
		}
	}
}

// TestRetriesTogether: many sources whose upstream is down ask it less and less.
func TestRetriesTogether(t *testing.T) {
	inBubble(t, func(t *testing.T, state string, start time.Time) {
		var sources []Source
		for i := range 20 {
			sources = append(sources, testSource(fmt.Sprint("source", i), "/docs"))
		}
		b := begin(t, state, func(b bench, _ *Config) { b.repo.fault = errors.New("connection refused") }, sources...)
		time.Sleep(6 * time.Hour)
		before := len(b.repo.runs())
		time.Sleep(time.Hour)
		if n := len(b.repo.runs()) - before; n > 2*len(sources) {
			t.Errorf("%d attempts in the seventh hour of %d sources", n, len(sources))
		}
	})
}
