// Package faulty puts a Bucket behind faults that a test has scripted: calls that
// fail, answers that are lost, bodies that are cut, altered or exchanged, lists
// that are out of date, delays. It is for tests only.
package faulty

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"coffer/upstream"
)

// The kinds of calls, for [Fault.Op] and [Bucket.Calls].
const (
	Put      = "put"
	Get      = "get"
	Head     = "head"
	List     = "list"
	Delete   = "delete"
	Copy     = "copy"
	Start    = "start"
	Part     = "part"
	Complete = "complete"
	Abort    = "abort"
	Uploads  = "uploads"
)

// ErrCrash is for tests that stop a program in the middle: what is behind it
// must not be retried.
var ErrCrash = errors.New("faulty: crash")

// Fault says which calls go wrong, and how. The zero values of its fields mean:
// every call, every name, nothing wrong.
type Fault struct {
	Op     string // kind of call; empty matches all
	Prefix string // of the name; of a list: its prefix
	Nth    int    // only the nth of the calls that match, from 1; 0 all of them
	From   int    // only the nth of the calls that match and all after it; for a storage that dies

	Err   error         // returned instead of the call's result
	After bool          // the call takes effect before Err is returned: a lost answer
	Delay time.Duration // before the call, or until its ctx ends

	// The next ones concern the body of Get.
	Cut    bool   // the body ends with io.ErrUnexpectedEOF at CutAt bytes
	Short  bool   // the body ends with io.EOF at CutAt bytes: a lie
	CutAt  int64  // bytes of the answer
	Flip   bool   // the lowest bit of the byte at FlipAt of the object is flipped
	FlipAt int64  // offset in the object; negative counts from its end
	Other  string // Get and Head answer with this object, under the name asked for

	Stale bool // List answers as it would have when Freeze was called
}

// Bucket is an upstream.Bucket with faults. Safe for use by many goroutines.
type Bucket struct {
	inner upstream.Bucket

	mu     sync.Mutex
	faults []*scripted
	calls  map[string]int
	frozen []upstream.Info
}

type scripted struct {
	Fault
	seen int
}

// New returns a Bucket that does what b does, until a fault is added.
func New(b upstream.Bucket) *Bucket {
	return &Bucket{inner: b, calls: make(map[string]int)}
}

// Add scripts one more fault. Where several match a call, the first added counts.
func (b *Bucket) Add(f Fault) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults = append(b.faults, &scripted{Fault: f})
}

// Reset forgets all faults and counts.
func (b *Bucket) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults, b.calls = nil, make(map[string]int)
}

// Calls returns how many calls of a kind there were; of all kinds for "".
func (b *Bucket) Calls(op string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if op != "" {
		return b.calls[op]
	}
	total := 0
	for _, n := range b.calls {
		total += n
	}
	return total
}

