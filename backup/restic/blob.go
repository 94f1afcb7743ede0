package restic

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Node is one name in a directory.
type Node struct {
	Name    string    `json:"name"` // as it lies on disk, any bytes
	Type    string    `json:"type"` // "file", "dir", "symlink", "dev", "chardev", "fifo", "socket", "irregular"
	Mode    uint32    `json:"mode"` // of Go's fs.FileMode
	ModTime time.Time `json:"mtime"`
	CTime   time.Time `json:"ctime"`
	UID     uint32    `json:"uid"`
	GID     uint32    `json:"gid"`
	User    string    `json:"user"`
	Group   string    `json:"group"`
	Inode   uint64    `json:"inode"`
	Device  uint64    `json:"device_id"`
	Size    uint64    `json:"size"`
	Links   uint64    `json:"links"`
	Target  string    `json:"linktarget"`
	Raw     []byte    `json:"linktarget_raw"` // in place of a Target that is not UTF-8
	Rdev    uint64    `json:"device"`
	Content []ID      `json:"content"`
	Subtree *ID       `json:"subtree"`
	Xattrs  []struct {
		Name  string `json:"name"`
		Value []byte `json:"value"`
	} `json:"extended_attributes"`
}

// Tree reads a directory.
func (r *Repo) Tree(ctx context.Context, id ID) ([]Node, error) {
	b, err := r.Blob(ctx, id)
	if err != nil {
		return nil, err
	}
	var t struct {
		Nodes []Node `json:"nodes"`
	}
	if err := json.Unmarshal(b, &t); err != nil {
		return nil, fmt.Errorf("directory %s: %w: %w", id, ErrCorrupt, err)
	}
	for i := range t.Nodes {
		n := &t.Nodes[i]
		name, err := strconv.Unquote(`"` + n.Name + `"`) // restic quotes what JSON cannot hold
		if err != nil || name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
			return nil, fmt.Errorf("directory %s: name %q: %w", id, n.Name, ErrCorrupt)
		}
		n.Name = name
		if n.Raw != nil {
			n.Target = string(n.Raw)
		}
	}
	return t.Nodes, nil
}

// Size is the length of a blob, or false if no index knows it.
func (r *Repo) Size(id ID) (int64, bool) {
	p, ok := r.blobs[id]
	if p.raw > 0 {
		return int64(p.raw), ok
	}
	return int64(p.length) - overhead, ok
}

// Blob reads a blob and verifies it.
func (r *Repo) Blob(ctx context.Context, id ID) ([]byte, error) {
	p, ok := r.blobs[id]
	if !ok {
		return nil, fmt.Errorf("blob %s: no index knows it: %w", id, ErrCorrupt)
	}
	name := "data/" + r.packs[p.pack].String()[:2] + "/" + r.packs[p.pack].String()
	sealed, err := r.ahead.read(ctx, r, name, p)
	if err != nil {
		return nil, err
	}
	b, err := r.key.open(sealed)
	if err == nil && p.raw > 0 {
		b, err = r.zstd.DecodeAll(b, make([]byte, 0, p.raw))
	}
	if err == nil && ID(sha256.Sum256(b)) != id {
		err = fmt.Errorf("its hash is another one: %w", ErrCorrupt)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: blob %s: %w: %w", name, id, ErrCorrupt, err)
	}
	return b, nil
}

// cache keeps ranges of packs: what follows a blob is usually wanted next.
type cache struct {
	mu     sync.Mutex
	ranges []cachedRange // the latest used last
}

type cachedRange struct {
	pack int32
	off  uint32
	b    []byte
}

const (
	aheadBytes = 4 << 20
	keptRanges = 8
)

// read returns the sealed bytes of a blob.
func (c *cache) read(ctx context.Context, r *Repo, name string, p place) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, x := range c.ranges {
		if x.pack == p.pack && x.off <= p.offset && uint64(p.offset)+uint64(p.length) <= uint64(x.off)+uint64(len(x.b)) {
			c.ranges = append(slices.Delete(c.ranges, i, i+1), x)
			return x.b[p.offset-x.off:][:p.length], nil
		}
	}
	// More than there is may be asked for: the pack then ends before.
	n := max(int64(p.length), aheadBytes)
	b, err := r.read(ctx, name, int64(p.offset), n, n)
	if err != nil {
		return nil, err
	}
	if len(b) < int(p.length) {
		return nil, fmt.Errorf("reading %s: it ends at %d: %w", name, int(p.offset)+len(b), ErrCorrupt)
	}
	if len(c.ranges) == keptRanges {
		c.ranges = slices.Delete(c.ranges, 0, 1)
	}
	c.ranges = append(c.ranges, cachedRange{p.pack, p.offset, b})
	return b[:p.length], nil
}
