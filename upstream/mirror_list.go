package upstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// List implements [Bucket]. It merges the lists of all mirrors that answer; what
// only one has is listed too, unless it is known to be out of date there.
func (m *Mirror) List(ctx context.Context, prefix, after string, fn func(Info) error) error {
	ctx, cancel := context.WithCancel(ctx)
	heads, wait := m.heads(ctx, prefix, after)
	defer wait()
	defer cancel() // before wait: defers run backwards
	if err := m.merge(heads, fn); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("listing %q: %w", prefix, err)
	}
	var errs []error
	for i := range heads {
		m.note(i, heads[i].err)
		if heads[i].err != nil {
			errs = append(errs, heads[i].err)
		}
	}
	if len(errs) == len(heads) {
		return errors.Join(errs...)
	}
	return nil
}

// heads begins the lists of all mirrors. Who has ended ctx or read them all calls
// wait.
func (m *Mirror) heads(ctx context.Context, prefix, after string) (heads []listHead, wait func()) {
	var wg sync.WaitGroup
	heads = make([]listHead, len(m.buckets))
	for i, b := range m.buckets {
		h := &heads[i]
		h.ch = make(chan Info, 100)
		wg.Go(func() {
			defer close(h.ch)
			h.err = b.List(ctx, prefix, after, func(info Info) error {
				select {
				case h.ch <- info:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
		})
	}
	for i := range heads {
		heads[i].next()
	}
	return heads, wg.Wait
}

// lowest is the first name that some list is at.
func lowest(heads []listHead) (name string, ok bool) {
	for i := range heads { // no copy: err may just be written
		if heads[i].ok && (!ok || heads[i].info.Name < name) {
			name, ok = heads[i].info.Name, true
		}
	}
	return name, ok
}

// listHead is the list of one mirror, as far as it has been read.
type listHead struct {
	ch   chan Info
	info Info
	ok   bool
	err  error // to be read when ok is false: ch is closed then
}

func (h *listHead) next() { h.info, h.ok = <-h.ch }

// merge calls fn for each name once, in order; the first mirror that has it
// describes it.
func (m *Mirror) merge(heads []listHead, fn func(Info) error) error {
	for {
		name, ok := lowest(heads)
		if !ok {
			return nil
		}
		told := false
		for i := range heads {
			h := &heads[i]
			if !h.ok || h.info.Name != name {
				continue
			}
			if !told && !m.isBehind(i, name) {
				if err := fn(h.info); err != nil {
					return err
				}
				told = true
			}
			h.next()
		}
	}
}

func (m *Mirror) isBehind(i int, name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.states[i].behind[name]
}