// Freeze remembers what a list of everything says now, for Fault.Stale.
func (b *Bucket) Freeze(ctx context.Context) error {
	var frozen []upstream.Info
	err := b.inner.List(ctx, "", "", func(i upstream.Info) error {
		frozen = append(frozen, i)
		return nil
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	b.frozen = frozen
	return err
}

// begin counts the call, waits as told and returns the fault that is its lot. A
// call whose effect is not to take place gets the error right here.
func (b *Bucket) begin(ctx context.Context, op, name string) (Fault, error) {
	f := b.match(op, name)
	if f.Delay > 0 {
		timer := time.NewTimer(f.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return f, ctx.Err()
		}
	}
	if f.Err != nil && !f.After {
		return f, f.Err
	}
	return f, nil
}

func (b *Bucket) match(op, name string) Fault {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls[op]++
	var found Fault
	for _, s := range slices.Backward(b.faults) { // all count, the first wins
		if s.Op != "" && s.Op != op || !strings.HasPrefix(name, s.Prefix) {
			continue
		}
		s.seen++
		if (s.Nth == 0 || s.Nth == s.seen) && s.seen >= s.From {
			found = s.Fault
		}
	}
	return found
}

// lost is the error of a call that took effect.
func (f Fault) lost(err error) error {
	if err == nil && f.After {
		return f.Err
	}
	return err
}

// Put implements [upstream.Bucket].
func (b *Bucket) Put(ctx context.Context, name string, body io.Reader, size int64, o upstream.PutOptions) (upstream.Info, error) {
	f, err := b.begin(ctx, Put, name)
	if err != nil {
		return upstream.Info{}, err
	}
	info, err := b.inner.Put(ctx, name, body, size, o)
	return info, f.lost(err)
}

// Head implements [upstream.Bucket].
func (b *Bucket) Head(ctx context.Context, name string) (upstream.Info, error) {
	f, err := b.begin(ctx, Head, name)
	if err != nil {
		return upstream.Info{}, err
	}
	asked := name
	if f.Other != "" {
		name = f.Other
	}
	info, err := b.inner.Head(ctx, name)
	info.Name = asked
	return info, f.lost(err)
}

// List implements [upstream.Bucket].
func (b *Bucket) List(ctx context.Context, prefix, after string, fn func(upstream.Info) error) error {
	f, err := b.begin(ctx, List, prefix)
	if err != nil {
		return err
	}
	if !f.Stale {
		return f.lost(b.inner.List(ctx, prefix, after, fn))
	}
	b.mu.Lock()
	frozen := b.frozen
	b.mu.Unlock()
	for _, i := range frozen {
		if strings.HasPrefix(i.Name, prefix) && i.Name > after {
			if err := fn(i); err != nil {
				return err
			}
		}
	}
	return f.lost(nil)
}

// Delete implements [upstream.Bucket].
func (b *Bucket) Delete(ctx context.Context, name string) error {
	f, err := b.begin(ctx, Delete, name)
	if err != nil {
		return err
	}
	return f.lost(b.inner.Delete(ctx, name))
}

// Copy implements [upstream.Bucket]; a fault's Prefix is that of dst.
func (b *Bucket) Copy(ctx context.Context, dst, src string, o upstream.PutOptions) (upstream.Info, error) {
	f, err := b.begin(ctx, Copy, dst)
	if err != nil {
		return upstream.Info{}, err
	}
	info, err := b.inner.Copy(ctx, dst, src, o)
	return info, f.lost(err)
}

// StartMultipart implements [upstream.Bucket].
func (b *Bucket) StartMultipart(ctx context.Context, name string, o upstream.PutOptions) (string, error) {
	f, err := b.begin(ctx, Start, name)
	if err != nil {
		return "", err
	}
	id, err := b.inner.StartMultipart(ctx, name, o)
	return id, f.lost(err)
}

// PutPart implements [upstream.Bucket].
func (b *Bucket) PutPart(ctx context.Context, name, id string, number int, body io.Reader, size int64) (string, error) {
	f, err := b.begin(ctx, Part, name)
	if err != nil {
		return "", err
	}
	etag, err := b.inner.PutPart(ctx, name, id, number, body, size)
	return etag, f.lost(err)
}

// CompleteMultipart implements [upstream.Bucket].
func (b *Bucket) CompleteMultipart(ctx context.Context, name, id string, parts []upstream.Part, o upstream.PutOptions) (upstream.Info, error) {
	f, err := b.begin(ctx, Complete, name)
	if err != nil {
		return upstream.Info{}, err
	}
	info, err := b.inner.CompleteMultipart(ctx, name, id, parts, o)
	return info, f.lost(err)
}

// AbortMultipart implements [upstream.Bucket].
func (b *Bucket) AbortMultipart(ctx context.Context, name, id string) error {
	f, err := b.begin(ctx, Abort, name)
	if err != nil {
		return err
	}
	return f.lost(b.inner.AbortMultipart(ctx, name, id))
}

// ListMultipart implements [upstream.Bucket].
func (b *Bucket) ListMultipart(ctx context.Context, prefix string, fn func(upstream.Upload) error) error {
	f, err := b.begin(ctx, Uploads, prefix)
	if err != nil {
		return err
	}
	return f.lost(b.inner.ListMultipart(ctx, prefix, fn))
}
