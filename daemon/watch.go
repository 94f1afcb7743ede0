package daemon

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
)

// eventBuffer is how many events wait in the process before they wait in the
// kernel, which holds fs.inotify.max_queued_events more.
const eventBuffer = 4096

// watcher has one inotify watch on each directory of a source, the ignored ones
// and what is below them aside. It tells the source that something changed,
// not what: the backup finds that out.
type watcher struct {
	s    *source
	root string // what is watched: the path, or the folder it is in when it is a file
	only string // name of that file

	trouble chan struct{} // holds one: events were lost, or the watcher was replaced
	lost    atomic.Bool   // events were lost: what is watched is not known any more

	mu      sync.Mutex // held by sync, which walks the tree, and while an event is handled
	fs      *fsnotify.Watcher
	dirs    map[string]struct{} // absolute; the watches that we believe to have
	limited bool
	device  uint64 // of root, for OneFileSystem

	watchDir func(dir string) error // tests put a kernel without watches here; nil: fs.Add
}

func newWatcher(s *source) *watcher {
	return &watcher{s: s, trouble: make(chan struct{}, 1), dirs: make(map[string]struct{})}
}

// sync watches what is not watched yet. It is called before each scan: so the
// scan also mends what events have missed.
func (w *watcher) sync() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lost.Swap(false) {
		w.close() // names of watches go wrong when a rename is missed
	}
	if err := w.open(); err != nil {
		w.report(err)
		return
	}
	before := w.dirs
	w.dirs = make(map[string]struct{}, len(before))
	limited := w.limited
	w.limited = false
	w.add(w.root)
	for dir := range before {
		if _, kept := w.dirs[dir]; !kept {
			_ = w.fs.Remove(dir) // gone, or ignored by now
		}
	}
	w.report(nil)
	if w.limited && !limited {
		w.s.d.log.Warn("watch limit reached: changes elsewhere wait for the scan", zap.String("source", w.s.c.Name),
			zap.Int("watched", len(w.dirs)), zap.String("hint", limitHint))
		w.s.d.events.publish(Event{Kind: WatchLimit, Source: w.s.c.Name, Error: limitError, Hint: limitHint})
	}
}

// What is said when the watch limit is reached, and what the user can do.
const (
	limitError = "the limit of watches is reached: what changes elsewhere is found by the scan"
	limitHint  = "sudo sysctl fs.inotify.max_user_watches=1048576 (in /etc/sysctl.d to keep it), or exclude folders"
)

// open finds the root and makes the inotify instance, unless it is there.
func (w *watcher) open() error {
	info, err := os.Stat(w.s.c.Path)
	if err != nil {
		return err
	}
	w.root, w.only = w.s.c.Path, ""
	if !info.IsDir() {
		w.root, w.only = filepath.Dir(w.root), filepath.Base(w.root)
	}
	w.device = device(info)
	if w.fs != nil {
		return nil
	}
	w.fs, err = fsnotify.NewBufferedWatcher(eventBuffer)
	if err != nil {
		return err
	}
	// The errors are taken apart from the events: fsnotify holds its lock while
	// it sends one, and whoever handles an event may wait for that lock.
	go func(errs <-chan error) {
		for err := range errs {
			if errors.Is(err, fsnotify.ErrEventOverflow) {
				w.lost.Store(true)
			} else {
				w.s.d.log.Warn("watching", zap.String("source", w.s.c.Name), zap.Error(err))
			}
			w.alarm()
		}
	}(w.fs.Errors)
	w.alarm()
	return nil
}

// close gives up all watches. The caller holds mu.
func (w *watcher) close() {
	if w.fs != nil {
		_ = w.fs.Close() // it only tells that it was closed before
		w.fs = nil
	}
	clear(w.dirs)
}

func (w *watcher) alarm() {
	select {
	case w.trouble <- struct{}{}:
	default:
	}
}

// report puts what is watched into the status. The caller holds mu.
func (w *watcher) report(err error) {
	st := WatchStatus{Mode: "watching", Directories: len(w.dirs)}
	switch {
	case err != nil:
		st.Mode, st.Error = "failed", err.Error()
		if errors.Is(err, syscall.EMFILE) {
			st.Hint = "sudo sysctl fs.inotify.max_user_instances=512 (in /etc/sysctl.d to keep it)"
		}
	case w.limited:
		st.Mode, st.Error, st.Hint = "limited", limitError, limitHint
	}
	w.s.mu.Lock()
	w.s.watch = st
	w.s.mu.Unlock()
}

