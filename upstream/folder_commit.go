package upstream

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// writeTemp writes a whole file into .coffer/tmp: what fill writes, and its
// frame. It is durable when writeTemp returns, its name is not.
func (f *Folder) writeTemp(meta map[string]string, fill func(*os.File) (int64, error)) (name string, info Info, err error) {
	temp := rand.Text()
	w, err := f.root.OpenFile(ownFolder+"/tmp/"+temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", Info{}, err
	}
	defer func() {
		if err = errors.Join(err, w.Close()); err != nil {
			_ = f.root.Remove(ownFolder + "/tmp/" + temp) // the sweep takes what stays
		}
	}()
	size, err := fill(w)
	if err != nil {
		return "", Info{}, err
	}
	frame, etag := newFrame(size, meta)
	if _, err := w.WriteAt(frame, size); err != nil {
		return "", Info{}, err
	}
	if err := w.Sync(); err != nil {
		return "", Info{}, err
	}
	stat, err := w.Stat()
	if err != nil {
		return "", Info{}, err
	}
	if want := size + int64(len(frame)); stat.Size() != want {
		return "", Info{}, fmt.Errorf("file has %d bytes, %d were written: %w", stat.Size(), want, ErrDamaged)
	}
	return temp, Info{Size: size, ModTime: stat.ModTime(), ETag: etag, Meta: meta}, nil
}

// commit makes the file from, in the folder fromDir, the object name, if the
// conditions of o hold. It is durable when commit returns nil.
func (f *Folder) commit(fromDir *os.File, from, name string, o PutOptions) error {
	dir, base := path.Split(encodePath(name))
	for range 100 { // a Delete may take the empty folder away in between
		d, err := f.dirs.open(dir)
		if err != nil {
			return err
		}
		err = f.rename(fromDir, from, d, base, name, o)
		if err == nil {
			err = d.Sync()
		}
		gone := errors.Is(err, fs.ErrNotExist) && removed(d)
		if err = errors.Join(err, d.Close()); !gone {
			return err
		}
	}
	return fmt.Errorf("folder %q vanishes again and again: %w", dir, ErrUnavailable)
}

// rename is the moment at which an object changes.
func (f *Folder) rename(fromDir *os.File, from string, d *os.File, base, name string, o PutOptions) error {
	unlock, err := f.locks.lock(name)
	if err != nil {
		return err
	}
	defer unlock()
	if err := f.condition(name, o); err != nil {
		return err
	}
	var flags uint
	if o.IfAbsent {
		flags = unix.RENAME_NOREPLACE // where locks do not reach, as on some network file systems
	}
	err = unix.Renameat2(int(fromDir.Fd()), from, int(d.Fd()), base, flags)
	if flags != 0 && (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS)) {
		err = unix.Renameat2(int(fromDir.Fd()), from, int(d.Fd()), base, 0)
	}
	if errors.Is(err, unix.EEXIST) {
		return ErrExists
	}
	if err != nil {
		return &os.PathError{Op: "rename", Path: base, Err: err}
	}
	return nil
}

// condition tells whether what o asks for holds now.
func (f *Folder) condition(name string, o PutOptions) error {
	if !o.IfAbsent && o.IfMatch == "" {
		return nil
	}
	file, info, err := f.openPath(encodePath(name))
	if err == nil {
		_ = file.Close() // only read
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) && o.IfMatch == "":
		return f.alive()
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("absent: %w", ErrExists)
	case o.IfAbsent && (err == nil || errors.Is(err, ErrDamaged)):
		return ErrExists
	case err != nil:
		return err
	case info.ETag != o.IfMatch:
		return fmt.Errorf("ETag is %s: %w", info.ETag, ErrExists)
	}
	return nil
}

// remove takes the object name, whose file is at p, and the folders that it
// leaves empty.
func (f *Folder) remove(p, name string) error {
	dir := path.Dir(p)
	d, err := f.root.Open(dir)
	if err != nil {
		return err
	}
	unlock, err := f.locks.lock(name)
	if err == nil {
		err = f.root.Remove(p)
		unlock()
	}
	if err == nil {
		err = d.Sync()
	}
	if err = errors.Join(err, d.Close()); err == nil {
		f.dirs.prune(dir)
	}
	return err
}

