// Package report holds what runs of backup, restore and check tell their caller.
package report

import (
	"sync"
	"time"
)

// Statistics counts what a snapshot holds and what its run did.
type Statistics struct {
	Files     int64 `json:"files"`     // regular files
	Dirs      int64 `json:"dirs"`      //
	Others    int64 `json:"others"`    // symlinks, devices, FIFOs
	Bytes     int64 `json:"bytes"`     // of all regular files
	New       int64 `json:"new"`       // files that the parent had not
	Changed   int64 `json:"changed"`   // files that differ from the parent
	Unchanged int64 `json:"unchanged"` // files that were not read, or not restored because they are there
	Read      int64 `json:"read"`      // bytes read from files, or from packs
	Added     int64 `json:"added"`     // bytes of new chunks, before compression
	Uploaded  int64 `json:"uploaded"`  // bytes sent, sealed
	Packs     int64 `json:"packs"`     // packs sent
}

// Progress is a running total.
type Progress struct {
	Phase    string    `json:"phase"` // "store", "restore", "check", "prune", "copy"
	Started  time.Time `json:"started"`
	Files    int64     `json:"files"`    // done; packs, where those are what is counted
	Bytes    int64     `json:"bytes"`    // done, of the files' sizes
	AllFiles int64     `json:"allFiles"` // found so far; final once Counted
	AllBytes int64     `json:"allBytes"` //
	Counted  bool      `json:"counted"`  // AllFiles and AllBytes will not grow any more
	Uploaded int64     `json:"uploaded"` // bytes sent, or fetched
	Failed   int64     `json:"failed"`
	Current  string    `json:"current"` // path at work
}

// FileError says what happened to one file.
type FileError struct {
	Path string `json:"path"`
	Err  string `json:"error"`
}

// Report is the outcome of a run that reached its end. A run with an entry in
// Failed is incomplete: what could be done is done (exit code 3 of the command).
type Report struct {
	Statistics
	Failed   []FileError   `json:"failed"`             // not saved, or not restored
	Warnings []FileError   `json:"warnings"`           // done, but not in full: owner not set, file changed while it was read
	Replaced []string      `json:"replaced,omitempty"` // by a restore: what was there and was another
	Deleted  []string      `json:"deleted,omitempty"`  // by a restore: what was there and not in the snapshot
	Took     time.Duration `json:"took"`               // ns
}

// maxListed bounds the lists of a Report.
const maxListed = 10000

// Log gathers what happens to files. It is safe for concurrent use.
type Log struct {
	mu       sync.Mutex
	failed   []FileError
	warnings []FileError
	replaced []string
	deleted  []string
	failures int64
}

// Failed notes that a file was left out.
func (l *Log) Failed(path string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures++
	if len(l.failed) < maxListed {
		l.failed = append(l.failed, FileError{path, err.Error()})
	}
}

// Warn notes that a file was not done in full.
func (l *Log) Warn(path string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.warnings) < maxListed {
		l.warnings = append(l.warnings, FileError{path, err.Error()})
	}
}

// Replaced notes that something else takes the place of what was there.
func (l *Log) Replaced(path string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.replaced) < maxListed {
		l.replaced = append(l.replaced, path)
	}
}

// Deleted notes that what was there is removed.
func (l *Log) Deleted(path string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.deleted) < maxListed {
		l.deleted = append(l.deleted, path)
	}
}

// Failures counts what Failed was told.
func (l *Log) Failures() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failures
}

// Report returns what was noted.
func (l *Log) Report(s Statistics) Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Report{Statistics: s, Failed: l.failed, Warnings: l.warnings, Replaced: l.replaced, Deleted: l.deleted}
}

// Every calls fn, if there is one, with what progress gives a few times a second
// and once at the end, until the function that it returns is called.
func Every(fn func(Progress), progress func() Progress) (stop func()) {
	if fn == nil {
		return func() {}
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(250 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				fn(progress())
			case <-quit:
				fn(progress())
				return
			}
		}
	}()
	return func() { close(quit); <-done }
}
