package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"coffer/internal/durable"
)

const layout = "coffer folder 1\n" // content of .coffer/layout

// Folder is a Bucket in a folder of a file system. Several processes may use it
// at once. It follows no symbolic link that leads out of the folder, and has no
// deadlines: a file system answers or hangs as a whole.
type Folder struct {
	dir   string
	root  *os.Root
	tmp   *os.File // .coffer/tmp
	locks locks
	dirs  dirs
	swept atomic.Int64 // time of the last sweep, Unix seconds
}

// NewFolder returns the Bucket that lies in dir, which is made with its parents
// if it is not there. It removes what interrupted writers left long ago.
func NewFolder(dir string) (*Folder, error) {
	f, err := openFolder(dir)
	if err != nil {
		return nil, fmt.Errorf("opening folder %s: %w", dir, folderError(err))
	}
	return f, nil
}

// OpenFolder returns the Bucket that lies in dir already; [fs.ErrNotExist] means
// that there is none, as in the place where a disk is not mounted.
func OpenFolder(dir string) (*Folder, error) {
	switch _, err := os.Stat(filepath.Join(dir, ownFolder, "layout")); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("folder %s: not mounted, or never filled: %w", dir, fs.ErrNotExist)
	case err != nil:
		return nil, fmt.Errorf("opening folder %s: %w", dir, folderError(err))
	}
	return NewFolder(dir)
}

