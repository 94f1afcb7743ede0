package raftstore

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A database travels as a tar of its files, in the order of their names, with an
// empty file named [endFile] behind them: a tar that was cut between two files
// looks whole. Its size is known before it is read, which raft needs.
const (
	tarBlock    = 512
	maxFiles    = 200_000
	lockFile    = "LOCK"
	endFile     = "~end"
	tarTrailing = 2 * tarBlock
)

// fileName is what pebble's files are called; nothing else is written to disk.
var fileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,90}$`)

// dbFiles lists the files that make up a closed database or a checkpoint.
func dbFiles(fs vfs.FS, dir string) ([]string, error) {
	names, err := fs.List(dir)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(n string) bool { return n == lockFile })
	slices.Sort(names)
	for _, n := range names {
		if !fileName.MatchString(n) {
			return nil, fmt.Errorf("file %q is not the database's", n)
		}
	}
	return names, nil
}

// archive reads a database as a tar.
type archive struct {
	io.Reader
	files []*lazyFile
}

func newArchive(fs vfs.FS, dir string) (a *archive, size int64, err error) {
	names, err := dbFiles(fs, dir)
	if err != nil {
		return nil, 0, err
	}
	a = new(archive)
	var parts []io.Reader
	for _, name := range names {
		path := fs.PathJoin(dir, name)
		info, err := fs.Stat(path)
		if err != nil {
			return nil, 0, err
		}
		head, err := tarHead(name, info.Size())
		if err != nil {
			return nil, 0, err
		}
		pad := (tarBlock - info.Size()%tarBlock) % tarBlock
		f := &lazyFile{fs: fs, path: path, left: info.Size()}
		a.files = append(a.files, f)
		parts = append(parts, bytes.NewReader(head), f, bytes.NewReader(make([]byte, pad)))
		size += int64(len(head)) + info.Size() + pad
	}
	end, err := tarHead(endFile, 0)
	if err != nil {
		return nil, 0, err
	}
	end = append(end, make([]byte, tarTrailing)...)
	a.Reader = io.MultiReader(append(parts, bytes.NewReader(end))...)
	return a, size + int64(len(end)), nil
}

func tarHead(name string, size int64) ([]byte, error) {
	var b bytes.Buffer
	h := tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, Format: tar.FormatUSTAR}
	if err := tar.NewWriter(&b).WriteHeader(&h); err != nil {
		return nil, fmt.Errorf("file %s: %w", name, err)
	}
	return b.Bytes(), nil
}

// Close closes the file that is being read.
func (a *archive) Close() error {
	for _, f := range a.files {
		f.close()
	}
	return nil
}

// lazyFile opens its file at the first read, and gives exactly left bytes.
type lazyFile struct {
	fs   vfs.FS
	path string
	left int64
	f    vfs.File
}

func (l *lazyFile) Read(p []byte) (int, error) {
	if l.left == 0 {
		l.close()
		return 0, io.EOF
	}
	if l.f == nil {
		f, err := l.fs.Open(l.path, vfs.SequentialReadsOption)
		if err != nil {
			return 0, err
		}
		l.f = f
	}
	n, err := l.f.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	if errors.Is(err, io.EOF) && l.left > 0 {
		return n, fmt.Errorf("%s became shorter: %w", l.path, io.ErrUnexpectedEOF)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

func (l *lazyFile) close() {
	if l.f != nil {
		l.f.Close()
		l.f = nil
	}
}

// unpacker writes the files of a tar that arrives in pieces into a new folder.
type unpacker struct {
	pipe *io.PipeWriter
	done chan error
}

func newUnpacker(fs vfs.FS, dir string) (*unpacker, error) {
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	u := &unpacker{pipe: w, done: make(chan error, 1)}
	go func() {
		err := unpack(fs, dir, r)
		r.CloseWithError(err) // a writer that goes on is told, nil means it may not
		u.done <- err
	}()
	return u, nil
}

// Write takes the next bytes of the tar.
func (u *unpacker) Write(p []byte) (int, error) { return u.pipe.Write(p) }

// Close waits until all is durable. An archive that ends early is an error.
func (u *unpacker) Close() error {
	u.pipe.Close()
	return <-u.done
}

// unpack trusts no name and no size. Each file is synced, and at last the folder.
func unpack(fs vfs.FS, dir string, r io.Reader) error {
	t := tar.NewReader(r)
	seen := make(map[string]bool)
	ended := false
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("reading the archive: %w", err)
		}
		if ended {
			return fmt.Errorf("archive goes on with %q after its end", h.Name)
		}
		if ended = h.Name == endFile && h.Size == 0; ended {
			continue
		}
		if h.Typeflag != tar.TypeReg || !fileName.MatchString(h.Name) || h.Name == lockFile || seen[h.Name] || len(seen) == maxFiles {
			return fmt.Errorf("archive holds %q, which is not a database's", h.Name)
		}
		seen[h.Name] = true
		if err := unpackFile(fs, fs.PathJoin(dir, h.Name), t); err != nil {
			return fmt.Errorf("writing %s: %w", h.Name, err)
		}
	}
	if _, err := io.Copy(io.Discard, r); err != nil { // what follows the end mark
		return err
	}
	if !ended {
		return errors.New("archive is cut off")
	}
	return syncDir(fs, dir)
}

func unpackFile(fs vfs.FS, path string, r io.Reader) error {
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if _, err := io.Copy(onlyWriter{f}, r); err != nil {
		f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// onlyWriter hides other methods of a file from io.Copy.
type onlyWriter struct{ io.Writer }
