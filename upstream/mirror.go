package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

// MirrorConfig says of what a Mirror is made.
type MirrorConfig struct {
	// Buckets hold the same objects. The first decides conditions; reads prefer
	// it, then the second, and so on. All who write must have the same order.
	Buckets []Bucket

	// Quorum is how many must have a write before it is acknowledged; 0 means 1.
	// All that can be reached are waited for in any case.
	Quorum int

	// Journal remembers what mirrors have missed, so that CatchUp brings it to
	// them after a restart, too. Nil: it is remembered until the process ends.
	Journal *Journal

	// Missed is told what a mirror has missed: the object name is to be made there
	// what it is on the others (Repair does that). Nil: only logged. It may be
	// called by several goroutines, and must not call the Mirror.
	Missed func(mirror int, name string, err error)

	Log *zap.Logger // nil logs nothing
}

// Mirror is a Bucket whose objects lie in several others. What is in some of
// them counts as there.
//
// An ETag is that of the mirror which answered; IfAbsent and IfMatch are decided
// by the first mirror, and fail with ErrUnavailable when it cannot be reached.
// What a mirror has missed is remembered until CatchUp or Repair brings it there:
// such a mirror is not asked for that object.
type Mirror struct {
	buckets []Bucket
	quorum  int
	missed  func(int, string, error)
	journal *Journal
	log     *zap.Logger
	locks   [256]sync.Mutex // changes of one name come to all mirrors in one order

	mu     sync.Mutex
	states []mirrorState
}

// mirrorState is guarded by Mirror.mu.
type mirrorState struct {
	downUntil time.Time
	why       error           // the last ErrUnavailable
	behind    map[string]bool // names it has missed
	lost      bool            // more than maxBehind
}

// remember notes that name, "" for everything, was missed.
func (s *mirrorState) remember(name string) {
	s.lost = s.lost || name == "" || len(s.behind) >= maxBehind
	if !s.lost {
		s.behind[name] = true
	}
}

const (
	downTime  = 30 * time.Second // in which a mirror that failed is asked last, and written to only if it must
	maxBehind = 100_000
)

// NewMirror checks c and returns its Bucket.
func NewMirror(c MirrorConfig) (*Mirror, error) {
	quorum := cmp.Or(c.Quorum, 1)
	if len(c.Buckets) == 0 || quorum < 1 || quorum > len(c.Buckets) {
		return nil, fmt.Errorf("%d mirrors with a quorum of %d", len(c.Buckets), quorum)
	}
	if c.Journal != nil && len(c.Journal.mirrors) != len(c.Buckets) {
		return nil, fmt.Errorf("%d mirrors with a journal for %d", len(c.Buckets), len(c.Journal.mirrors))
	}
	m := &Mirror{buckets: slices.Clone(c.Buckets), quorum: quorum, missed: c.Missed, journal: c.Journal, log: c.Log, states: make([]mirrorState, len(c.Buckets))}
	if m.log == nil {
		m.log = zap.NewNop()
	}
	for i := range m.states {
		m.states[i].behind = make(map[string]bool)
	}
	_, err := m.misses() // of the runs before
	return m, err
}

// order returns the mirrors in the order in which to ask them for name: those
// that failed just now last, those that missed it not at all.
func (m *Mirror) order(name string) []int {
	m.mu.Lock()
	defer m.mu.Unlock()
	var up, down []int
	for i, s := range m.states {
		switch {
		case s.behind[name]:
		case s.lost || time.Now().Before(s.downUntil):
			down = append(down, i)
		default:
			up = append(up, i)
		}
	}
	return append(up, down...)
}

// note remembers how a call to mirror i went.
func (m *Mirror) note(i int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case err == nil:
		m.states[i].downUntil = time.Time{}
	case errors.Is(err, ErrUnavailable):
		m.states[i].downUntil, m.states[i].why = time.Now().Add(downTime), err
	}
}