func openFolder(dir string) (*Folder, error) {
	if dir == "" {
		return nil, errors.New("no path given")
	}
	for _, sub := range []string{"tmp", "parts"} {
		if err := durable.MkdirAll(filepath.Join(dir, ownFolder, sub), 0o700); err != nil {
			return nil, err
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	f := &Folder{dir: dir, root: root}
	f.dirs = dirs{root: root, known: make(map[string]bool)}
	mark, err := root.ReadFile(ownFolder + "/layout")
	if errors.Is(err, fs.ErrNotExist) {
		mark, err = []byte(layout), durable.WriteFile(filepath.Join(dir, ownFolder, "layout"), []byte(layout), 0o600)
	}
	if err == nil && string(mark) != layout {
		err = fmt.Errorf("layout %.40q is not known to this version", mark)
	}
	if err == nil {
		f.tmp, err = root.Open(ownFolder + "/tmp")
	}
	if err == nil {
		err = f.locks.open(root)
	}
	if err == nil {
		err = f.sweep()
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Close gives back the open files. No call may run or follow.
func (f *Folder) Close() error {
	return errors.Join(f.root.Close(), f.tmp.Close(), f.locks.file.Close())
}

// Put implements [Bucket].
func (f *Folder) Put(ctx context.Context, name string, body io.Reader, size int64, o PutOptions) (Info, error) {
	info, err := f.put(ctx, name, o, func(w *os.File) (int64, error) {
		return copyBody(ctx, w, body, size)
	})
	if err != nil {
		return Info{}, fmt.Errorf("putting %q: %w", name, err)
	}
	return info, nil
}

// put makes the object name of what fill writes.
func (f *Folder) put(ctx context.Context, name string, o PutOptions, fill func(*os.File) (int64, error)) (Info, error) {
	if err := errors.Join(checkName(name), checkMeta(o.Meta), ctx.Err()); err != nil {
		return Info{}, err
	}
	if time.Now().Unix()-f.swept.Load() > int64(tmpAge/time.Second) {
		if err := f.sweep(); err != nil {
			return Info{}, folderError(err)
		}
	}
	if err := f.condition(name, o); err != nil { // again when it counts; here to spare the copy
		return Info{}, err
	}
	temp, info, err := f.writeTemp(o.Meta, fill)
	if err != nil {
		return Info{}, folderError(err)
	}
	if err = f.commit(f.tmp, temp, name, o); err != nil {
		_ = unix.Unlinkat(int(f.tmp.Fd()), temp, 0) // the sweep takes what stays
		return Info{}, folderError(err)
	}
	info.Name = name
	return info, nil
}

// Get implements [Bucket].
func (f *Folder) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, Info, error) {
	file, info, err := f.open(ctx, name)
	if err != nil {
		return nil, Info{}, fmt.Errorf("getting %q: %w", name, err)
	}
	off, n = cutRange(off, n, info.Size)
	return &fileBody{ctx: ctx, file: file, off: off, left: n}, info, nil
}

// Head implements [Bucket].
func (f *Folder) Head(ctx context.Context, name string) (Info, error) {
	file, info, err := f.open(ctx, name)
	if err != nil {
		return Info{}, fmt.Errorf("describing %q: %w", name, err)
	}
	return info, file.Close()
}

// Delete implements [Bucket].
func (f *Folder) Delete(ctx context.Context, name string) error {
	err := errors.Join(checkName(name), ctx.Err())
	if err == nil {
		err = f.remove(encodePath(name), name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = f.alive()
	}
	if err != nil {
		return fmt.Errorf("deleting %q: %w", name, folderError(err))
	}
	return nil
}

// Copy implements [Bucket].
func (f *Folder) Copy(ctx context.Context, dst, src string, o PutOptions) (Info, error) {
	file, info, err := f.open(ctx, src)
	if err == nil {
		defer file.Close()
		info, err = f.put(ctx, dst, o, func(w *os.File) (int64, error) {
			return info.Size, copyRange(ctx, w, file, info.Size)
		})
	}
	if err != nil {
		return Info{}, fmt.Errorf("copying %q to %q: %w", src, dst, err)
	}
	return info, nil
}

// open opens the object name; the caller closes the file.
func (f *Folder) open(ctx context.Context, name string) (*os.File, Info, error) {
	if err := errors.Join(checkName(name), ctx.Err()); err != nil {
		return nil, Info{}, err
	}
	file, info, err := f.openPath(encodePath(name))
	if errors.Is(err, fs.ErrNotExist) {
		err = cmp.Or(f.alive(), ErrNotExist)
	}
	if err != nil {
		return nil, Info{}, folderError(err)
	}
	info.Name = name
	return file, info, nil
}

// openPath opens the file of an object. With ErrDamaged the Info holds the
// size of the file.
func (f *Folder) openPath(p string) (*os.File, Info, error) {
	// Neither a link nor a FIFO, both put there by others, may hold us up.
	file, err := f.root.OpenFile(p, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP) {
		return nil, Info{}, fmt.Errorf("%s: %w", err, ErrDamaged)
	}
	if err != nil {
		return nil, Info{}, err
	}
	info, err := readInfo(file)
	if err != nil {
		_ = file.Close() // only read
		return nil, info, fmt.Errorf("file %s: %w", path.Join(f.dir, p), err)
	}
	return file, info, nil
}

// alive tells a folder without an object from one that is gone, as a disk that
// was pulled out.
func (f *Folder) alive() error {
	if _, err := f.root.Stat(ownFolder + "/layout"); err != nil {
		return fmt.Errorf("folder %s is gone: %w", f.dir, ErrUnavailable)
	}
	return nil
}

// folderError adds the sentinel that an error of the file system stands for.
func folderError(err error) error {
	var errno syscall.Errno
	if !errors.As(err, &errno) || errors.Is(err, ErrDamaged) || errors.Is(err, ErrExists) {
		return err
	}
	switch errno {
	case syscall.ENOSPC, syscall.EDQUOT:
		return fmt.Errorf("%w: %w", ErrFull, err)
	case syscall.EIO, syscall.ESTALE, syscall.ENODEV, syscall.ENXIO, syscall.ENOTCONN, syscall.EHOSTDOWN,
		syscall.ETIMEDOUT, syscall.EMFILE, syscall.ENFILE:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// fileBody reads a range of an object.
type fileBody struct {
	ctx  context.Context
	file *os.File
	off  int64
	left int64
}

func (b *fileBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := b.file.ReadAt(p[:min(int64(len(p)), b.left)], b.off)
	b.off += int64(n)
	b.left -= int64(n)
	if err == io.EOF {
		err = nil
		if b.left > 0 {
			err = io.ErrUnexpectedEOF // somebody cut the file
		}
	}
	return n, err
}

func (b *fileBody) Close() error { return b.file.Close() }
