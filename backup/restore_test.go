package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"coffer/backup/posix"
	"coffer/backup/tree"
)

// describe lists a tree: for each path all that a backup keeps, content too.
// Hard links appear as the first of their names.
func describe(tb testing.TB, dir string) map[string]string {
	tb.Helper()
	out := make(map[string]string)
	names := make(map[uint64]string)
	var visit func(fd int, rel string)
	visit = func(fd int, rel string) {
		list, err := posix.Names(fd, make([]byte, 32<<10))
		if err != nil {
			tb.Fatal(err)
		}
		for _, name := range list {
			var st unix.Stat_t
			if err := posix.Stat(fd, name, &st); err != nil {
				tb.Fatal(err)
			}
			e := tree.Entry{Name: name}
			if !posix.Fill(&e, &st) {
				continue
			}
			p := rel + "/" + name
			if e.Xattrs, err = posix.XattrsAt(fd, name); err != nil {
				tb.Fatal(err)
			}
			text := fmt.Sprintf("type %d mode %o owner %d:%d mtime %d.%09d dev %d:%d xattrs %q", e.Type, e.Mode, e.UID, e.GID,
				e.Mtime.Sec, e.Mtime.Nsec, e.Major, e.Minor, e.Xattrs)
			switch e.Type {
			case tree.Dir:
				sub, err := posix.OpenDir(fd, name)
				if err != nil {
					tb.Fatal(err)
				}
				visit(sub, p)
				unix.Close(sub)
			case tree.Symlink:
				target, err := posix.Readlink(fd, name)
				if err != nil {
					tb.Fatal(err)
				}
				text += " -> " + target
			case tree.File:
				text += fileText(tb, fd, name, &st)
			}
			if e.Flags&tree.Linked != 0 {
				if first, ok := names[st.Ino]; ok {
					text += " same as " + first
				} else {
					names[st.Ino] = p
				}
			}
			out[p] = text
		}
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		tb.Fatal(err)
	}
	defer unix.Close(fd)
	visit(fd, "")
	return out
}

func fileText(tb testing.TB, dirfd int, name string, st *unix.Stat_t) string {
	fd, err := posix.OpenFile(dirfd, name)
	if err != nil {
		tb.Fatal(err)
	}
	defer unix.Close(fd)
	b := make([]byte, st.Size)
	if n, err := posix.Read(fd, b); err != nil || n != len(b) {
		tb.Fatal(n, err)
	}
	return fmt.Sprintf(" size %d sparse %v content %x", st.Size, st.Blocks*512 < st.Size && st.Size > 4096, hashOf(b))
}

func hashOf(b []byte) []byte {
	h := uint64(14695981039346656037)
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return fmt.Appendf(nil, "%016x", h)
}

// same compares two trees.
func same(tb testing.TB, got, want string) {
	tb.Helper()
	a, b := describe(tb, got), describe(tb, want)
	for p, w := range b {
		if g, ok := a[p]; !ok {
			tb.Errorf("%q is missing", short(p))
		} else if g != w {
			tb.Errorf("%q:\n got %s\nwant %s", short(p), g, w)
		}
	}
	for p := range a {
		if _, ok := b[p]; !ok {
			tb.Errorf("%q should not be there", short(p))
		}
	}
}

func short(p string) string { return p[max(0, len(p)-100):] }