// removed tells whether the open folder has no name any more.
func removed(d *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(d.Fd()), &st) == nil && st.Nlink == 0
}

// sweep removes temporary files and uploads that nobody has touched for long.
func (f *Folder) sweep() error {
	f.swept.Store(time.Now().Unix())
	for sub, age := range map[string]time.Duration{"tmp": tmpAge, "parts": partsAge} {
		entries, err := fs.ReadDir(f.root.FS(), ownFolder+"/"+sub)
		if err != nil {
			return err
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil || time.Since(info.ModTime()) < age {
				continue // gone, or in use
			}
			if err := f.root.RemoveAll(ownFolder + "/" + sub + "/" + e.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

// dirs opens folders for writing and makes them durable. A folder is known when
// its own name and those of its parents were fsynced by this process; mu makes
// sure that a folder removed by prune and made again is not taken for known.
type dirs struct {
	root  *os.Root
	mu    sync.Mutex
	known map[string]bool
}

// maxKnown bounds the memory of dirs; what is forgotten is fsynced again.
const maxKnown = 1 << 16

// open opens the folder dir, a path that ends in "/" or is empty, and makes it if
// it is not there.
func (s *dirs) open(dir string) (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d, err := s.root.Open("./" + dir); err == nil && (s.known[dir] || dir == "") {
		return d, nil
	} else if err == nil {
		_ = d.Close() // opened again below
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	parent := "."
	for piece := range strings.SplitSeq(strings.TrimSuffix(dir, "/"), "/") {
		child := path.Join(parent, piece)
		err := s.root.Mkdir(child, 0o700)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if err == nil || !s.known[child+"/"] {
			if err := s.sync(parent); err != nil {
				return nil, err
			}
		}
		if len(s.known) >= maxKnown {
			clear(s.known)
		}
		s.known[child+"/"] = true
		parent = child
	}
	return s.root.Open(parent)
}

func (s *dirs) sync(dir string) error {
	d, err := s.root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// prune removes dir and its parents as far as they are empty. They need not be:
// an empty folder is no object, so no error is worth a word.
func (s *dirs) prune(dir string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ; dir != "." && dir != "/"; dir = path.Dir(dir) {
		if err := s.root.Remove(dir); err != nil {
			return
		}
		delete(s.known, dir+"/")
	}
}

// locks serialises the changes of one object: by a mutex within the process, by
// a byte of .coffer/lock between processes. A file system that has no locks
// gives the first only.
type locks struct {
	file *os.File
	mu   [256]sync.Mutex
}

func (l *locks) open(root *os.Root) (err error) {
	l.file, err = root.OpenFile(ownFolder+"/lock", os.O_RDWR|os.O_CREATE, 0o600)
	return err
}

// lock waits for the lock of name. Holders do a rename at most.
func (l *locks) lock(name string) (unlock func(), err error) {
	n := stripe(name)
	l.mu[n].Lock()
	fd := l.file.Fd()
	flock := unix.Flock_t{Type: unix.F_WRLCK, Start: int64(n), Len: 1}
	for {
		err = unix.FcntlFlock(fd, unix.F_OFD_SETLKW, &flock)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOLCK) && !errors.Is(err, syscall.EOPNOTSUPP) {
		l.mu[n].Unlock()
		return nil, fmt.Errorf("locking: %w", err)
	}
	return func() {
		flock.Type = unix.F_UNLCK
		_ = unix.FcntlFlock(fd, unix.F_OFD_SETLK, &flock) // fails only where locking did
		l.mu[n].Unlock()
	}, nil
}

// stripe maps a name to its lock: the same in every process (FNV-1a).
func stripe(name string) byte {
	h := uint32(2166136261)
	for _, c := range []byte(name) {
		h = (h ^ uint32(c)) * 16777619
	}
	return byte(h ^ h>>8 ^ h>>16 ^ h>>24)
}
