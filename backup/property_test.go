package backup

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// edit makes one random change below dir. Names collide on purpose: files become
// directories, links, and nothing.
func edit(t *rapid.T, dir string) {
	name := func(label string) string {
		parts := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "\xffc", "d e"}), 1, 3).Draw(t, label)
		return filepath.Join(dir, strings.Join(parts, "/"))
	}
	p := name("path")
	os.MkdirAll(filepath.Dir(p), 0o755) // fails where a file is in the way: then nothing happens
	switch rapid.SampledFrom([]string{"write", "write", "write", "append", "insert", "remove", "link", "symlink", "rename", "mode", "sparse", "mtime"}).Draw(t, "edit") {
	case "write":
		size := rapid.SampledFrom([]int{0, 1, 100, 1024, 1025, 5000, 40_000, 120_000}).Draw(t, "size")
		os.WriteFile(p, random(rapid.Uint64Range(0, 5).Draw(t, "seed"), size), 0o644)
	case "append":
		if f, err := os.OpenFile(p, os.O_APPEND|os.O_WRONLY, 0); err == nil {
			f.Write(random(9, rapid.IntRange(1, 3000).Draw(t, "more")))
			f.Close()
		}
	case "insert":
		if b, err := os.ReadFile(p); err == nil {
			os.WriteFile(p, slices.Insert(b, len(b)/2, 'x'), 0o644)
		}
	case "remove":
		os.RemoveAll(p)
	case "link":
		if i, err := os.Lstat(p); err == nil && i.Mode().IsRegular() {
			os.Link(p, name("to"))
		}
	case "symlink":
		os.Symlink(rapid.SampledFrom([]string{"..", "/", "\xfe", "a/b"}).Draw(t, "target"), p)
	case "rename":
		os.Rename(p, name("to"))
	case "mode":
		if i, err := os.Lstat(p); err == nil && i.Mode()&os.ModeSymlink == 0 {
			unix.Chmod(p, 0o700|rapid.Uint32Range(0, 0o77).Draw(t, "mode"))
		}
	case "sparse":
		if f, err := os.OpenFile(p, os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
			f.Truncate(rapid.Int64Range(0, 200_000).Draw(t, "length"))
			f.WriteAt([]byte("data"), rapid.Int64Range(0, 100_000).Draw(t, "at"))
			f.Close()
		}
	case "mtime":
		ts := unix.Timespec{Sec: rapid.Int64Range(-1<<33, 1<<34).Draw(t, "sec"), Nsec: 5}
		unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	}
}

// Every snapshot of a random tree under random edits restores to what the tree
// was, though the edits come faster than the clock of the file system ticks, and
// whether or not the cache is there.
func TestRandomTrees(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		f := newFixture(t)
		want := make(map[string]map[string]string)
		for range rapid.IntRange(1, 4).Draw(rt, "snapshots") {
			for range rapid.IntRange(0, 8).Draw(rt, "edits") {
				edit(rt, f.src)
			}
			if rapid.IntRange(0, 3).Draw(rt, "lose the cache") == 0 {
				f.loseCache()
			}
			s, rep := f.backup()
			if len(rep.Failed)+len(rep.Warnings) > 0 {
				rt.Fatalf("failed %v, warnings %v", rep.Failed, rep.Warnings)
			}
			want[s.ID] = describe(t, f.src)
		}
		out := filepath.Join(t.TempDir(), "out")
		all, err := f.repo.Snapshots(t.Context())
		if err != nil {
			rt.Fatal(err)
		}
		for _, s := range all { // each over the one before: restores in place are exact too
			rep, err := f.repo.Restore(t.Context(), RestoreOptions{Snapshot: s, To: out, Delete: true, Overwrite: OverwriteAlways})
			if err != nil || len(rep.Failed) > 0 {
				rt.Fatal(rep.Failed, err)
			}
			if got := describe(t, out); !maps.Equal(got, want[s.ID]) {
				rt.Fatalf("restored\n%s\nwant\n%s", lines(got), lines(want[s.ID]))
			}
		}
		if rep, err := f.repo.Check(t.Context(), CheckOptions{ReadData: true}); err != nil || len(rep.Problems)+len(rep.Rollbacks) > 0 {
			rt.Fatal(rep.Problems, rep.Rollbacks, err)
		}
	})
}

func lines(m map[string]string) string {
	var b strings.Builder
	for _, p := range slices.Sorted(maps.Keys(m)) {
		fmt.Fprintf(&b, "%q %s\n", p, m[p])
	}
	return b.String()
}