// miss remembers that mirror i has not what the others have under name.
func (m *Mirror) miss(i int, name string, err error) {
	m.mu.Lock()
	m.states[i].remember(name)
	m.mu.Unlock()
	if m.journal != nil {
		if err := m.journal.miss(i, name); err != nil {
			m.log.Error("what a mirror has missed is known until the end of this process only", zap.Int("mirror", i), zap.Error(err))
		}
	}
	m.log.Warn("mirror has missed a change", zap.Int("mirror", i), zap.Error(err))
	if m.missed != nil {
		m.missed(i, name, err)
	}
}

// caughtUp forgets that mirror i has missed name.
func (m *Mirror) caughtUp(i int, name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.states[i].behind, name)
}

// errSkipped stands for a mirror that failed just now and was not asked.
var errSkipped = fmt.Errorf("not asked so soon after it failed: %w", ErrUnavailable)

// targets returns the mirrors to write to: all but those that are down, as long as
// the others make a quorum.
func (m *Mirror) targets() []bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	use := make([]bool, len(m.states))
	n := 0
	for i, s := range m.states {
		if use[i] = !time.Now().Before(s.downUntil); use[i] {
			n++
		}
	}
	for i := range use {
		if !use[i] && n < m.quorum {
			use[i] = true
			n++
		}
	}
	return use
}

// settle turns the outcomes of a write to name on all mirrors into one error, and
// reports the mirrors that missed it.
func (m *Mirror) settle(name string, errs []error) error {
	ok := 0
	for i, err := range errs {
		if !errors.Is(err, errSkipped) {
			m.note(i, err)
		}
		if err == nil {
			ok++
			m.caughtUp(i, name)
		}
	}
	if ok > 0 { // they have it, or at least some: the others lag behind them
		for i, err := range errs {
			if err != nil {
				m.miss(i, name, m.reason(i, err))
			}
		}
	}
	if ok >= m.quorum {
		return nil
	}
	err := joinAsked(errs)
	if ok > 0 {
		return fmt.Errorf("%d mirrors of %d have it: %w: %w", ok, m.quorum, ErrUnavailable, err)
	}
	return err
}

// reason is why mirror i, which failed with err, missed a write: if it was not
// asked, for what it failed with before.
func (m *Mirror) reason(i int, err error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if why := m.states[i].why; errors.Is(err, errSkipped) && why != nil {
		return why
	}
	return err
}

// joinAsked joins the errors of the mirrors that were asked, if any was: that of
// a mirror which was not would make a refusal look like an outage.
func joinAsked(errs []error) error {
	asked := slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return errors.Is(err, errSkipped) })
	return cmp.Or(errors.Join(asked...), errors.Join(errs...))
}

// each runs fn for the mirrors to write to, at the same time.
func (m *Mirror) each(fn func(i int) error) []error {
	use := m.targets()
	errs := make([]error, len(use))
	var wg sync.WaitGroup
	for i := range use {
		if !use[i] {
			errs[i] = errSkipped
			continue
		}
		wg.Go(func() { errs[i] = fn(i) })
	}
	wg.Wait()
	return errs
}

func (m *Mirror) lock(name string) *sync.Mutex { return &m.locks[stripe(name)] }

// first asks one mirror after the other until one has the object name. It is
// absent if all that were asked say so, or so many that no acknowledged write can
// have missed them all.
func (m *Mirror) first(ctx context.Context, name string, ask func(Bucket) error) error {
	var absent, other []error
	for _, i := range m.order(name) {
		err := ask(m.buckets[i])
		if err == nil || ctx.Err() != nil {
			return err
		}
		if !errors.Is(err, ErrNotExist) {
			m.note(i, err)
			other = append(other, err)
			continue
		}
		if absent = append(absent, err); len(absent) > len(m.buckets)-m.quorum {
			return err
		}
	}
	if len(other) == 0 {
		other = absent
	}
	return cmp.Or(errors.Join(other...), fmt.Errorf("no mirror is up to date on %q: %w", name, ErrUnavailable))
}

