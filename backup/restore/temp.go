package restore

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"

	"golang.org/x/sys/unix"

	"coffer/backup/posix"
)

// tempName is what a file is called while it is written beside the one that it will
// replace. It is always the same, so that the next restore finds what one that was
// killed has left, and has room for the longest of names.
func tempName(name string) string {
	sum := sha256.Sum256([]byte(name))
	return ".coffer-restore-" + hex.EncodeToString(sum[:8])
}

// name is what the file is called until it is whole.
func (f *outFile) name() string {
	if f.over {
		return tempName(f.e.Name)
	}
	return f.e.Name
}

// errTwice means that another restore has begun to write the file anew: it takes
// the tempName, and both give the file up.
var errTwice = errors.New("another restore is writing it, too")

// openTemp makes or opens the file under its tempName. What a restore that was
// killed has left there gives way.
func (f *outFile) openTemp(dirfd int) (fd int, err error) {
	if !f.made {
		if err := posix.Remove(dirfd, f.name(), false); err != nil {
			return -1, err
		}
		fd, err = posix.Create(dirfd, f.name())
	} else {
		fd, err = posix.Reopen(dirfd, f.name())
	}
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && f.made && st.Ino != f.ino {
		err = errTwice
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	f.ino = st.Ino
	return fd, nil
}

// replace renames the file, which is whole, over the one it replaces.
func (f *outFile) replace(dirfd int) error {
	var st unix.Stat_t
	if err := posix.Stat(dirfd, f.name(), &st); err != nil {
		return err
	}
	if st.Ino != f.ino {
		return errTwice
	}
	return unix.Renameat(dirfd, f.name(), dirfd, f.e.Name)
}