func (f *fixture) restore(opts ...func(*RestoreOptions)) (string, Report) {
	f.tb.Helper()
	s, err := f.repo.Find(context.Background(), "latest", "")
	if err != nil {
		f.tb.Fatal(err)
	}
	o := RestoreOptions{Snapshot: s, To: filepath.Join(f.tb.TempDir(), "out")}
	for _, fn := range opts {
		fn(&o)
	}
	rep, err := f.repo.Restore(context.Background(), o)
	if err != nil {
		f.tb.Fatal(err)
	}
	return o.To, rep
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// hostile makes everything that a file system can hold. Run by root it has
// devices and foreign owners too.
func (f *fixture) hostile() {
	tb := f.tb
	p := func(name string) string { return filepath.Join(f.src, name) }
	f.fill()
	f.write("name \xff\xfe\n\t\"'$`\\", []byte("not UTF-8"))
	f.write(strings.Repeat("n", 255), []byte("long name"))
	f.write("setuid", []byte("mode"))
	must(tb, os.Chmod(p("setuid"), 0o755|os.ModeSetuid))
	f.write("secret", []byte("mode 0"))
	must(tb, os.Symlink("../does not\xffexist", p("symlink")))
	must(tb, os.Symlink("/", p("symlink to root")))
	must(tb, unix.Mkfifo(p("fifo"), 0o622))
	must(tb, os.Link(p("large"), p("dir1/hard link")))
	must(tb, os.Link(p("large"), p("zz hard link")))
	must(tb, os.Mkdir(p("empty dir"), 0o711))
	must(tb, os.Mkdir(p("sticky"), 0o755))
	must(tb, os.Chmod(p("sticky"), 0o777|os.ModeSticky|os.ModeSetgid))
	sparse, err := os.Create(p("sparse"))
	must(tb, err)
	for _, at := range []int64{1 << 20, 3 << 20, 3<<20 + 4096} {
		_, err = sparse.WriteAt(random(uint64(at), 5000), at)
		must(tb, err)
	}
	must(tb, sparse.Truncate(8<<20))
	must(tb, sparse.Close())
	all, err := os.Create(p("all hole"))
	must(tb, err)
	must(tb, all.Truncate(1<<20))
	must(tb, all.Close())
	for _, x := range []string{"user.small", "user.empty"} {
		must(tb, unix.Setxattr(p("text"), x, random(7, 100*(len(x)-10)), 0))
	}
	must(tb, unix.Setxattr(p("sticky"), "user.dir", []byte("x"), 0))
	acl := []byte("\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00\x01\x00\x00\x00\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x06\x00\xff\xff\xff\xff\x20\x00\x04\x00\xff\xff\xff\xff")
	must(tb, unix.Setxattr(p("dir2"), "system.posix_acl_access", bytes.Replace(acl, []byte("\x01\x00\x06"), []byte("\x01\x00\x07"), 1), 0))
	must(tb, unix.Setxattr(p("dir2/file2"), "system.posix_acl_access", acl, 0))
	if os.Getuid() == 0 {
		must(tb, unix.Mknod(p("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		must(tb, unix.Mknod(p("disk"), unix.S_IFBLK|0o600, int(unix.Mkdev(7, 300))))
		for i, name := range []string{"text", "fifo", "symlink", "empty dir", "null"} {
			must(tb, os.Lchown(p(name), 1000+i, 2000+i))
		}
		must(tb, unix.Setxattr(p("text"), "security.capability", []byte("\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0))
		must(tb, unix.Lsetxattr(p("symlink"), "trusted.link", []byte("t"), 0))
	}
	f.deep()
	for _, name := range []string{"text", "symlink", "fifo", "dir2", "empty dir", "dir1/file1"} {
		ts := []unix.Timespec{{Sec: 1, Nsec: 1}, {Sec: -86400 * 365 * 30, Nsec: 123456789}}
		must(tb, unix.UtimesNanoAt(unix.AT_FDCWD, p(name), ts, unix.AT_SYMLINK_NOFOLLOW))
	}
	must(tb, os.Chmod(p("secret"), 0o400))
}

// deep makes a path that is longer than any system call takes.
func (f *fixture) deep() {
	fd, err := unix.Open(f.src, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(f.tb, err)
	for range 40 {
		name := strings.Repeat("d", 200)
		must(f.tb, unix.Mkdirat(fd, name, 0o755))
		sub, err := posix.OpenDir(fd, name)
		must(f.tb, err)
		unix.Close(fd)
		fd = sub
	}
	file, err := posix.Create(fd, "bottom")
	must(f.tb, err)
	must(f.tb, posix.WriteAt(file, []byte("deep"), 0))
	must(f.tb, unix.Fchmod(file, 0o640))
	unix.Close(file)
	unix.Close(fd)
}

// A restore has every byte and attribute of the source: with all that was kept
// locally, and with the key alone.
func TestRestoreEqualsSource(t *testing.T) {
	f := newFixture(t)
	f.hostile()
	f.settle()
	if _, rep := f.backup(); len(rep.Failed)+len(rep.Warnings) > 0 {
		t.Errorf("backup: failed %v, warnings %v", rep.Failed, rep.Warnings)
	}
	out, rep := f.restore(func(o *RestoreOptions) { o.Verify = true })
	if len(rep.Failed)+len(rep.Warnings) > 0 {
		t.Errorf("restore: failed %v, warnings %v", rep.Failed, rep.Warnings)
	}
	same(t, out, f.src)
	f.loseCache()
	if _, rep := f.backup(); rep.Read != 0 {
		t.Errorf("%d bytes were read again", rep.Read)
	}
	out, _ = f.restore()
	same(t, out, f.src)
	// Once more into the same place: nothing is written.
	if _, rep := f.restore(func(o *RestoreOptions) { o.To = out }); rep.Read != 0 || len(rep.Failed) > 0 {
		t.Errorf("second restore read %d bytes, failed %v", rep.Read, rep.Failed)
	}
	same(t, out, f.src)
}

func TestRestorePaths(t *testing.T) {
	f := newFixture(t)
	f.fill()
	f.backup()
	out, _ := f.restore(func(o *RestoreOptions) { o.Paths = []string{"/dir1", "dir2/file2"}; o.Exclude = []string{"file8"} })
	got := slices.Sorted(func(yield func(string) bool) {
		for p := range describe(t, out) {
			if !yield(p) {
				return
			}
		}
	})
	want := []string{"/dir1", "/dir1/file1", "/dir1/file15", "/dir1/file22", "/dir1/file29", "/dir1/file36", "/dir1/file43",
		"/dir1/file50", "/dir1/file57", "/dir2", "/dir2/file2"}
	if !slices.Equal(got, want) {
		t.Errorf("restored %q, want %q", got, want)
	}
	out, _ = f.restore(func(o *RestoreOptions) { o.Paths = []string{"dir1"}; o.Strip = true })
	same(t, out, filepath.Join(f.src, "dir1"))
	s, _ := f.repo.Find(t.Context(), "latest", "")
	_, err := f.repo.Restore(t.Context(), RestoreOptions{Snapshot: s, To: out, Paths: []string{"none"}})
	if !errors.Is(err, ErrNotExist) {
		t.Errorf("a path that is not there: %v", err)
	}
}

// A symlink that lies in the target must not lead a restore out of it.
func TestRestoreStaysInside(t *testing.T) {
	f := newFixture(t)
	f.fill()
	f.backup()
	outside, out := t.TempDir(), t.TempDir()
	must(t, os.Symlink(outside, filepath.Join(out, "dir1")))
	must(t, os.WriteFile(filepath.Join(outside, "victim"), []byte("old"), 0o644))
	must(t, os.Symlink(filepath.Join(outside, "victim"), filepath.Join(out, "text")))
	f.restore(func(o *RestoreOptions) { o.To = out })
	same(t, out, f.src)
	left, err := os.ReadDir(outside)
	if b, _ := os.ReadFile(filepath.Join(outside, "victim")); err != nil || len(left) != 1 || string(b) != "old" {
		t.Errorf("outside the target: %v, %q", left, b)
	}
}

func TestRestoreOverwrite(t *testing.T) {
	f := newFixture(t)
	f.write("file", []byte("saved"))
	f.settle()
	f.backup()
	for _, tt := range []struct {
		mode Overwrite
		want string
	}{{OverwriteChanged, "saved"}, {OverwriteAlways, "saved"}, {OverwriteNever, "newer"}, {OverwriteOlder, "newer"}} {
		out := t.TempDir()
		must(t, os.WriteFile(filepath.Join(out, "file"), []byte("newer"), 0o644))
		must(t, os.WriteFile(filepath.Join(out, "other"), nil, 0o644))
		f.restore(func(o *RestoreOptions) { o.To, o.Overwrite, o.Delete = out, tt.mode, tt.mode == OverwriteAlways })
		if b, _ := os.ReadFile(filepath.Join(out, "file")); string(b) != tt.want {
			t.Errorf("mode %d: %q, want %q", tt.mode, b, tt.want)
		}
		_, err := os.Stat(filepath.Join(out, "other"))
		if gone := errors.Is(err, fs.ErrNotExist); gone != (tt.mode == OverwriteAlways) {
			t.Errorf("mode %d: a file that is not in the snapshot: %v", tt.mode, err)
		}
	}
	out := filepath.Join(t.TempDir(), "none")
	_, rep := f.restore(func(o *RestoreOptions) { o.To, o.DryRun = out, true })
	if _, err := os.Stat(out); !errors.Is(err, fs.ErrNotExist) || rep.Files != 1 || rep.Bytes != 5 {
		t.Errorf("a dry run wrote (%v) or counted wrong: %+v", err, rep)
	}
}

// A target that gives what is made in it a group of its own, by its setgid bit,
// does not keep files from getting theirs.
func TestRestoreIntoSetgid(t *testing.T) {
	f := newFixture(t)
	f.write("dir/sub/file", []byte("content"))
	f.backup()
	to := t.TempDir()
	if os.Geteuid() == 0 { // others may only give their own groups
		must(t, os.Chown(to, 0, 12345))
	}
	must(t, os.Chmod(to, 0o755|fs.ModeSetgid))
	s, err := f.repo.Find(t.Context(), "latest", "")
	must(t, err)
	rep, err := f.repo.Restore(t.Context(), RestoreOptions{Snapshot: s, To: to})
	must(t, err)
	if len(rep.Failed)+len(rep.Warnings) > 0 {
		t.Errorf("%+v", rep)
	}
	want, got := describe(t, f.src), describe(t, to)
	if len(want) != 3 {
		t.Errorf("the source is %q", want)
	}
	for p, w := range want {
		if got[p] != w {
			t.Errorf("%s is %s, want %s", p, got[p], w)
		}
	}
}
