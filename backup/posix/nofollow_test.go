package posix

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"coffer/backup/tree"
)

// Whoever may write to the directory can put a symlink in the place of the FIFO or
// device that was just made. Its mode is not for where that leads.
func TestApplyAtFollowsNothing(t *testing.T) {
	dir := t.TempDir()
	victim := filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, filepath.Join(dir, "fifo")); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	e := &tree.Entry{Name: "fifo", Type: tree.FIFO, Mode: 0o666, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
	if err := ApplyAt(fd, e); err == nil {
		t.Error("a symlink is taken for a FIFO")
	}
	if st, err := os.Stat(victim); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the file that it leads to has mode %v, %v; want 0600", st.Mode(), err)
	}
	if err := os.Remove(filepath.Join(dir, "fifo")); err != nil {
		t.Fatal(err)
	}
	if err := Make(fd, e); err != nil {
		t.Fatal(err)
	}
	if err := ApplyAt(fd, e); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Lstat(filepath.Join(dir, "fifo")); err != nil || st.Mode().Perm() != 0o666 {
		t.Errorf("the FIFO has mode %v, %v; want 0666", st.Mode(), err)
	}
}
