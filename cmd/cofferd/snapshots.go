package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"strings"
	"sync"
	"time"

	"coffer/backup"
	"coffer/proxy"
)

const (
	snapshotLayout = "2006-01-02T15-04-05.000Z" // UTC, as the name of a folder: no colon, and in order

	// snapshotsAge is how old the list of snapshots may be when a client walks
	// through it.
	snapshotsAge = 2 * time.Second
)

// snapshotTree shows the repository to the gateway as SOURCE/TIME/PATH.
type snapshotTree struct {
	repo *repository

	mu   sync.Mutex
	at   time.Time                              // when all was read
	all  map[string]map[string]*backup.Snapshot // by source and time
	from repoReader                             // whose snapshots these are
}

// repoReader is the part of [backup.Repo] that is read here.
type repoReader interface {
	Snapshots(ctx context.Context) ([]*backup.Snapshot, error)
	List(ctx context.Context, s *backup.Snapshot, name string, fn func(backup.Entry) error) error
	Stat(ctx context.Context, s *backup.Snapshot, name string) (backup.Entry, error)
	ReadFile(ctx context.Context, s *backup.Snapshot, name string, off, n int64) (io.ReadCloser, error)
}

// list gives the repository and its snapshots by folder.
func (t *snapshotTree) list(ctx context.Context) (repoReader, map[string]map[string]*backup.Snapshot, error) {
	opened, err := t.repo.open(ctx)
	if err != nil {
		return nil, nil, err
	}
	r, ok := opened.(repoReader)
	if !ok {
		return nil, nil, errors.New("the repository cannot be read") // *backup.Repo can
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.from == r && time.Since(t.at) < snapshotsAge {
		return r, t.all, nil
	}
	found, err := r.Snapshots(ctx)
	if err != nil { // also if only one cannot be read: it would be missing without a word
		return nil, nil, err
	}
	all := make(map[string]map[string]*backup.Snapshot)
	for _, s := range found { // the oldest first, so that a name stays that of the first
		source := url.PathEscape(cmp.Or(s.Source, "-")) // a name that "coffer backup" was given may hold anything
		if all[source] == nil {
			all[source] = make(map[string]*backup.Snapshot)
		}
		name := s.Time.UTC().Format(snapshotLayout)
		if all[source][name] != nil { // two machines in the same millisecond
			name += "-" + s.ID[:8]
		}
		all[source][name] = s
	}
	t.from, t.all, t.at = r, all, time.Now()
	return r, all, nil
}

// find splits a path into the snapshot and the path in it.
func (t *snapshotTree) find(ctx context.Context, path string) (repoReader, *backup.Snapshot, string, error) {
	r, all, err := t.list(ctx)
	if err != nil {
		return nil, nil, "", err
	}
	source, rest, _ := strings.Cut(path, "/")
	name, inside, _ := strings.Cut(rest, "/")
	s := all[source][name]
	if s == nil {
		return nil, nil, "", fs.ErrNotExist
	}
	return r, s, inside, nil
}

// ReadDir is that of [proxy.Snapshots].
func (t *snapshotTree) ReadDir(ctx context.Context, path string, fn func(proxy.SnapshotEntry) error) error {
	if strings.Contains(path, "/") {
		r, s, inside, err := t.find(ctx, path)
		if err != nil {
			return err
		}
		err = r.List(ctx, s, inside, func(e backup.Entry) error {
			if !shown(e) {
				return nil
			}
			return fn(snapshotEntry(e))
		})
		return notExist(err)
	}
	_, all, err := t.list(ctx)
	if err != nil {
		return err
	}
	if path == "" {
		return subfolders(all, fn)
	}
	if all[path] == nil {
		return fs.ErrNotExist
	}
	return subfolders(all[path], fn)
}

// subfolders calls fn for each name in m.
func subfolders[V any](m map[string]V, fn func(proxy.SnapshotEntry) error) error {
	for name := range m {
		if err := fn(proxy.SnapshotEntry{Name: name, Dir: true}); err != nil {
			return err
		}
	}
	return nil
}

// Stat is that of [proxy.Snapshots].
func (t *snapshotTree) Stat(ctx context.Context, path string) (proxy.SnapshotEntry, error) {
	r, s, inside, err := t.find(ctx, path)
	if err != nil {
		return proxy.SnapshotEntry{}, err
	}
	e, err := r.Stat(ctx, s, inside)
	if err == nil && !shown(e) {
		err = fs.ErrNotExist
	}
	return snapshotEntry(e), notExist(err)
}

// Open is that of [proxy.Snapshots].
func (t *snapshotTree) Open(ctx context.Context, path string, off, n int64) (io.ReadCloser, error) {
	r, s, inside, err := t.find(ctx, path)
	if err != nil {
		return nil, err
	}
	body, err := r.ReadFile(ctx, s, inside, off, n)
	return body, notExist(err)
}

// shown says whether e is a file or a folder, and whole.
func shown(e backup.Entry) bool { return (e.Type == "file" || e.Type == "dir") && !e.Missing }

func snapshotEntry(e backup.Entry) proxy.SnapshotEntry {
	return proxy.SnapshotEntry{Name: e.Name, Dir: e.Type == "dir", Size: e.Size, Modified: e.ModTime}
}

func notExist(err error) error {
	if errors.Is(err, backup.ErrNotExist) {
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return err
}
