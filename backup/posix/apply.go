package posix

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"coffer/backup/tree"
)

// Apply sets owner, mode, extended attributes and times of an open file or
// directory, in the order in which none undoes another. Errors of parts are
// joined: the rest is set all the same. Without the right owner a file gets no
// setuid and setgid bits: they would lend the rights of somebody else.
func Apply(fd int, e *tree.Entry) error { return apply(fd, e, false) }

// ApplyNew is Apply for what this process has just made where OwnsNew is true:
// it spares the system call that sets an owner who is the owner already.
func ApplyNew(fd int, e *tree.Entry) error { return apply(fd, e, true) }

// OwnsNew reports whether what this process makes in an open directory belongs to
// its own user and group. A setgid bit, or how it is mounted, may give the
// directory's group instead.
func OwnsNew(dirfd int) bool {
	var st unix.Stat_t
	uid, gid := ids()
	return unix.Fstat(dirfd, &st) == nil && int(st.Uid) == uid && int(st.Gid) == gid
}

func apply(fd int, e *tree.Entry, isNew bool) error {
	var errs []error
	mode := e.Mode
	if err := chown(e, isNew, func(uid, gid int) error { return unix.Fchown(fd, uid, gid) }); err != nil {
		errs = append(errs, err)
		mode &^= unix.S_ISUID | unix.S_ISGID
	}
	if err := unix.Fchmod(fd, mode); err != nil {
		errs = append(errs, fmt.Errorf("setting the mode: %w", err))
	}
	for _, x := range e.Xattrs {
		if err := unix.Fsetxattr(fd, x.Name, x.Value, 0); err != nil {
			errs = append(errs, fmt.Errorf("setting extended attribute %s: %w", x.Name, err))
		}
	}
	if err := futimens(fd, e); err != nil {
		errs = append(errs, fmt.Errorf("setting the times: %w", err))
	}
	return errors.Join(errs...)
}

// ApplyAt does the same for a name in an open directory, without following it:
// for symlinks, devices and FIFOs, which cannot be opened.
func ApplyAt(dirfd int, e *tree.Entry) error {
	var errs []error
	mode := e.Mode
	if err := chown(e, false, func(uid, gid int) error {
		return unix.Fchownat(dirfd, e.Name, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
	}); err != nil {
		errs = append(errs, err)
		mode &^= unix.S_ISUID | unix.S_ISGID
	}
	if e.Type != tree.Symlink { // symlinks have no mode of their own
		if err := chmodAt(dirfd, e.Name, mode); err != nil {
			errs = append(errs, fmt.Errorf("setting the mode: %w", err))
		}
	}
	p := procPath(dirfd, e.Name)
	for _, x := range e.Xattrs {
		if err := unix.Lsetxattr(p, x.Name, x.Value, 0); err != nil {
			errs = append(errs, fmt.Errorf("setting extended attribute %s: %w", x.Name, err))
		}
	}
	t := timespec(e.Mtime)
	if err := unix.UtimesNanoAt(dirfd, e.Name, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		errs = append(errs, fmt.Errorf("setting the times: %w", err))
	}
	return errors.Join(errs...)
}

var ids = sync.OnceValues(func() (int, int) { return os.Geteuid(), os.Getegid() })

func chown(e *tree.Entry, isNew bool, call func(uid, gid int) error) error {
	if uid, gid := ids(); (uid != 0 || isNew) && uint32(uid) == e.UID && uint32(gid) == e.GID {
		return nil // what is new belongs to us already
	}
	if err := call(int(e.UID), int(e.GID)); err != nil {
		return fmt.Errorf("setting the owner %d:%d: %w", e.UID, e.GID, err)
	}
	return nil
}

func futimens(fd int, e *tree.Entry) error {
	t := timespec(e.Mtime)
	return utimensFD(fd, &[2]unix.Timespec{t, t})
}

// Make makes a symlink, device or FIFO in an open directory. Its metadata is
// set by ApplyAt.
func Make(dirfd int, e *tree.Entry) error {
	var err error
	switch e.Type {
	case tree.Symlink:
		err = unix.Symlinkat(e.Target, dirfd, e.Name)
	case tree.FIFO:
		err = unix.Mknodat(dirfd, e.Name, unix.S_IFIFO|0o600, 0)
	case tree.CharDevice:
		err = unix.Mknodat(dirfd, e.Name, unix.S_IFCHR|0o600, int(unix.Mkdev(e.Major, e.Minor)))
	case tree.BlockDevice:
		err = unix.Mknodat(dirfd, e.Name, unix.S_IFBLK|0o600, int(unix.Mkdev(e.Major, e.Minor)))
	default:
		err = unix.EINVAL
	}
	if err != nil {
		return fmt.Errorf("making it: %w", err)
	}
	return nil
}

// UnfinishedMode is that of a file which is being written. Nobody else gives it, so a
// restore that was interrupted knows what it may replace.
const UnfinishedMode = 0o200

// Create makes a new file for writing, of UnfinishedMode; it is an error if the
// name is taken.
func Create(dirfd int, name string) (fd int, err error) {
	err = retry(func() error {
		fd, err = unix.Openat(dirfd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, UnfinishedMode)
		return err
	})
	return fd, err
}

// Reopen opens a file that Create made.
func Reopen(dirfd int, name string) (fd int, err error) {
	err = retry(func() error {
		fd, err = unix.Openat(dirfd, name, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		return err
	})
	return fd, err
}

// WriteAt writes all of b.
func WriteAt(fd int, b []byte, off int64) error {
	for len(b) > 0 {
		var n int
		err := retry(func() (err error) { n, err = unix.Pwrite(fd, b, off); return err })
		if err != nil {
			return fmt.Errorf("writing: %w", err)
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}

// Remove removes a name in an open directory; a directory with all that is in
// it if all is set, else only an empty one.
func Remove(dirfd int, name string, all bool) error {
	err := unix.Unlinkat(dirfd, name, 0)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	if err != unix.EISDIR && err != unix.EPERM {
		return fmt.Errorf("removing: %w", err)
	}
	if all {
		if err := empty(dirfd, name); err != nil {
			return err
		}
	}
	if err := unix.Unlinkat(dirfd, name, unix.AT_REMOVEDIR); err != nil {
		return fmt.Errorf("removing: %w", err)
	}
	return nil
}

func empty(dirfd int, name string) error {
	fd, err := OpenDir(dirfd, name)
	if err != nil {
		return fmt.Errorf("removing: %w", err)
	}
	defer unix.Close(fd)
	names, err := Names(fd, make([]byte, 8<<10))
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := Remove(fd, n, true); err != nil {
			return err
		}
	}
	return nil
}
