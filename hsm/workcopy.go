package hsm

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"coffer/internal/durable"
)

// SoftHSM rewrites token.object in place, without fsync, at each login: of 120
// processes killed while they logged in, 42 left it empty, and with it every
// key. So a durable token is never given to the library. It lies in a folder:
//
//	token.json   what the token is, and the SHA-256 of each of its files
//	tokens-N     the files, as SoftHSM wrote them when they were made; N counts rotations
//	anchor       the ledger's head, and
//	generation   of the replicated state: marks; see mark_file.go
//
// and the library works on a copy that dies with the process.
const (
	metaName      = "token.json"
	confVariable  = "SOFTHSM2_CONF"
	tokensPrefix  = "tokens-"
	workPrefix    = "coffer-token-"
	lockSuffix    = ".lock"
	maxTokenFile  = 1 << 20 // a key object has a few hundred bytes
	maxTokenFiles = 1000
)

// tokenMeta is token.json. It is replaced as a whole, last.
type tokenMeta struct {
	Version int               `json:"version"` // 1
	Label   string            `json:"label"`
	Dir     string            `json:"dir"`
	Files   map[string]string `json:"files"` // path below Dir: SHA-256 in hex
}

func readMeta(dir string) (*tokenMeta, error) {
	f, err := os.Open(filepath.Join(dir, metaName))
	if err != nil {
		return nil, fmt.Errorf("hsm: no token is provisioned: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxTokenFile))
	if err != nil {
		return nil, fmt.Errorf("hsm: reading %s: %w", f.Name(), err)
	}
	m, err := parseMeta(raw)
	if err != nil {
		return nil, fmt.Errorf("hsm: reading %s: %w", f.Name(), err)
	}
	return m, nil
}

func parseMeta(raw []byte) (*tokenMeta, error) {
	m := new(tokenMeta)
	if err := json.Unmarshal(raw, m); err != nil {
		return nil, err
	}
	if m.Version != 1 || len(m.Files) == 0 || len(m.Files) > maxTokenFiles || !filepath.IsLocal(m.Dir) {
		return nil, errors.New("not of a version that this program knows")
	}
	for name := range m.Files {
		if !filepath.IsLocal(name) {
			return nil, errors.New("it names a file outside its folder")
		}
	}
	return m, nil
}

// writeMeta makes the files below dir/sub durable and then the token of dir.
func writeMeta(dir, sub, label string) error {
	m := &tokenMeta{Version: 1, Label: label, Dir: sub, Files: make(map[string]string)}
	root := filepath.Join(dir, sub)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return durable.SyncDir(path)
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		m.Files[rel], err = syncFile(path)
		return err
	})
	if err != nil {
		return fmt.Errorf("hsm: making the token durable: %w", err)
	}
	if err := durable.SyncDir(dir); err != nil {
		return fmt.Errorf("hsm: making the token durable: %w", err)
	}
	raw, err := json.MarshalIndent(m, "", "\t")
	if err != nil {
		return fmt.Errorf("hsm: making the token durable: %w", err)
	}
	return durable.WriteFile(filepath.Join(dir, metaName), append(raw, '\n'), 0o600)
}

// syncFile returns the SHA-256 of a file that is on the disk when it returns.
func syncFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), f.Sync()
}

// workCopy is a private folder for one process. The lock beside it is held as
// long as the process lives, so that the next one can tell what was left behind.
type workCopy struct {
	dir  string
	lock *os.File
}

// newWorkCopy makes an empty folder in run and removes those of dead processes.
func newWorkCopy(run string) (*workCopy, error) {
	if run == "" {
		run = os.TempDir()
	}
	if err := os.MkdirAll(run, 0o700); err != nil {
		return nil, fmt.Errorf("hsm: making the folder of working copies: %w", err)
	}
	sweep(run)
	for range 10 { // a sweep of another process may take the lock first
		lock, err := os.CreateTemp(run, workPrefix+"*"+lockSuffix)
		if err != nil {
			return nil, fmt.Errorf("hsm: making a working copy: %w", err)
		}
		if !tryLock(lock) {
			lock.Close()
			continue
		}
		w := &workCopy{dir: strings.TrimSuffix(lock.Name(), lockSuffix), lock: lock}
		if err := os.Mkdir(w.dir, 0o700); err != nil {
			w.remove()
			return nil, fmt.Errorf("hsm: making a working copy: %w", err)
		}
		return w, nil
	}
	return nil, errors.New("hsm: making a working copy: its lock is taken again and again")
}

