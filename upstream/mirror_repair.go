package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
)

// Repair makes the object name on a mirror what it is on the others, absent if it
// is absent there.
func (m *Mirror) Repair(ctx context.Context, mirror int, name string) error {
	if mirror < 0 || mirror >= len(m.buckets) {
		return fmt.Errorf("mirror %d of %d", mirror, len(m.buckets))
	}
	mu := m.lock(name)
	mu.Lock()
	defer mu.Unlock()
	var errs []error
	for _, i := range m.order(name) {
		if i == mirror {
			continue
		}
		err := m.transfer(ctx, m.buckets[i], m.buckets[mirror], name)
		if err == nil {
			m.caughtUp(mirror, name)
			m.note(mirror, nil)
			return nil
		}
		errs = append(errs, err)
	}
	return fmt.Errorf("repairing %q on mirror %d: %w", name, mirror, cmp.Or(errors.Join(errs...), error(ErrUnavailable)))
}

// Repaired tells what CatchUp did.
type Repaired struct {
	Done int // misses that were made good
	Left int // misses that are still there
}

const (
	repairBatch = 256             // misses after which the journal is told
	repairEvery = 1 * time.Minute // between two attempts of Run
)

// CatchUp makes good what mirrors have missed, as far as they can be reached: what
// this Mirror remembers, and what its journal does. It needs no key. Its error
// is that of the first miss that could not be made good.
func (m *Mirror) CatchUp(ctx context.Context) (Repaired, error) {
	var r Repaired
	todo, err := m.misses()
	if err != nil {
		return r, err
	}
	keys := slices.SortedFunc(maps.Keys(todo), func(a, b missKey) int {
		return cmp.Or(cmp.Compare(a.mirror, b.mirror), strings.Compare(a.name, b.name))
	})
	var first error
	good := make(map[missKey]string)
	away := make(map[int]bool) // did not answer: no more of it in this round
	for _, k := range keys {
		if ctx.Err() != nil || away[k.mirror] {
			r.Left++
			continue
		}
		if err := m.repairMiss(ctx, k); err != nil {
			first = cmp.Or(first, err)
			away[k.mirror] = errors.Is(err, ErrUnavailable)
			r.Left++
			continue
		}
		r.Done++
		good[k] = todo[k]
		if len(good) == repairBatch {
			if err := m.forget(good); err != nil {
				return r, err
			}
		}
	}
	return r, cmp.Or(m.forget(good), first, ctx.Err())
}

// misses are those of the journal and of memory.
func (m *Mirror) misses() (map[missKey]string, error) {
	todo := make(map[missKey]string)
	if m.journal != nil {
		all, err := m.journal.read()
		if err != nil {
			return nil, err
		}
		todo = all
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for k := range todo { // of other processes too
		m.states[k.mirror].remember(k.name)
	}
	for i, s := range m.states {
		for name := range s.behind {
			todo[missKey{i, name}] += ""
		}
		if s.lost {
			todo[missKey{i, ""}] += ""
		}
	}
	return todo, nil
}

func (m *Mirror) forget(good map[missKey]string) error {
	defer clear(good)
	if m.journal == nil {
		return nil
	}
	return m.journal.done(good)
}

func (m *Mirror) repairMiss(ctx context.Context, k missKey) error {
	if k.name != "" {
		return m.Repair(ctx, k.mirror, k.name)
	}
	if err := m.repairWhole(ctx, k.mirror); err != nil {
		return fmt.Errorf("comparing mirror %d whole: %w", k.mirror, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.states[k.mirror].lost = false
	return nil
}

// repairWhole brings a mirror of which nobody knows what it missed up to date:
// what it lacks or has in another size, and what is newer elsewhere, is copied;
// what the others have no more goes, if they are sure.
func (m *Mirror) repairWhole(ctx context.Context, mirror int) error {
	var wrong []string
	err := m.Compare(ctx, "", func(d Difference) error {
		if m.differs(d, mirror) {
			wrong = append(wrong, d.Name)
		}
		return nil
	})
	for _, name := range wrong {
		if err == nil {
			err = m.Repair(ctx, mirror, name)
		}
	}
	return err
}

func (m *Mirror) differs(d Difference, mirror int) bool {
	mine, sure := d.Infos[mirror], true
	for i, other := range d.Infos {
		switch {
		case i == mirror:
		case other == nil:
			sure = sure && !m.isBehind(i, d.Name) && !m.isLost(i)
		case mine == nil || mine.Size != other.Size || other.ModTime.After(mine.ModTime):
			return true
		default:
			return false
		}
	}
	return sure // only this one has it
}

func (m *Mirror) isLost(i int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.states[i].lost
}

// Run catches up again and again until ctx ends, and returns nil then.
func (m *Mirror) Run(ctx context.Context) error {
	wait := time.NewTimer(0)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-wait.C:
		}
		r, err := m.CatchUp(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			m.log.Warn("mirrors are not up to date", zap.Int("repaired", r.Done), zap.Int("left", r.Left), zap.Error(err))
		case r.Done > 0:
			m.log.Info("mirrors are up to date again", zap.Int("repaired", r.Done))
		}
		wait.Reset(repairEvery)
	}
}

// Difference is an object and what each mirror has of it.
type Difference struct {
	Name  string
	Infos []*Info // by mirror; nil where it is absent
}

// Same says whether all mirrors have the object, in one size.
func (d Difference) Same() bool {
	for _, info := range d.Infos {
		if info == nil || d.Infos[0] == nil || info.Size != d.Infos[0].Size {
			return false
		}
	}
	return true
}

// Compare calls fn for every name that some mirror lists, in order. All mirrors
// must answer.
func (m *Mirror) Compare(ctx context.Context, prefix string, fn func(Difference) error) error {
	ctx, cancel := context.WithCancel(ctx)
	heads, wait := m.heads(ctx, prefix, "")
	defer wait()
	defer cancel()
	for {
		name, ok := lowest(heads)
		for i := range heads {
			if h := &heads[i]; !h.ok && h.err != nil {
				m.note(i, h.err)
				return fmt.Errorf("listing mirror %d: %w", i, h.err)
			}
		}
		if !ok {
			return ctx.Err()
		}
		d := Difference{Name: name, Infos: make([]*Info, len(heads))}
		for i := range heads {
			if h := &heads[i]; h.ok && h.info.Name == name {
				info := h.info
				d.Infos[i] = &info
				h.next()
			}
		}
		if err := fn(d); err != nil {
			return err
		}
	}
}
