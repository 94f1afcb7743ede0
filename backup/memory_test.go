package backup

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"coffer/upstream"
)

// memory is a Bucket in memory: what tests need of a sound one, without its syncs.
type memory struct {
	mu      sync.Mutex
	objects map[string][]byte
	times   map[string]time.Time
}

func newMemory() *memory {
	return &memory{objects: make(map[string][]byte), times: make(map[string]time.Time)}
}

func (m *memory) info(name string) upstream.Info {
	return upstream.Info{Name: name, Size: int64(len(m.objects[name])), ModTime: m.times[name]}
}

func (m *memory) Put(_ context.Context, name string, body io.Reader, size int64, o upstream.PutOptions) (upstream.Info, error) {
	b, err := io.ReadAll(body)
	if err != nil || int64(len(b)) != size {
		return upstream.Info{}, fmt.Errorf("putting %q: %d of %d bytes: %w", name, len(b), size, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.objects[name]; ok && o.IfAbsent {
		return upstream.Info{}, fmt.Errorf("putting %q: %w", name, upstream.ErrExists)
	}
	m.objects[name], m.times[name] = b, time.Now()
	return m.info(name), nil
}

func (m *memory) Get(_ context.Context, name string, off, n int64) (io.ReadCloser, upstream.Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.objects[name]
	if !ok {
		return nil, upstream.Info{}, fmt.Errorf("getting %q: %w", name, upstream.ErrNotExist)
	}
	if off < 0 {
		off = max(0, int64(len(b))+off)
	}
	b = b[min(off, int64(len(b))):]
	if n >= 0 {
		b = b[:min(n, int64(len(b)))]
	}
	return io.NopCloser(bytes.NewReader(b)), m.info(name), nil
}

func (m *memory) Head(_ context.Context, name string) (upstream.Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.objects[name]; !ok {
		return upstream.Info{}, fmt.Errorf("looking at %q: %w", name, upstream.ErrNotExist)
	}
	return m.info(name), nil
}

func (m *memory) List(_ context.Context, prefix, after string, fn func(upstream.Info) error) error {
	m.mu.Lock()
	var list []upstream.Info
	for _, name := range slices.Sorted(maps.Keys(m.objects)) {
		if strings.HasPrefix(name, prefix) && name > after {
			list = append(list, m.info(name))
		}
	}
	m.mu.Unlock()
	for _, i := range list {
		if err := fn(i); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) Delete(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, name)
	delete(m.times, name)
	return nil
}
