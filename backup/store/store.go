// Package store keeps chunks, and documents about them, in a bucket that is not
// trusted. A Store reads and verifies them; a [Writer] gathers chunks into
// segments and packs, seals them and sends them. What the chunks mean, files and
// directories, snapshots, is the business of others.
//
// The index, which says in which pack a chunk lies, takes some four bytes of memory
// a chunk when it is large: the rest lies in the cache folder (package table).
package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"
	"go.uber.org/zap"

	"coffer/backup/chunk"
	"coffer/backup/pack"
	"coffer/backup/table"
	"coffer/seal"
	"coffer/upstream"
)

// Bucket is the storage beneath a repository, an upstream.Bucket or a mirror of
// several. It need not be trusted: every answer is checked. Put must be atomic
// and durable when it returns, List must give names in byte order, and absent
// objects must be reported as upstream.ErrNotExist.
type Bucket interface {
	Put(ctx context.Context, name string, body io.Reader, size int64, o upstream.PutOptions) (upstream.Info, error)
	Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, upstream.Info, error)
	Head(ctx context.Context, name string) (upstream.Info, error)
	List(ctx context.Context, prefix, after string, fn func(upstream.Info) error) error
	Delete(ctx context.Context, name string) error
}

// Where the kinds of objects lie.
const (
	Root         = "repo/"
	ConfigName   = Root + "config"
	PackDir      = Root + "packs/"
	IndexDir     = Root + "index/"
	SnapshotDir  = Root + "snapshots/"
	HeadDir      = Root + "heads/"
	DeletionsDir = Root + "deletions/"
)

// The errors that callers branch on.
var (
	ErrNotExist = errors.New("backup: does not exist")
	ErrExists   = errors.New("backup: repository exists")
	ErrCorrupt  = errors.New("backup: object is corrupt")
	ErrVersion  = errors.New("backup: repository version is not known")
)

// Format is what a repository was made with. It is written once; the footer of
// every pack has a copy.
type Format struct {
	Version  int       `cbor:"1,keyasint"`
	Created  time.Time `cbor:"2,keyasint"`
	Secret   [32]byte  `cbor:"3,keyasint"` // of the chunker and of chunk ids
	Min      int       `cbor:"4,keyasint"` // bytes in a chunk
	Normal   int       `cbor:"5,keyasint"`
	Max      int       `cbor:"6,keyasint"`
	Bits     [3]int    `cbor:"7,keyasint"` // candidate, short, long
	PackSize int       `cbor:"8,keyasint"` // bytes at which a pack is full
	Segment  int       `cbor:"9,keyasint"` // bytes at which a segment of small files is full
}

// formatVersion is the only one there is.
const formatVersion = 1

// DefaultFormat returns the parameters of new repositories.
func DefaultFormat() Format {
	p := chunk.DefaultParams
	return Format{Min: p.Min, Normal: p.Normal, Max: p.Max, Bits: [3]int{p.Candidate, p.Short, p.Long},
		PackSize: 24 << 20, Segment: 1 << 20}
}

// Format prints without the secret.
func (f Format) Format(s fmt.State, _ rune) {
	fmt.Fprintf(s, "store.Format(version %d, hidden)", f.Version)
}

func (f *Format) params() chunk.Params {
	return chunk.Params{Min: f.Min, Normal: f.Normal, Max: f.Max, Candidate: f.Bits[0], Short: f.Bits[1], Long: f.Bits[2]}
}

// Config is what a Store needs.
type Config struct {
	Bucket   Bucket     // required
	Keys     *seal.Keys // required
	CacheDir string     // empty: nothing is cached
	Workers  int        // 0: one a core
	Uploads  int        // 0: 3
	Spill    int        // chunks that the index holds in memory; 0: package table's default
	Log      *zap.Logger
}

// Store is an open repository of chunks. It is safe for concurrent use.
type Store struct {
	bucket  Bucket
	keys    *seal.Keys
	cache   string
	log     *zap.Logger
	workers int
	uploads int
	spill   int

	format    Format
	rawFormat []byte
	cutter    *chunk.Cutter
	hashers   sync.Pool

	mu        sync.RWMutex // holds all down to the empty line
	table     *table.Table
	broken    map[string]error   // index objects that did not open, by upstream name
	condemned map[pack.Name]bool // packs that a prune is about to remove
	pending   []*pack.Record     // durable packs that no index object describes yet
	shrinks   int                // see Shrinks

	refreshing sync.Mutex    // one Refresh at a time
	publishing sync.Mutex    // one index object at a time
	reads      *segmentCache // segments read lately, with a lock of its own
}

// Encoding is deterministic: equal values encode to equal bytes.
var Encoding = func() cbor.EncMode {
	o := cbor.CoreDetEncOptions()
	o.Time = cbor.TimeRFC3339Nano
	m, err := o.EncMode()
	if err != nil {
		panic(err) // only for options that contradict each other
	}
	return m
}()

// Decoding bounds what foreign bytes may ask for.
var Decoding = func() cbor.DecMode {
	m, err := cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden,
		MaxNestedLevels: 8, MaxArrayElements: 1 << 24, MaxMapPairs: 1 << 20}.DecMode()
	if err != nil {
		panic(err) // only for options that contradict each other
	}
	return m
}()

// Init writes the format of a new repository; ErrExists if there is one.
func Init(ctx context.Context, c Config, f Format) error {
	s, err := newStore(c)
	if err != nil {
		return err
	}
	f.Version, f.Created = formatVersion, time.Now().UTC().Truncate(time.Second)
	rand.Read(f.Secret[:])
	raw, err := Encoding.Marshal(&f)
	if err != nil {
		return fmt.Errorf("encoding the format: %w", err)
	}
	if _, err = s.PutDoc(ctx, ConfigName, raw); errors.Is(err, upstream.ErrExists) {
		return ErrExists
	}
	return err
}

