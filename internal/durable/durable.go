// Package durable writes files that survive a power cut: a reader, after any
// crash, finds the old content or the new one, whole.
package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// WriteFile replaces the file at path by one with data and the permissions perm
// (the umask does not apply). When it returns nil, the content and the name are
// on the disk. On error the old file is as it was. The folder must exist.
func WriteFile(path string, data []byte, perm os.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+shorten(filepath.Base(path))+".tmp*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	temp := f.Name()
	defer func() {
		if err != nil {
			_ = os.Remove(temp) // the first error says more
			err = fmt.Errorf("writing %s: %w", path, err)
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(perm)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes the names in the folder dir durable: files made, renamed or
// removed there before the call.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = f.Sync()
	if errors.Is(err, syscall.EINVAL) { // a file system that has nothing to sync for a folder
		err = nil
	}
	return errors.Join(err, f.Close())
}

// MkdirAll makes dir and the parents it lacks, each with perm, and makes their
// names durable: os.MkdirAll alone may lose a new folder with all that is in it.
func MkdirAll(dir string, perm os.FileMode) error {
	if info, err := os.Stat(dir); err == nil {
		if !info.IsDir() {
			return &os.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
		}
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := MkdirAll(parent, perm); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, perm); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return SyncDir(parent)
}

// shorten keeps the temporary name of a long file within a name's 255 bytes.
func shorten(base string) string {
	return base[:min(len(base), 200)]
}
