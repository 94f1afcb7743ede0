package posix

import "golang.org/x/sys/unix"

// chmodAt sets the mode of a name in an open directory, which is not followed. A
// flag of the system call for that came with Linux 6.6 only.
func chmodAt(dirfd int, name string, mode uint32) error {
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Openat(dirfd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return unix.ELOOP // it was put there since
	}
	return unix.Chmod(procPath(fd, ""), mode)
}
