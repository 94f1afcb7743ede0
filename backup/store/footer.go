package store

import (
	"context"
	"errors"
	"fmt"
	"io"

	"coffer/backup/pack"
	"coffer/seal"
	"coffer/upstream"
)

// errFound ends a listing that has found what it looked for.
var errFound = errors.New("found")

// Footer reads the footer of a pack: the copy of the format, and the record.
func (s *Store) Footer(ctx context.Context, i upstream.Info) (format []byte, rec *pack.Record, err error) {
	size, err := seal.PlainSize(i.Size)
	if err != nil || size < pack.TailSize {
		return nil, nil, fmt.Errorf("reading %s: %d bytes: %w", i.Name, i.Size, ErrCorrupt)
	}
	o, err := seal.OpenObject(ctx, s.Source(i.Name, i.Size), i.Size, s.keys, i.Name)
	if err != nil {
		return nil, nil, Damaged(i.Name, err)
	}
	tail, err := readRange(ctx, o, size-pack.TailSize, pack.TailSize)
	if err != nil {
		return nil, nil, Damaged(i.Name, err)
	}
	n, err := pack.ParseTail(tail)
	if err != nil || int64(n) > size-pack.TailSize {
		return nil, nil, Damaged(i.Name, errors.Join(pack.ErrFormat, err))
	}
	b, err := readRange(ctx, o, size-pack.TailSize-int64(n), int64(n))
	if err != nil {
		return nil, nil, Damaged(i.Name, err)
	}
	if format, rec, err = pack.ParseFooter(b, size); err != nil {
		return nil, nil, Damaged(i.Name, err)
	}
	if PackName(rec.Name) != i.Name {
		return nil, nil, fmt.Errorf("reading %s: its footer is that of %s: %w", i.Name, rec.Name, ErrCorrupt)
	}
	return format, rec, nil
}

func readRange(ctx context.Context, o *seal.Object, off, n int64) ([]byte, error) {
	body, err := o.NewReader(ctx, off, n)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	b := make([]byte, n)
	_, err = io.ReadFull(body, b)
	return b, err
}

// RepairFormat writes the format anew, from the copy in the footer of a pack. It
// returns ErrExists if the format can be read.
func RepairFormat(ctx context.Context, c Config) error {
	s, err := newStore(c)
	if err != nil {
		return err
	}
	_, err = s.GetDoc(ctx, ConfigName)
	if err == nil {
		return ErrExists
	}
	if !errors.Is(err, ErrNotExist) && !errors.Is(err, ErrCorrupt) {
		return err
	}
	var raw []byte
	lerr := s.bucket.List(ctx, PackDir, "", func(i upstream.Info) error {
		format, _, err := s.Footer(ctx, i)
		if err != nil || s.configure(format) != nil {
			return nil // perhaps the next one
		}
		raw = format
		return errFound
	})
	if lerr != nil && !errors.Is(lerr, errFound) {
		return fmt.Errorf("listing %s: %w", PackDir, lerr)
	}
	if raw == nil {
		return fmt.Errorf("no pack has a copy that can be read: %w", err)
	}
	if err := s.bucket.Delete(ctx, ConfigName); err != nil {
		return fmt.Errorf("removing %s: %w", ConfigName, err)
	}
	_, err = s.PutDoc(ctx, ConfigName, raw)
	return err
}
