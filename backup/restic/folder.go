package restic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// folder is a repository in a folder. It follows no link that leads out of it.
type folder struct{ root *os.Root }

// Folder opens a folder that holds a repository.
func Folder(dir string) (Files, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, notExist(err)
	}
	return &folder{root}, nil
}

func notExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrNotExist, err)
	}
	return err
}

// Get implements [Files].
func (f *folder) Get(_ context.Context, name string, off, n int64) (io.ReadCloser, error) {
	file, err := f.root.Open(name)
	if err != nil {
		return nil, notExist(err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no file: %w", name, ErrCorrupt)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if n < 0 {
		n = max(info.Size()-off, 0)
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(file, off, n), file}, nil
}

// List implements [Files].
func (f *folder) List(ctx context.Context, dir string, fn func(string) error) error {
	return fs.WalkDir(f.root.FS(), dir[:len(dir)-1], func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			err = fn(name)
		}
		return errors.Join(notExist(err), ctx.Err())
	})
}
