package keyring

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"coffer/upstream"
)

// Objects are the keyring's public files in an upstream. They implement
// [Replacer] and [PasskeyStore].
type Objects struct{ In Upstream }

// Upstream is what the keyring needs of an [upstream.Bucket].
type Upstream interface {
	Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, upstream.Info, error)
	Put(ctx context.Context, name string, body io.Reader, size int64, o upstream.PutOptions) (upstream.Info, error)
	List(ctx context.Context, prefix, after string, fn func(upstream.Info) error) error
	Delete(ctx context.Context, name string) error
}

// Load implements [Bucket]; the error of one that is not there is [fs.ErrNotExist].
func (o Objects) Load(ctx context.Context, name string, limit int64) ([]byte, error) {
	r, info, err := o.In.Get(ctx, name, 0, limit+1)
	if errors.Is(err, upstream.ErrNotExist) {
		return nil, fmt.Errorf("%w (%w)", err, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if info.Size > limit {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", name, info.Size, limit)
	}
	return io.ReadAll(io.LimitReader(r, limit+1))
}

// Create implements [Bucket]; the error of one that is there is [fs.ErrExist].
func (o Objects) Create(ctx context.Context, name string, data []byte) error {
	_, err := o.In.Put(ctx, name, bytes.NewReader(data), int64(len(data)), upstream.PutOptions{IfAbsent: true})
	if errors.Is(err, upstream.ErrExists) {
		return fmt.Errorf("%w (%w)", err, fs.ErrExist)
	}
	return err
}

// Replace implements [Replacer]; the error of one with another content is
// [upstream.ErrExists].
func (o Objects) Replace(ctx context.Context, name string, old, data []byte) error {
	r, info, err := o.In.Get(ctx, name, 0, int64(len(old))+1)
	if err != nil {
		return err
	}
	there, err := io.ReadAll(io.LimitReader(r, int64(len(old))+1))
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	if bytes.Equal(there, old) {
		_, err = o.In.Put(ctx, name, bytes.NewReader(data), int64(len(data)), upstream.PutOptions{IfMatch: info.ETag})
	} else {
		err = upstream.ErrExists
	}
	if errors.Is(err, upstream.ErrExists) {
		err = fmt.Errorf("another machine changed it at the same time: %w", err)
	}
	return err
}

// errFull ends a listing.
var errFull = errors.New("enough names")

// List implements [PasskeyStore].
func (o Objects) List(ctx context.Context, prefix string, limit int) (names []string, err error) {
	err = o.In.List(ctx, prefix, "", func(i upstream.Info) error {
		if len(names) == limit {
			return errFull
		}
		names = append(names, i.Name)
		return nil
	})
	if errors.Is(err, errFull) {
		err = nil
	}
	return names, err
}

// Remove implements [PasskeyStore].
func (o Objects) Remove(ctx context.Context, name string) error { return o.In.Delete(ctx, name) }