// tryLock locks f and reports whether it did and f still has its name.
func tryLock(f *os.File) bool {
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		return false
	}
	mine, err1 := f.Stat()
	there, err2 := os.Stat(f.Name())
	return err1 == nil && err2 == nil && os.SameFile(mine, there)
}

// sweep removes working copies whose process is gone. What it may not remove
// belongs to somebody else.
func sweep(run string) {
	locks, _ := filepath.Glob(filepath.Join(run, workPrefix+"*"+lockSuffix))
	for _, name := range locks {
		f, err := os.OpenFile(name, os.O_RDWR|syscall.O_NOFOLLOW, 0)
		if err != nil {
			continue
		}
		if tryLock(f) {
			(&workCopy{dir: strings.TrimSuffix(name, lockSuffix), lock: f}).remove()
			continue
		}
		f.Close()
	}
}

// remove deletes the copy. The lock's name goes last.
func (w *workCopy) remove() {
	if w == nil {
		return
	}
	_ = os.RemoveAll(w.dir) // the next process tries again
	_ = os.Remove(w.lock.Name())
	w.lock.Close()
}

// fill makes the copy afresh from the durable token, refusing files that are
// not those provisioned, and points SoftHSM to it. If another process rotates
// the key meanwhile, the files are those of the new token at the second try.
func (w *workCopy) fill(from string) error {
	m, err := readMeta(from)
	if err != nil {
		return err
	}
	if err = w.copy(from, m); err != nil {
		again, e := readMeta(from)
		if e != nil || again.Dir == m.Dir {
			return err
		}
		err = w.copy(from, again)
	}
	return err
}

func (w *workCopy) copy(from string, m *tokenMeta) error {
	if err := w.use(); err != nil {
		return err
	}
	for name, sum := range m.Files {
		if err := copyFile(filepath.Join(from, m.Dir, name), filepath.Join(w.tokens(), name), sum); err != nil {
			return err
		}
	}
	return nil
}

func (w *workCopy) tokens() string { return filepath.Join(w.dir, "tokens") }

// use empties the copy and points SoftHSM to it, by a configuration that it
// finds through the environment, in C, when it is initialised.
func (w *workCopy) use() error {
	if strings.ContainsAny(w.dir, "=#\r\n") {
		return fmt.Errorf("hsm: SoftHSM cannot read the folder name %q in its configuration", w.dir)
	}
	if err := os.RemoveAll(w.tokens()); err != nil {
		return fmt.Errorf("hsm: emptying the working copy: %w", err)
	}
	if err := os.Mkdir(w.tokens(), 0o700); err != nil {
		return fmt.Errorf("hsm: emptying the working copy: %w", err)
	}
	conf := filepath.Join(w.dir, "softhsm2.conf")
	text := "directories.tokendir = " + w.tokens() + "\n" +
		"objectstore.backend = file\n" +
		"log.level = ERROR\n" +
		"slots.removable = false\n" +
		"library.reset_on_fork = true\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return fmt.Errorf("hsm: configuring SoftHSM: %w", err)
	}
	if os.Getenv(confVariable) == conf {
		return nil // C code elsewhere may be reading the environment
	}
	return os.Setenv(confVariable, conf)
}

// install puts the copy's files into to/sub and makes them the token of to:
// until the last step, the one before it stays.
func (w *workCopy) install(to, sub, label string) error {
	dir := filepath.Join(to, sub)
	if err := os.RemoveAll(dir); err != nil { // of a change that was cut off
		return fmt.Errorf("hsm: installing the token: %w", err)
	}
	if err := os.CopyFS(dir, os.DirFS(w.tokens())); err != nil {
		return fmt.Errorf("hsm: installing the token: %w", err)
	}
	if err := private(dir); err != nil {
		return fmt.Errorf("hsm: installing the token: %w", err)
	}
	return writeMeta(to, sub, label)
}

// private takes the rights of group and others from all below dir.
func private(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return os.Chmod(path, 0o600)
	})
}

func copyFile(from, to, sum string) error {
	f, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("hsm: the durable token is damaged: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxTokenFile))
	if err != nil {
		return fmt.Errorf("hsm: the durable token is damaged: %w", err)
	}
	if got := sha256.Sum256(raw); hex.EncodeToString(got[:]) != sum {
		return fmt.Errorf("hsm: the durable token is damaged: %s is not as it was provisioned", from)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return fmt.Errorf("hsm: filling the working copy: %w", err)
	}
	if err := os.WriteFile(to, raw, 0o600); err != nil {
		return fmt.Errorf("hsm: filling the working copy: %w", err)
	}
	return nil
}
