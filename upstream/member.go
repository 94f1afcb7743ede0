package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"go.uber.org/zap"
)

// MembersConfig describes mirrors that may be out of reach when they are opened.
type MembersConfig struct {
	Names   []string // one word each; the journal knows the mirrors by them
	Members []Config // in the same order; see [MirrorConfig] for what it means

	// Marker is an object that every mirror has. One without it is unavailable: an
	// empty folder may be the place where a disk is not mounted.
	Marker string

	Journal string                                   // file; its folder must exist
	Missed  func(mirror int, name string, err error) // may be nil
	Log     *zap.Logger                              // nil logs nothing
}

// OpenMembers returns the Mirror of c, with a quorum of one. It asks the mirrors
// nothing: each is opened when it is first used, and again until that succeeds.
func OpenMembers(c MembersConfig) (*Mirror, error) {
	if len(c.Names) != len(c.Members) {
		return nil, fmt.Errorf("%d mirrors with %d names", len(c.Members), len(c.Names))
	}
	journal, err := OpenJournal(c.Journal, c.Names)
	if err != nil {
		return nil, err
	}
	m := MirrorConfig{Journal: journal, Missed: c.Missed, Log: c.Log}
	for i, config := range c.Members {
		b := &member{name: "mirror " + c.Names[i], c: config, marker: c.Marker}
		if config.Type == "s3" { // a fault of the configuration does not pass by itself
			if b.s3, err = NewS3(config); err != nil {
				return nil, fmt.Errorf("mirror %s: %w", c.Names[i], err)
			}
		}
		m.Buckets = append(m.Buckets, b)
	}
	return NewMirror(m)
}

// OpenLater returns the folder of c as a Bucket that is unavailable until it is
// there and holds marker: its disk may be mounted later.
func OpenLater(name string, c Config, marker string) Bucket {
	return &member{name: "upstream " + name, c: c, marker: marker}
}

// member is a Bucket that is opened when it is needed.
type member struct {
	name   string // with what it is, for errors
	marker string
	c      Config
	s3     *S3 // nil for a folder

	mu sync.Mutex
	b  Bucket // nil until it was opened
}

// open returns the Bucket, after it has shown that it is the right one.
func (m *member) open(ctx context.Context) (Bucket, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.b != nil {
		return m.b, nil
	}
	b, err := m.connect()
	if err == nil {
		_, err = b.Head(ctx, m.marker)
		if errors.Is(err, ErrNotExist) {
			err = fmt.Errorf("it has no %s: not mounted, or never filled: %w", m.marker, ErrUnavailable)
		}
		if closer, ok := b.(io.Closer); ok && err != nil {
			err = errors.Join(err, closer.Close())
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.name, err)
	}
	m.b = b
	return b, nil
}

func (m *member) connect() (Bucket, error) {
	if m.s3 != nil {
		return m.s3, nil
	}
	f, err := OpenFolder(m.c.Path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, ErrUnavailable)
	}
	return f, nil
}

// Put implements [Bucket].
func (m *member) Put(ctx context.Context, name string, body io.Reader, size int64, o PutOptions) (Info, error) {
	b, err := m.open(ctx)
	if err != nil {
		return Info{}, err
	}
	return b.Put(ctx, name, body, size, o)
}

// Get implements [Bucket].
func (m *member) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, Info, error) {
	b, err := m.open(ctx)
	if err != nil {
		return nil, Info{}, err
	}
	return b.Get(ctx, name, off, n)
}

// Head implements [Bucket].
func (m *member) Head(ctx context.Context, name string) (Info, error) {
	b, err := m.open(ctx)
	if err != nil {
		return Info{}, err
	}
	return b.Head(ctx, name)
}

// List implements [Bucket].
func (m *member) List(ctx context.Context, prefix, after string, fn func(Info) error) error {
	b, err := m.open(ctx)
	if err != nil {
		return err
	}
	return b.List(ctx, prefix, after, fn)
}

// Delete implements [Bucket].
func (m *member) Delete(ctx context.Context, name string) error {
	b, err := m.open(ctx)
	if err != nil {
		return err
	}
	return b.Delete(ctx, name)
}

// Copy implements [Bucket].
func (m *member) Copy(ctx context.Context, dst, src string, o PutOptions) (Info, error) {
	b, err := m.open(ctx)
	if err != nil {
		return Info{}, err
	}
	return b.Copy(ctx, dst, src, o)
}

// StartMultipart implements [Bucket].
func (m *member) StartMultipart(ctx context.Context, name string, o PutOptions) (string, error) {
	b, err := m.open(ctx)
	if err != nil {
		return "", err
	}
	return b.StartMultipart(ctx, name, o)
}

// PutPart implements [Bucket].
func (m *member) PutPart(ctx context.Context, name, id string, number int, body io.Reader, size int64) (string, error) {
	b, err := m.open(ctx)
	if err != nil {
		return "", err
	}
	return b.PutPart(ctx, name, id, number, body, size)
}

// CompleteMultipart implements [Bucket].
func (m *member) CompleteMultipart(ctx context.Context, name, id string, parts []Part, o PutOptions) (Info, error) {
	b, err := m.open(ctx)
	if err != nil {
		return Info{}, err
	}
	return b.CompleteMultipart(ctx, name, id, parts, o)
}

// AbortMultipart implements [Bucket].
func (m *member) AbortMultipart(ctx context.Context, name, id string) error {
	b, err := m.open(ctx)
	if err != nil {
		return err
	}
	return b.AbortMultipart(ctx, name, id)
}

// ListMultipart implements [Bucket].
func (m *member) ListMultipart(ctx context.Context, prefix string, fn func(Upload) error) error {
	b, err := m.open(ctx)
	if err != nil {
		return err
	}
	return b.ListMultipart(ctx, prefix, fn)
}
