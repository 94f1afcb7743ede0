package backup

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// linked is a backup of a and b, which are one file, written an hour ago.
func linked(t *testing.T) *fixture {
	f := newFixture(t)
	f.write("a", []byte("saved"))
	hourAgo := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(filepath.Join(f.src, "a"), hourAgo, hourAgo))
	must(t, os.Link(filepath.Join(f.src, "a"), filepath.Join(f.src, "b")))
	f.backup()
	return f
}

// contents are those of files in a directory; "" is also that of one that is absent.
func contents(dir string, names ...string) (all []string) {
	for _, n := range names {
		b, _ := os.ReadFile(filepath.Join(dir, n))
		all = append(all, string(b))
	}
	return all
}

// A further name of a file is kept or written as any file is, and never a link to
// something else than what was backed up.
func TestRestoreLinksAndKeeps(t *testing.T) {
	f := linked(t)
	for _, c := range []struct {
		mode      Overwrite
		a, b      string // there before, and newer
		wantA     string
		wantB     string
		replaced  int
		unchanged int64
	}{
		{OverwriteNever, "mine", "", "mine", "saved", 0, 1},
		{OverwriteOlder, "mine", "", "mine", "saved", 0, 1},
		{OverwriteNever, "", "mine", "saved", "mine", 0, 1},
		{OverwriteOlder, "", "mine", "saved", "mine", 0, 1},
		{OverwriteNever, "mine", "mine, too", "mine", "mine, too", 0, 2},
		{OverwriteChanged, "", "mine", "saved", "saved", 1, 0},
		{OverwriteAlways, "mine", "mine", "saved", "saved", 2, 0},
	} {
		out := t.TempDir()
		for name, text := range map[string]string{"a": c.a, "b": c.b} {
			if text != "" {
				must(t, os.WriteFile(filepath.Join(out, name), []byte(text), 0o644))
			}
		}
		_, rep := f.restore(func(o *RestoreOptions) { o.To, o.Overwrite, o.Verify = out, c.mode, true })
		if got := contents(out, "a", "b"); got[0] != c.wantA || got[1] != c.wantB {
			t.Errorf("mode %d, a %q, b %q: now %q", c.mode, c.a, c.b, got)
		}
		if len(rep.Failed) > 0 || len(rep.Replaced) != c.replaced || rep.Unchanged != c.unchanged || rep.Files != 2 {
			t.Errorf("mode %d, a %q, b %q: %+v", c.mode, c.a, c.b, rep)
		}
	}
}
