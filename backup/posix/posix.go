// Package posix reads and sets what a file system keeps of a file beside its
// content: types, owners, modes, times, extended attributes and ACLs, holes. It
// works on open directories and names in them, so paths may be of any length and
// a symlink that appears in one changes nothing.
package posix

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"coffer/backup/tree"
)

// Stat describes a name in an open directory; the name itself if it is a symlink.
func Stat(dirfd int, name string, st *unix.Stat_t) error {
	return retry(func() error { return unix.Fstatat(dirfd, name, st, unix.AT_SYMLINK_NOFOLLOW) })
}

// Fill sets what a Stat_t says of e. It reports false for sockets, which no
// backup keeps.
func Fill(e *tree.Entry, st *unix.Stat_t) bool {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Type, e.Size = tree.File, st.Size
	case unix.S_IFDIR:
		e.Type = tree.Dir
	case unix.S_IFLNK:
		e.Type = tree.Symlink
	case unix.S_IFIFO:
		e.Type = tree.FIFO
	case unix.S_IFCHR:
		e.Type = tree.CharDevice
	case unix.S_IFBLK:
		e.Type = tree.BlockDevice
	default:
		return false
	}
	e.Mode, e.UID, e.GID, e.Inode = uint32(st.Mode)&0o7777, st.Uid, st.Gid, st.Ino
	e.Mtime, e.Ctime = timeOf(st.Mtim), timeOf(st.Ctim)
	if e.Type == tree.CharDevice || e.Type == tree.BlockDevice {
		e.Major, e.Minor = unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))
	}
	if e.Type != tree.Dir && st.Nlink > 1 {
		e.Flags |= tree.Linked
	}
	return true
}

func timeOf(t unix.Timespec) tree.Time {
	sec, nsec := t.Unix()
	return tree.Time{Sec: sec, Nsec: uint32(nsec)}
}

func timespec(t tree.Time) unix.Timespec {
	ts := unix.NsecToTimespec(int64(t.Nsec))
	ts.Sec = t.Sec
	return ts
}

// OpenDir opens a directory in an open one, never through a symlink.
func OpenDir(dirfd int, name string) (fd int, err error) {
	err = retry(func() error {
		fd, err = unix.Openat(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		return err
	})
	return fd, err
}

// OpenFile opens a regular file for reading, never through a symlink, without
// waiting for a FIFO, and without touching its access time where that is allowed.
func OpenFile(dirfd int, name string) (fd int, err error) {
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	err = retry(func() error {
		fd, err = unix.Openat(dirfd, name, flags|unix.O_NOATIME, 0)
		if err == unix.EPERM { // only the owner may ask for that
			fd, err = unix.Openat(dirfd, name, flags, 0)
		}
		return err
	})
	return fd, err
}

// Names returns the names in an open directory, sorted by their bytes. buf is
// scratch space of some KiB.
func Names(fd int, buf []byte) ([]string, error) {
	var names []string
	for {
		var n int
		err := retry(func() (err error) { n, err = unix.ReadDirent(fd, buf); return err })
		if err != nil {
			return nil, fmt.Errorf("reading a directory: %w", err)
		}
		if n <= 0 {
			break
		}
		_, _, names = syscall.ParseDirent(buf[:n], -1, names)
	}
	slices.Sort(names)
	return names, nil
}

// Readlink returns the target of a symlink.
func Readlink(dirfd int, name string) (string, error) {
	for size := 256; ; size *= 2 {
		b := make([]byte, size)
		n, err := unix.Readlinkat(dirfd, name, b)
		if err != nil {
			return "", fmt.Errorf("reading a symlink: %w", err)
		}
		if n < size {
			return string(b[:n]), nil
		}
	}
}

// Read fills b from an open file; less only at its end.
func Read(fd int, b []byte) (n int, err error) {
	for n < len(b) {
		var k int
		err = retry(func() (err error) { k, err = unix.Read(fd, b[n:]); return err })
		if err != nil || k <= 0 {
			return n, err
		}
		n += k
	}
	return n, nil
}

// maxHoles bounds what is kept of a file with very many of them; what lies
// beyond is read as zeros.
const maxHoles = 1 << 16

// Holes returns the ranges of an open file that were never written. A file system
// that cannot tell has none. The file offset afterwards is 0.
func Holes(fd int, size int64) ([]tree.Hole, error) {
	var holes []tree.Hole
	for at := int64(0); at < size && len(holes) < maxHoles; {
		data, err := unix.Seek(fd, at, unix.SEEK_DATA)
		if err == unix.ENXIO { // a hole up to the end
			data, err = size, nil
		}
		if err != nil {
			holes = nil
			break
		}
		data = min(data, size)
		if data > at {
			holes = append(holes, tree.Hole{Off: at, Len: data - at})
		}
		if data == size {
			break
		}
		if at, err = unix.Seek(fd, data, unix.SEEK_HOLE); err != nil || at <= data {
			holes = nil
			break
		}
	}
	if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
		return nil, fmt.Errorf("seeking: %w", err)
	}
	return holes, nil
}

// retry repeats a system call that a signal interrupted.
func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// procPath names an open file, or a name in an open directory, for the system
// calls that only take paths.
func procPath(fd int, name string) string {
	p := "/proc/self/fd/" + strconv.Itoa(fd)
	if name != "" {
		p += "/" + name
	}
	return p
}

// Xattrs returns the extended attributes of an open file, sorted by name; none
// where the file system has none.
func Xattrs(fd int) ([]tree.Xattr, error) {
	return xattrs(func(b []byte) (int, error) { return unix.Flistxattr(fd, b) },
		func(name string, b []byte) (int, error) { return unix.Fgetxattr(fd, name, b) })
}

// XattrsAt does the same for a name in an open directory, without following it.
func XattrsAt(dirfd int, name string) ([]tree.Xattr, error) {
	p := procPath(dirfd, name)
	return xattrs(func(b []byte) (int, error) { return unix.Llistxattr(p, b) },
		func(name string, b []byte) (int, error) { return unix.Lgetxattr(p, name, b) })
}

func xattrs(list func([]byte) (int, error), get func(string, []byte) (int, error)) ([]tree.Xattr, error) {
	names, err := grow(list)
	if absent(err) || err == nil && len(names) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing extended attributes: %w", err)
	}
	var out []tree.Xattr
	for raw := range bytes.SplitSeq(names, []byte{0}) {
		if len(raw) == 0 {
			continue
		}
		name := string(raw)
		value, err := grow(func(b []byte) (int, error) { return get(name, b) })
		if absent(err) { // removed meanwhile, or not for this user
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading extended attribute %s: %w", name, err)
		}
		out = append(out, tree.Xattr{Name: name, Value: bytes.Clone(value)})
	}
	slices.SortFunc(out, func(a, b tree.Xattr) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// grow calls a function that fills a buffer with one that is large enough.
func grow(call func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := call(nil)
		if err != nil || n == 0 {
			return nil, err
		}
		b := make([]byte, n)
		if n, err = call(b); err != unix.ERANGE {
			return b[:max(n, 0)], err
		}
	}
}

// absent reports errors that mean there is no such attribute here.
func absent(err error) bool {
	return errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENODATA) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS)
}
