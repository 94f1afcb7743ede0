package upstream

import (
	"context"
	"errors"
)

// Locks implements [Locker]: some mirror does.
func (m *Mirror) Locks(name string) bool {
	for _, b := range m.buckets {
		if l, ok := b.(Locker); ok && l.Locks(name) {
			return true
		}
	}
	return false
}

// Extend implements [Locker], on all mirrors that lock. One that has missed the
// object is locked when it gets it.
func (m *Mirror) Extend(ctx context.Context, name string) error {
	up := m.order(name)
	return m.lockers(func(l Locker) error {
		if !l.Locks(name) {
			return nil
		}
		err := l.Extend(ctx, name)
		if errors.Is(err, ErrNotExist) && len(up) < len(m.buckets) {
			return nil
		}
		return err
	})
}

// Sweep implements [Locker], on all mirrors.
func (m *Mirror) Sweep(ctx context.Context, prefix string) (total Swept, err error) {
	err = m.lockers(func(l Locker) error {
		s, err := l.Sweep(ctx, prefix)
		total.Freed += s.Freed
		total.FreedBytes += s.FreedBytes
		total.Locked += s.Locked
		total.LockedBytes += s.LockedBytes
		return err
	})
	return total, err
}

func (m *Mirror) lockers(fn func(Locker) error) error {
	var errs []error
	for _, b := range m.buckets {
		if l, ok := b.(Locker); ok {
			errs = append(errs, fn(l))
		}
	}
	return errors.Join(errs...)
}

// Locks implements [Locker].
func (m *member) Locks(name string) bool { return m.s3 != nil && m.s3.Locks(name) }

// Extend implements [Locker].
func (m *member) Extend(ctx context.Context, name string) error {
	if m.s3 == nil {
		return nil
	}
	return m.s3.Extend(ctx, name)
}

// Sweep implements [Locker].
func (m *member) Sweep(ctx context.Context, prefix string) (Swept, error) {
	if m.s3 == nil {
		return Swept{}, nil
	}
	return m.s3.Sweep(ctx, prefix)
}