func newStore(c Config) (*Store, error) {
	if c.Bucket == nil || c.Keys == nil {
		return nil, errors.New("backup: Config lacks Bucket or Keys")
	}
	s := &Store{bucket: c.Bucket, keys: c.Keys, log: c.Log, workers: c.Workers, uploads: c.Uploads, spill: c.Spill, cache: c.CacheDir}
	if s.log == nil {
		s.log = zap.NewNop()
	}
	if s.workers <= 0 {
		s.workers = runtime.GOMAXPROCS(0)
	}
	if s.uploads <= 0 {
		s.uploads = 3
	}
	s.broken = make(map[string]error)
	s.table = s.newTable(false)
	s.reads = newSegmentCache()
	for _, kind := range []string{"index", "snapshots", "trees"} {
		if s.cache == "" {
			break
		}
		if err := os.MkdirAll(s.CacheFile(kind), 0o700); err != nil {
			return nil, fmt.Errorf("making the cache: %w", err)
		}
	}
	return s, nil
}

// newTable returns a table whose files lie in the cache, if there is one; a private
// one is empty and shares nothing.
func (s *Store) newTable(private bool) *table.Table {
	return table.New(table.Config{Dir: s.CacheFile("chunks"), Private: private, Spill: s.spill, Log: s.log})
}

// NewTable returns an empty table, for a purpose of its own.
func (s *Store) NewTable() *table.Table { return s.newTable(true) }

// Open reads the format of a repository; no other object is read yet.
func Open(ctx context.Context, c Config) (*Store, error) {
	s, err := newStore(c)
	if err != nil {
		return nil, err
	}
	raw, err := s.GetDoc(ctx, ConfigName)
	if err != nil {
		return nil, err
	}
	if err := s.configure(raw); err != nil {
		return nil, Damaged(ConfigName, err)
	}
	return s, nil
}

func (s *Store) configure(raw []byte) error {
	if err := Decoding.Unmarshal(raw, &s.format); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	f := &s.format
	if f.Version != formatVersion {
		return fmt.Errorf("version %d: %w", f.Version, ErrVersion)
	}
	if f.PackSize < 1<<10 || f.PackSize > pack.MaxPlain/2 || f.Segment < 1 || f.Segment > f.Max || f.Max > f.PackSize {
		return fmt.Errorf("sizes of pack or segment: %w", ErrCorrupt)
	}
	cutter, err := chunk.NewCutter(f.params(), f.Secret)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	s.cutter, s.rawFormat = cutter, raw
	return nil
}

// Workers is how many goroutines do heavy work.
func (s *Store) Workers() int { return s.workers }

// KeyID is the public id of the key that everything is sealed under.
func (s *Store) KeyID() [8]byte { return s.keys.ID() }

// Bucket is the storage beneath.
func (s *Store) Bucket() Bucket { return s.bucket }

// Cutter returns a chunker for the calling goroutine.
func (s *Store) Cutter() *chunk.Cutter { return s.cutter.Clone() }

// Hasher returns a hasher for the calling goroutine.
func (s *Store) Hasher() *chunk.Hasher { return chunk.NewHasher(s.format.Secret) }

// Segment is the size at which a segment of small files is full.
func (s *Store) Segment() int { return s.format.Segment }

// Sum returns the id of a chunk.
func (s *Store) Sum(data []byte) chunk.ID {
	h, ok := s.hashers.Get().(*chunk.Hasher)
	if !ok {
		h = s.Hasher()
	}
	defer s.hashers.Put(h)
	return h.Sum(data)
}

// NewName returns a random name.
func NewName() (n pack.Name) {
	rand.Read(n[:])
	return n
}

// PackName is where a pack lies: 256 folders keep any one small.
func PackName(n pack.Name) string {
	return PackDir + hex.EncodeToString(n[:1]) + "/" + n.String()
}

// CacheFile is the path of a file in the cache folder; empty if there is none.
func (s *Store) CacheFile(elem ...string) string {
	if s.cache == "" {
		return ""
	}
	return filepath.Join(append([]string{s.cache}, elem...)...)
}

// Keep caches a sealed object of a kind. Without it the next run fetches it
// again, so a full disk is no error here.
func (s *Store) Keep(kind string, n pack.Name, sealed []byte) {
	if s.cache == "" {
		return
	}
	// Not synced: what a power cut leaves does not open, and is fetched again.
	path := s.CacheFile(kind, n.String())
	err := os.WriteFile(path+".new", sealed, 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		s.log.Warn("an object could not be cached", zap.String("kind", kind), zap.Error(err))
	}
}

// Kept returns a cached object.
func (s *Store) Kept(kind string, n pack.Name) ([]byte, bool) {
	if s.cache == "" {
		return nil, false
	}
	sealed, err := os.ReadFile(s.CacheFile(kind, n.String()))
	return sealed, err == nil
}

// KeepOnly removes cached objects of a kind that are not upstream any more.
func (s *Store) KeepOnly(kind string, names []pack.Name) {
	if s.cache == "" {
		return
	}
	keep := make(map[string]bool, len(names))
	for _, n := range names {
		keep[n.String()] = true
	}
	files, err := os.ReadDir(s.CacheFile(kind))
	if err != nil {
		return
	}
	for _, f := range files {
		if !keep[strings.TrimSuffix(f.Name(), ".new")] {
			os.Remove(s.CacheFile(kind, f.Name()))
		}
	}
}
