package upstream

import (
	"context"
	"errors"
	"time"
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
// object locks it when it gets it.
func (m *Mirror) Extend(ctx context.Context, name string, written time.Time) (extended bool, err error) {
	behind := len(m.order(name)) < len(m.buckets)
	err = m.lockers(func(l Locker) error {
		yes, err := l.Extend(ctx, name, written)
		extended = extended || yes
		if errors.Is(err, ErrNotExist) && behind {
			return nil
		}
		return err
	})
	return extended, err
}

// Hidden implements [Locker], of all mirrors.
func (m *Mirror) Hidden(ctx context.Context, prefix string) (total Hidden, err error) {
	err = m.lockers(func(l Locker) error {
		h, err := l.Hidden(ctx, prefix)
		total.Objects += h.Objects
		total.Bytes += h.Bytes
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
func (m *member) Extend(ctx context.Context, name string, written time.Time) (bool, error) {
	if m.s3 == nil {
		return false, nil
	}
	return m.s3.Extend(ctx, name, written)
}

// Hidden implements [Locker].
func (m *member) Hidden(ctx context.Context, prefix string) (Hidden, error) {
	if m.s3 == nil {
		return Hidden{}, nil
	}
	return m.s3.Hidden(ctx, prefix)
}