// run handles events until ctx ends.
func (w *watcher) run(ctx context.Context) {
	defer func() {
		w.mu.Lock()
		w.close()
		w.mu.Unlock()
	}()
	for {
		w.mu.Lock()
		var events <-chan fsnotify.Event
		if w.fs != nil {
			events = w.fs.Events
		}
		w.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-w.trouble:
			if w.lost.Load() {
				w.overflowed()
			}
		case e, ok := <-events:
			if ok {
				w.handle(e)
			} else if !w.replaced(events) {
				return
			}
		}
	}
}

// replaced says whether another watcher has taken the place of the one that
// gave events.
func (w *watcher) replaced(events <-chan fsnotify.Event) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fs != nil && w.fs.Events == events {
		w.close() // it ended by itself; the next scan opens one
	}
	return true
}

// overflowed begins anew: nobody knows which events were lost.
func (w *watcher) overflowed() {
	w.s.d.metrics.overflows.Inc()
	w.s.d.log.Warn("events lost, the source is scanned", zap.String("source", w.s.c.Name))
	w.s.d.events.publish(Event{Kind: Overflow, Source: w.s.c.Name})
	w.sync()
	w.s.changed()
}

// handle notes the change and follows directories that come and go.
func (w *watcher) handle(e fsnotify.Event) {
	if e.Op == 0 {
		return
	}
	if w.only != "" {
		if filepath.Base(e.Name) == w.only {
			w.s.changed()
		}
		return
	}
	rel, inside := below(w.root, e.Name)
	w.mu.Lock()
	_, dir := w.dirs[e.Name]
	w.mu.Unlock()
	if e.Has(fsnotify.Create) {
		info, err := os.Lstat(e.Name)
		dir = err == nil && info.IsDir()
	}
	if inside && w.s.ignore.match(rel, dir) {
		return
	}
	w.s.d.metrics.events.Inc()
	w.s.changed()
	if !dir {
		return
	}
	w.mu.Lock()
	switch {
	case w.fs == nil:
	case e.Has(fsnotify.Create):
		w.add(e.Name)
		w.report(nil)
	case e.Has(fsnotify.Remove):
		delete(w.dirs, e.Name) // the kernel has removed the watch
		w.report(nil)
	case e.Has(fsnotify.Rename):
		w.forget(e.Name)
		w.report(nil)
	}
	w.mu.Unlock()
	if e.Has(fsnotify.Create) {
		// What was made in the new directory before it was watched had no event,
		// and a backup that ran meanwhile may have missed it.
		w.s.changed()
	}
}

// forget gives up the watches on top and below it, which are known by names that
// are not true any more. The caller holds mu.
func (w *watcher) forget(top string) {
	for dir := range w.dirs {
		if dir == top || strings.HasPrefix(dir, top+"/") {
			_ = w.fs.Remove(dir) // fsnotify may have removed it
			delete(w.dirs, dir)
		}
	}
}

// add watches top and the directories below it, those near the top first. Each
// is watched before it is listed: what is made in between has an event. The
// caller holds mu.
func (w *watcher) add(top string) {
	for queue := []string{top}; len(queue) > 0; queue = queue[1:] {
		dir := queue[0]
		err := w.watchOne(dir)
		if errors.Is(err, syscall.ENOSPC) {
			w.limited = true
			return
		}
		if err != nil {
			if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrPermission) { // those the backup reports
				w.s.d.log.Warn("watching", zap.String("source", w.s.c.Name), zap.Error(err))
			}
			continue
		}
		w.dirs[dir] = struct{}{}
		if w.only == "" {
			queue = w.list(dir, queue)
		}
	}
}

func (w *watcher) watchOne(dir string) error {
	if w.watchDir != nil {
		return w.watchDir(dir)
	}
	return w.fs.Add(dir)
}

// list appends the directories in dir that are to be watched.
func (w *watcher) list(dir string, queue []string) []string {
	f, err := os.Open(dir)
	if err != nil {
		return queue
	}
	defer f.Close()
	for {
		entries, err := f.ReadDir(1024)
		for _, e := range entries {
			full := filepath.Join(dir, e.Name())
			rel, ok := below(w.root, full)
			if !e.IsDir() || !ok || w.s.ignore.match(rel, true) {
				continue
			}
			if w.s.c.OneFileSystem {
				if info, err := e.Info(); err != nil || device(info) != w.device {
					continue
				}
			}
			queue = append(queue, full)
		}
		if err != nil { // io.EOF, or the directory is gone
			if !errors.Is(err, io.EOF) {
				w.s.d.log.Debug("listing", zap.Error(err))
			}
			return queue
		}
	}
}

func device(info os.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Dev)
	}
	return 0
}
