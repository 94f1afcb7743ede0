package upstream

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"coffer/internal/durable"
)

// Journal remembers in a file what mirrors have missed, beyond the end of the
// process and for all processes of the machine.
//
// The file has a line for each miss: "ID MIRROR NAME", with the object name
// quoted as in Go; the name "" stands for everything. The ID tells one miss of a
// name from the next, so that what was missed while an older miss was made good
// is not forgotten with it.
type Journal struct {
	path    string
	mirrors []string // names, by index
	mu      sync.Mutex
}

// missKey is an object on a mirror; the name "" is all objects.
type missKey struct {
	mirror int
	name   string
}

const (
	maxJournal = 16 << 20 // bytes; what misses more is compared whole
	missIDSize = 12
)

// OpenJournal returns the journal in the file path, which is made when something
// is missed. The folder must exist. The names are those of the buckets of
// [MirrorConfig], in their order; they must stay when the order changes.
func OpenJournal(path string, mirrors []string) (*Journal, error) {
	for i, name := range mirrors {
		if name == "" || strings.ContainsAny(name, " \n") || slices.Contains(mirrors[:i], name) {
			return nil, fmt.Errorf("journal of mirrors: name %q is empty, not one word, or there twice", name)
		}
	}
	j := &Journal{path: path, mirrors: slices.Clone(mirrors)}
	_, err := j.read()
	return j, err
}

// lock keeps other processes out; what it returns lets them in again.
func (j *Journal) lock() (unlock func(), err error) {
	j.mu.Lock()
	f, err := os.OpenFile(j.path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = retryEINTR(func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX) })
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}
	if err != nil {
		j.mu.Unlock()
		return nil, fmt.Errorf("locking the journal of mirrors: %w", err)
	}
	return func() {
		_ = f.Close() // gives the lock back; nothing was written
		j.mu.Unlock()
	}, nil
}

// Behind counts the changes that each mirror has missed, in the order of the names;
// -1 is everything.
func (j *Journal) Behind() ([]int, error) {
	all, err := j.read()
	if err != nil {
		return nil, err
	}
	behind := make([]int, len(j.mirrors))
	for k := range all {
		if k.name == "" {
			behind[k.mirror] = -1
		} else if behind[k.mirror] >= 0 {
			behind[k.mirror]++
		}
	}
	return behind, nil
}

func retryEINTR(fn func() error) error {
	for {
		if err := fn(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// MissedAll notes that a mirror may have missed everything: it is new.
func (j *Journal) MissedAll(mirror int) error { return j.miss(mirror, "") }

// miss notes durably that the mirror has not what the others have under name.
func (j *Journal) miss(mirror int, name string) error {
	unlock, err := j.lock()
	if err != nil {
		return err
	}
	defer unlock()
	f, err := os.OpenFile(j.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("noting what a mirror missed: %w", err)
	}
	created, err := j.add(f, mirror, name)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil && created {
		err = durable.SyncDir(filepath.Dir(j.path))
	}
	if err != nil {
		return fmt.Errorf("noting what a mirror missed: %w", err)
	}
	return nil
}

// add appends a line to f; one that a crash has cut is ended first.
func (j *Journal) add(f *os.File, mirror int, name string) (created bool, err error) {
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	line := j.line(missKey{mirror, name}, newMissID())
	if info.Size() >= maxJournal {
		all, err := j.load()
		if err != nil {
			return false, err
		}
		all[missKey{mirror, ""}] = newMissID()
		return false, j.rewrite(all)
	}
	if n := info.Size(); n > 0 {
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, n-1); err != nil {
			return false, err
		}
		if last[0] != '\n' {
			line = "\n" + line
		}
	}
	_, err = io.WriteString(f, line)
	return info.Size() == 0, err
}

func newMissID() string { return rand.Text()[:missIDSize] }

func (j *Journal) line(k missKey, id string) string {
	return id + " " + j.mirrors[k.mirror] + " " + strconv.Quote(k.name) + "\n"
}

// read returns what is missed, with the ID of the last miss.
func (j *Journal) read() (map[missKey]string, error) {
	unlock, err := j.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	return j.load()
}

// load is read under the lock. A line that makes no sense may have named
// anything: then every mirror may have missed everything. Mirrors that are not
// configured any more are forgotten.
func (j *Journal) load() (map[missKey]string, error) {
	all := make(map[missKey]string)
	f, err := os.Open(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the journal of mirrors: %w", err)
	}
	defer f.Close()
	s := bufio.NewScanner(io.LimitReader(f, 2*maxJournal))
	for s.Scan() {
		id, rest, _ := strings.Cut(s.Text(), " ")
		mirror, quoted, _ := strings.Cut(rest, " ")
		name, err := strconv.Unquote(quoted)
		if err != nil || len(id) != missIDSize {
			for i := range j.mirrors {
				all[missKey{i, ""}] = cmp.Or(all[missKey{i, ""}], s.Text())
			}
			continue
		}
		if i := slices.Index(j.mirrors, mirror); i >= 0 {
			all[missKey{i, name}] = id
		}
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("reading the journal of mirrors: %w", err)
	}
	return all, nil
}

// done forgets misses that were made good: those whose IDs are still the same.
func (j *Journal) done(good map[missKey]string) error {
	if len(good) == 0 {
		return nil
	}
	unlock, err := j.lock()
	if err != nil {
		return err
	}
	defer unlock()
	all, err := j.load()
	if err != nil {
		return err
	}
	for k, id := range good {
		if all[k] == id {
			delete(all, k)
		}
	}
	return j.rewrite(all)
}

// rewrite replaces the file. A mirror that is to be compared whole needs no names.
func (j *Journal) rewrite(all map[missKey]string) error {
	var b bytes.Buffer
	for k, id := range all {
		if _, whole := all[missKey{k.mirror, ""}]; whole && k.name != "" {
			continue
		}
		if len(id) != missIDSize {
			id = newMissID() // of a line that made no sense
		}
		b.WriteString(j.line(k, id))
	}
	return durable.WriteFile(j.path, b.Bytes(), 0o600)
}
