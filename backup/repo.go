package backup

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"
	"go.uber.org/zap"

	"coffer/backup/chunk"
	"coffer/backup/pack"
	"coffer/seal"
	"coffer/upstream"
)

// Where the kinds of objects lie.
const (
	root         = "repo/"
	configName   = root + "config"
	packDir      = root + "packs/"
	indexDir     = root + "index/"
	snapshotDir  = root + "snapshots/"
	headDir      = root + "heads/"
	deletionDir  = root + "deletions/"
	configFormat = 1
)

// config is written once, by Init. Every pack's footer has a copy.
type config struct {
	Version  int       `cbor:"1,keyasint"`
	Created  time.Time `cbor:"2,keyasint"`
	Secret   [32]byte  `cbor:"3,keyasint"` // of the chunker and of chunk ids
	Min      int       `cbor:"4,keyasint"`
	Normal   int       `cbor:"5,keyasint"`
	Max      int       `cbor:"6,keyasint"`
	Bits     [3]int    `cbor:"7,keyasint"` // candidate, short, long
	PackSize int       `cbor:"8,keyasint"` // bytes at which a pack is full
	Segment  int       `cbor:"9,keyasint"` // bytes at which a segment of small files is full
}

func (c *config) params() chunk.Params {
	return chunk.Params{Min: c.Min, Normal: c.Normal, Max: c.Max, Candidate: c.Bits[0], Short: c.Bits[1], Long: c.Bits[2]}
}

// Repo is an open repository. Its methods may be called at the same time, by
// many processes on many machines too.
type Repo struct {
	bucket  Bucket
	keys    *seal.Keys
	cache   string // empty: none
	log     *zap.Logger
	metrics *metrics
	workers int
	uploads int

	config    config
	rawConfig []byte
	cutter    *chunk.Cutter
	backups   sync.Mutex // one Backup at a time: they would share the journal

	mu     sync.RWMutex // holds table and loaded
	table  *pack.Table
	loaded map[pack.Name]bool // index objects that table has
	broken map[string]error   // index objects that did not open, by upstream name
	reads  *segmentCache      // segments read lately, with a lock of its own
}

// encoding is deterministic: equal values encode to equal bytes.
var encoding = func() cbor.EncMode {
	o := cbor.CoreDetEncOptions()
	o.Time = cbor.TimeRFC3339Nano
	m, err := o.EncMode()
	if err != nil {
		panic(err) // only for options that contradict each other
	}
	return m
}()

// decoding bounds what foreign bytes may ask for.
var decoding = func() cbor.DecMode {
	m, err := cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden,
		MaxNestedLevels: 8, MaxArrayElements: 1 << 24, MaxMapPairs: 1 << 20}.DecMode()
	if err != nil {
		panic(err) // only for options that contradict each other
	}
	return m
}()

// Init makes a repository in a store that has none; else ErrExists.
func Init(ctx context.Context, c Config) error {
	p := chunk.DefaultParams
	return initWith(ctx, c, config{Min: p.Min, Normal: p.Normal, Max: p.Max,
		Bits: [3]int{p.Candidate, p.Short, p.Long}, PackSize: 24 << 20, Segment: 1 << 20})
}

func initWith(ctx context.Context, c Config, conf config) error {
	r, err := newRepo(c)
	if err != nil {
		return err
	}
	conf.Version, conf.Created = configFormat, time.Now().UTC().Truncate(time.Second)
	rand.Read(conf.Secret[:])
	raw, err := encoding.Marshal(&conf)
	if err != nil {
		return fmt.Errorf("encoding the configuration: %w", err)
	}
	if _, err = r.putDoc(ctx, configName, raw); errors.Is(err, upstream.ErrExists) {
		return fmt.Errorf("making a repository: %w", ErrExists)
	}
	return err
}

func newRepo(c Config) (*Repo, error) {
	if c.Bucket == nil || c.Keys == nil {
		return nil, errors.New("backup: Config lacks Bucket or Keys")
	}
	r := &Repo{bucket: c.Bucket, keys: c.Keys, log: c.Log, workers: c.Workers, uploads: c.Uploads, cache: c.CacheDir}
	if r.log == nil {
		r.log = zap.NewNop()
	}
	if r.workers <= 0 {
		r.workers = runtime.GOMAXPROCS(0)
	}
	if r.uploads <= 0 {
		r.uploads = 3
	}
	r.metrics = newMetrics(c.Metrics)
	r.table, r.loaded, r.broken = pack.NewTable(), make(map[pack.Name]bool), make(map[string]error)
	r.reads = newSegmentCache()
	if r.cache != "" {
		for _, kind := range []string{"index", "snapshots", "trees"} {
			if err := os.MkdirAll(r.cacheFile(kind), 0o700); err != nil {
				return nil, fmt.Errorf("making the cache: %w", err)
			}
		}
	}
	return r, nil
}

// Open opens the repository in a store: ErrNotExist if there is none,
// seal.ErrKey if it was made under another backup key. It reads one object.
func Open(ctx context.Context, c Config) (*Repo, error) {
	r, err := newRepo(c)
	if err != nil {
		return nil, err
	}
	raw, err := r.getDoc(ctx, configName)
	if err != nil {
		return nil, fmt.Errorf("opening the repository: %w", err)
	}
	if err := r.configure(raw); err != nil {
		return nil, fmt.Errorf("opening the repository: %w", damaged(configName, err))
	}
	return r, nil
}

func (r *Repo) configure(raw []byte) error {
	if err := decoding.Unmarshal(raw, &r.config); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	c := &r.config
	if c.Version != configFormat {
		return fmt.Errorf("version %d: %w", c.Version, ErrVersion)
	}
	if c.PackSize < 1<<10 || c.PackSize > pack.MaxPlain/2 || c.Segment < 1 || c.Segment > c.Max {
		return fmt.Errorf("sizes of pack or segment: %w", ErrCorrupt)
	}
	cutter, err := chunk.NewCutter(c.params(), c.Secret)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	r.cutter, r.rawConfig = cutter, raw
	return nil
}

// newName returns a random name.
func newName() (n pack.Name) {
	rand.Read(n[:])
	return n
}

// packName is where a pack lies: 256 folders keep any one small.
func packName(n pack.Name) string {
	return packDir + hex.EncodeToString(n[:1]) + "/" + n.String()
}

// cacheFile is the path of a file in the cache folder.
func (r *Repo) cacheFile(elem ...string) string {
	return filepath.Join(append([]string{r.cache}, elem...)...)
}
