// Package restic reads repositories of restic, of the published format versions 1
// and 2, so that their snapshots can be brought into one of coffer. It writes
// nothing, and takes no lock: it holds what it reads to its hashes.
//
//	config         {version, id, ...}                                   sealed JSON
//	keys/ID        scrypt parameters, and the master key sealed under what they give
//	index/ID       which blobs lie where in which packs                 sealed JSON
//	snapshots/ID   time, host, paths, tree                              sealed JSON
//	data/xx/ID     packs: sealed blobs one after the other
//
// Sealed is IV (16), AES-256-CTR, Poly1305-AES tag (16). In version 2 what was
// sealed may be compressed by zstd. A blob's id is the SHA-256 of its content.
package restic

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
)

var (
	// ErrNotExist means that there is no repository, or no such object in it.
	ErrNotExist = errors.New("does not exist")
	// ErrPassword means that no key of the repository opens with the password.
	ErrPassword = errors.New("that is not a password of the restic repository")
	// ErrCorrupt means that an object is not what restic wrote.
	ErrCorrupt = errors.New("the restic repository is damaged")
	// ErrVersion means a repository of a format that this release does not know.
	ErrVersion = errors.New("unknown version of a restic repository")
)

// Files is where a repository lies. An absent file is ErrNotExist.
type Files interface {
	// Get reads n bytes from off on, to the end if n < 0.
	Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error)
	// List calls fn for each file below a folder whose name ends in "/".
	List(ctx context.Context, folder string, fn func(name string) error) error
}

// ID names an object: the SHA-256 of its bytes, or of a blob's content.
type ID [32]byte

// String returns 64 hex digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// UnmarshalText reads 64 hex digits.
func (id *ID) UnmarshalText(b []byte) error {
	if len(b) != 2*len(id) {
		return fmt.Errorf("id %.80q: %w", b, ErrCorrupt)
	}
	if _, err := hex.Decode(id[:], b); err != nil {
		return fmt.Errorf("id %.80q: %w", b, ErrCorrupt)
	}
	return nil
}

// Bounds of what is read.
const (
	maxFile  = 512 << 20 // bytes of an index or another whole file, also when decompressed
	maxBlob  = 256 << 20 // bytes of a blob
	fetchers = 8
)

// Repo is an open repository. It is safe for concurrent use.
type Repo struct {
	files Files
	key   *key
	zstd  *zstd.Decoder
	blobs map[ID]place
	packs []ID
	ahead cache
}

// place is where a blob lies.
type place struct {
	pack                int32 // number in packs
	offset, length, raw uint32
	tree                bool
}

// Open opens a repository with one of its passwords, and reads its index.
func Open(ctx context.Context, f Files, password string) (*Repo, error) {
	r := &Repo{files: f, blobs: make(map[ID]place)}
	var err error
	if r.zstd, err = zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxFile), zstd.WithDecoderConcurrency(2)); err != nil {
		return nil, fmt.Errorf("opening a restic repository: %w", err)
	}
	if _, err := r.whole(ctx, "config"); errors.Is(err, ErrNotExist) {
		return nil, fmt.Errorf("there is no restic repository: %w", err)
	} else if err != nil {
		return nil, fmt.Errorf("opening a restic repository: %w", err)
	}
	if r.key, err = r.unlock(ctx, password); err != nil {
		return nil, fmt.Errorf("opening a restic repository: %w", err)
	}
	var config struct {
		Version int `json:"version"`
	}
	if err := r.document(ctx, "config", false, &config); err != nil {
		return nil, fmt.Errorf("opening a restic repository: %w", err)
	}
	if config.Version != 1 && config.Version != 2 {
		return nil, fmt.Errorf("opening a restic repository: version %d: %w", config.Version, ErrVersion)
	}
	if err := r.readIndex(ctx); err != nil {
		return nil, fmt.Errorf("reading the index of a restic repository: %w", err)
	}
	return r, nil
}

// whole reads a file.
func (r *Repo) whole(ctx context.Context, name string) ([]byte, error) {
	return r.read(ctx, name, 0, -1, maxFile)
}

func (r *Repo) read(ctx context.Context, name string, off, n, most int64) ([]byte, error) {
	body, err := r.files.Get(ctx, name, off, n)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("more than %d bytes: %w", most, ErrCorrupt)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return b, nil
}

// document reads a sealed JSON file. named says that its name is the hash of it.
func (r *Repo) document(ctx context.Context, name string, named bool, v any) error {
	b, err := r.whole(ctx, name)
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(b); named && hex.EncodeToString(sum[:]) != path.Base(name) {
		return fmt.Errorf("reading %s: its hash is another one: %w", name, ErrCorrupt)
	}
	if b, err = r.key.open(b); err == nil && len(b) > 0 && b[0] == 2 { // compressed; else it begins with [ or {
		b, err = r.zstd.DecodeAll(b[1:], nil)
	}
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w: %w", name, ErrCorrupt, err)
	}
	return nil
}

// names lists the files of a folder that are named by a hash.
func (r *Repo) names(ctx context.Context, folder string) (names []string, err error) {
	err = r.files.List(ctx, folder, func(name string) error {
		if base := path.Base(name); len(base) == 64 && strings.Trim(base, "0123456789abcdef") == "" {
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", folder, err)
	}
	return names, nil
}

// Snapshot is one backup of restic.
type Snapshot struct {
	ID       ID        `json:"-"`
	Time     time.Time `json:"time"`
	Tree     ID        `json:"tree"`
	Paths    []string  `json:"paths"`
	Host     string    `json:"hostname"`
	User     string    `json:"username"`
	Tags     []string  `json:"tags"`
	Original *ID       `json:"original"` // the id before its tags were changed
	Program  string    `json:"program_version"`
}

// Snapshots returns all snapshots, oldest first.
func (r *Repo) Snapshots(ctx context.Context) ([]*Snapshot, error) {
	names, err := r.names(ctx, "snapshots/")
	if err != nil {
		return nil, err
	}
	all := make([]*Snapshot, len(names))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(fetchers)
	for i, name := range names {
		g.Go(func() error {
			all[i] = &Snapshot{}
			if err := all[i].ID.UnmarshalText([]byte(path.Base(name))); err != nil {
				return err
			}
			return r.document(gctx, name, true, all[i])
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b *Snapshot) int { return a.Time.Compare(b.Time) })
	return all, nil
}

// indexFile is a file of index/.
type indexFile struct {
	Packs []struct {
		ID    ID `json:"id"`
		Blobs []struct {
			ID     ID     `json:"id"`
			Type   string `json:"type"`
			Offset uint32 `json:"offset"`
			Length uint32 `json:"length"`
			Raw    uint32 `json:"uncompressed_length"`
		} `json:"blobs"`
	} `json:"packs"`
}

func (r *Repo) readIndex(ctx context.Context) error {
	names, err := r.names(ctx, "index/")
	if err != nil {
		return err
	}
	for _, name := range names {
		var x indexFile
		if err := r.document(ctx, name, true, &x); err != nil {
			return err
		}
		for _, p := range x.Packs {
			r.packs = append(r.packs, p.ID)
			for _, b := range p.Blobs {
				if b.Length > maxBlob || b.Raw > maxBlob || b.Length < overhead {
					return fmt.Errorf("reading %s: blob of %d bytes: %w", name, b.Length, ErrCorrupt)
				}
				r.blobs[b.ID] = place{int32(len(r.packs) - 1), b.Offset, b.Length, b.Raw, b.Type == "tree"}
			}
		}
	}
	return nil
}
