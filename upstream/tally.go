package upstream

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests is what went to one S3 store in one month, as stores charge for it.
type Requests struct {
	Upstream string `json:"upstream"`
	Month    string `json:"month"`    // as "2026-11", UTC
	Write    int64  `json:"write"`    // requests that write, copy or list
	Read     int64  `json:"read"`     // others
	Free     int64  `json:"free"`     // that remove
	Sent     int64  `json:"sent"`     // bytes
	Received int64  `json:"received"` // bytes
}

// Tally counts the requests to one store in a file for each month, which all
// processes of a user share: each number is a word of memory that belongs to the
// file, so no process has to end well. A nil Tally counts nothing.
type Tally struct {
	dir, name string

	mu    sync.Mutex // held while the month changes
	month atomic.Pointer[tallyMonth]
}

type tallyMonth struct {
	month string
	until time.Time
	*tallyFile
}

// tallyFile is the content of the file: 64 bytes, the numbers in the byte order of
// the machine, which alone reads them.
type tallyFile struct {
	magic                             [8]byte
	write, read, free, sent, received int64
	_                                 [2]int64
}

const (
	tallySize  = int(unsafe.Sizeof(tallyFile{}))
	tallyMagic = "tally 1\n"
)

// OpenTally counts in files of dir, which is made, under the name of an upstream.
func OpenTally(dir, name string) (*Tally, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("counting requests: %w", err)
	}
	t := &Tally{dir: dir, name: name}
	if _, err := t.now(); err != nil {
		return nil, fmt.Errorf("counting requests: %w", err)
	}
	return t, nil
}

// now is the file of this month.
func (t *Tally) now() (*tallyMonth, error) {
	at := time.Now().UTC()
	if m := t.month.Load(); m != nil && at.Before(m.until) {
		return m, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if m := t.month.Load(); m != nil && at.Before(m.until) {
		return m, nil
	}
	m := &tallyMonth{month: at.Format("2006-01"), until: time.Date(at.Year(), at.Month()+1, 1, 0, 0, 0, 0, time.UTC)}
	f, err := os.OpenFile(filepath.Join(t.dir, m.month+" "+t.name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Truncate(int64(tallySize)); err != nil { // what it grows by is zero
		return nil, err
	}
	b, err := unix.Mmap(int(f.Fd()), 0, tallySize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	copy(b, tallyMagic)
	m.tallyFile = (*tallyFile)(unsafe.Pointer(unsafe.SliceData(b))) // a page, which is never unmapped: one a month
	t.month.Store(m)
	return m, nil
}

// request counts one of a kind.
func (t *Tally) request(kind string) {
	t.add(func(f *tallyFile) *int64 {
		switch kind {
		case "get", "head":
			return &f.read
		case "delete", "abort":
			return &f.free
		}
		return &f.write
	}, 1)
}

func (t *Tally) sent(n int) { t.add(func(f *tallyFile) *int64 { return &f.sent }, n) }

func (t *Tally) received(n int) { t.add(func(f *tallyFile) *int64 { return &f.received }, n) }

// add counts; that a disk is full must not end a backup.
func (t *Tally) add(field func(*tallyFile) *int64, n int) {
	if t == nil || n == 0 {
		return
	}
	if m, err := t.now(); err == nil {
		atomic.AddInt64(field(m.tallyFile), int64(n))
	}
}

var tallyName = regexp.MustCompile(`^\d{4}-\d{2} .`)

// ReadTallies returns what was counted in dir, the newest month first.
func ReadTallies(dir string) ([]Requests, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading counts of requests: %w", err)
	}
	var all []Requests
	for _, e := range entries {
		if !tallyName.MatchString(e.Name()) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("reading counts of requests: %w", err)
		}
		if len(b) != tallySize || string(b[:len(tallyMagic)]) != tallyMagic {
			return nil, fmt.Errorf("%s counts no requests", filepath.Join(dir, e.Name()))
		}
		f := *(*tallyFile)(unsafe.Pointer(unsafe.SliceData(b)))
		month, name, _ := strings.Cut(e.Name(), " ")
		all = append(all, Requests{Upstream: name, Month: month, Write: f.write, Read: f.read, Free: f.free, Sent: f.sent, Received: f.received})
	}
	slices.SortStableFunc(all, func(a, b Requests) int { return strings.Compare(b.Month, a.Month) })
	return all, nil
}
