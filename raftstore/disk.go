package raftstore

import (
	"fmt"
	"sync"
	"time"
)

// watch tells how long writes that have not returned yet have been running. A
// disk that hangs gives no error: time is the only sign.
type watch struct {
	mu      sync.Mutex
	next    uint64
	running map[uint64]time.Time
}

// begin notes that a write starts; call end when it returned.
func (w *watch) begin() (end func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running == nil {
		w.running = make(map[uint64]time.Time)
	}
	id := w.next
	w.next++
	w.running[id] = time.Now()
	return func() {
		w.mu.Lock()
		delete(w.running, id)
		w.mu.Unlock()
	}
}

// longest is the age of the oldest write that still runs, 0 for none.
func (w *watch) longest() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	var d time.Duration
	for _, t := range w.running {
		d = max(d, time.Since(t))
	}
	return d
}

// guarded runs a write to a database: it is timed, and a panic (pebble's answer
// to a failed write of its log) becomes an error.
func (w *watch) guarded(write func() error) (err error) {
	end := w.begin()
	defer end()
	return w.recovered(write)
}

// recovered is guarded for writes that may take long on a good disk.
func (w *watch) recovered(write func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("write panicked: %v", p)
		}
	}()
	return write()
}