// Get implements [Bucket].
func (m *Mirror) Get(ctx context.Context, name string, off, n int64) (r io.ReadCloser, info Info, err error) {
	err = m.first(ctx, name, func(b Bucket) (err error) {
		r, info, err = b.Get(ctx, name, off, n)
		return err
	})
	if err != nil {
		return nil, Info{}, err
	}
	return r, info, nil
}

// Head implements [Bucket].
func (m *Mirror) Head(ctx context.Context, name string) (info Info, err error) {
	err = m.first(ctx, name, func(b Bucket) (err error) {
		info, err = b.Head(ctx, name)
		return err
	})
	return info, err
}

// Put implements [Bucket].
func (m *Mirror) Put(ctx context.Context, name string, body io.Reader, size int64, o PutOptions) (Info, error) {
	mu := m.lock(name)
	mu.Lock()
	defer mu.Unlock()
	if o.IfAbsent || o.IfMatch != "" {
		at, start, again := seekable(body)
		info, err := m.buckets[0].Put(ctx, name, body, size, o)
		return m.follow(name, info, err, func(i int) (err error) {
			if !again || size < 0 {
				return m.transfer(ctx, m.buckets[0], m.buckets[i], name)
			}
			_, err = m.buckets[i].Put(ctx, name, io.NewSectionReader(at, start, size), size, PutOptions{Meta: o.Meta})
			return err
		})
	}
	infos := make([]Info, len(m.buckets))
	errs := m.fanOut(ctx, body, size, func(i int, r io.Reader) (err error) {
		infos[i], err = m.buckets[i].Put(ctx, name, r, size, o)
		return err
	})
	return m.result(name, infos, errs)
}

// result is that of the first mirror that succeeded.
func (m *Mirror) result(name string, infos []Info, errs []error) (Info, error) {
	if err := m.settle(name, errs); err != nil {
		return Info{}, err
	}
	return infos[slices.Index(errs, nil)], nil
}

// follow brings what the first mirror did under a condition, with the outcome
// info and err, to the others: by fn.
func (m *Mirror) follow(name string, info Info, err error, fn func(i int) error) (Info, error) {
	if err != nil {
		m.note(0, err)
		return Info{}, err
	}
	errs := m.each(func(i int) error {
		if i == 0 {
			return nil
		}
		return fn(i)
	})
	errs[0] = nil // also if it was down a moment ago
	return info, m.settle(name, errs)
}

// transfer makes the object name the same in to as it is in from.
func (m *Mirror) transfer(ctx context.Context, from, to Bucket, name string) error {
	r, info, err := from.Get(ctx, name, 0, -1)
	if errors.Is(err, ErrNotExist) {
		return to.Delete(ctx, name)
	}
	if err != nil {
		return err
	}
	size := info.Size
	if size > MaxPut {
		size = -1 // in parts
	}
	_, err = to.Put(ctx, name, r, size, PutOptions{Meta: info.Meta})
	return errors.Join(err, r.Close())
}

// Delete implements [Bucket].
func (m *Mirror) Delete(ctx context.Context, name string) error {
	mu := m.lock(name)
	mu.Lock()
	defer mu.Unlock()
	return m.settle(name, m.each(func(i int) error { return m.buckets[i].Delete(ctx, name) }))
}

// Copy implements [Bucket].
func (m *Mirror) Copy(ctx context.Context, dst, src string, o PutOptions) (Info, error) {
	mu := m.lock(dst)
	mu.Lock()
	defer mu.Unlock()
	can := m.order(src)
	infos := make([]Info, len(m.buckets))
	do := func(i int, o PutOptions) (err error) {
		if !slices.Contains(can, i) {
			return fmt.Errorf("mirror has missed %q: %w", src, ErrUnavailable)
		}
		infos[i], err = m.buckets[i].Copy(ctx, dst, src, o)
		return err
	}
	if o.IfAbsent || o.IfMatch != "" {
		err := do(0, o)
		return m.follow(dst, infos[0], err, func(i int) error { return do(i, PutOptions{Meta: o.Meta}) })
	}
	return m.result(dst, infos, m.each(func(i int) error { return do(i, o) }))
}
