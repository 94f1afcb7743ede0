package proxy

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/fxamacker/cbor/v2"

	"coffer/seal"
)

// The kinds of rows, by the first byte of their keys. FORMAT.md describes them.
const (
	rowMeta   = 'm' // what the index is: format, store, salt
	rowBucket = 'b' // a bucket
	rowObject = 'o' // a version of an object
	rowParts  = 'd' // the table of parts of a version that has several
	rowUpload = 'u' // an unfinished multipart upload
	rowPart   = 'p' // a part of one
	rowDone   = 'f' // an upload that was finished lately
	rowIntent = 'i' // a write that the upstream may or may not have seen
)

const (
	indexFormat     = 1
	generationBlock = 1000
)

var (
	headKey       = []byte{rowMeta, 'h'}
	generationKey = []byte{rowMeta, 'g'}
)

// errIndex means that a row is not what was written: the disk, or somebody at
// it, changed the index. It is not repaired by itself; removing the folder
// rebuilds it.
var errIndex = errors.New("the gateway's index is damaged")

// index is the ordered local index: what is in the buckets, by plain name. The
// keys of its rows are in the clear and the values sealed under a key of the
// store. Every commit is on the disk when it returns.
type index struct {
	db   *pebble.DB
	keys *seal.Keys
	aead cipher.AEAD

	// generation is the last one given out, in this life or an earlier one;
	// reserved the last one that the disk knows of. Both are written under mu.
	generation atomic.Uint64
	reserved   uint64

	// intents are the upstream names whose intent row is in the index and whose
	// write is not running any more: they are looked at before they are used.
	// mu guards the map and what next does.
	mu      sync.Mutex
	intents map[string]intent
}

// head is the row that says what an index is.
type head struct {
	Format int      `cbor:"1,keyasint"`
	Store  [16]byte `cbor:"2,keyasint"`
	Salt   [32]byte `cbor:"3,keyasint"` // of the key that seals the rows
	Built  bool     `cbor:"4,keyasint"` // false while it is being rebuilt from the upstream
}

var (
	encMode = func() cbor.EncMode {
		o := cbor.CoreDetEncOptions()
		o.String = cbor.StringToByteString // names need not be UTF-8
		m, err := o.EncMode()
		if err != nil {
			panic("proxy: internal error: " + err.Error())
		}
		return m
	}()
	decMode = func() cbor.DecMode {
		m, err := cbor.DecOptions{
			ByteStringToString: cbor.ByteStringToStringAllowed,
			MaxArrayElements:   1 << 17,
			MaxMapPairs:        1 << 12,
		}.DecMode()
		if err != nil {
			panic("proxy: internal error: " + err.Error())
		}
		return m
	}()
)

// openIndex opens the index below dir; fresh means that it holds nothing yet and
// is to be built. An index of another store is refused.
func openIndex(dir string, keys *seal.Keys) (ix *index, fresh bool, err error) {
	cache := pebble.NewCache(16 << 20)
	defer cache.Unref()
	db, err := pebble.Open(filepath.Join(dir, "index"), &pebble.Options{
		Cache: cache, MemTableSize: 4 << 20, MaxOpenFiles: 256, // memtables are taken from the cache's size
		FormatMajorVersion: pebble.FormatNewest, Logger: silent{},
	})
	if err != nil {
		return nil, false, fmt.Errorf("opening the gateway's index: %w", err)
	}
	ix = &index{db: db, keys: keys, intents: make(map[string]intent)}
	defer func() {
		if err != nil {
			err = errors.Join(err, db.Close())
		}
	}()
	var h head
	raw, err := ix.raw(headKey)
	switch {
	case err != nil:
		return nil, false, err
	case raw == nil:
		h = head{Format: indexFormat, Store: keys.Store()}
		rand.Read(h.Salt[:])
	default:
		if err := decMode.Unmarshal(raw, &h); err != nil {
			return nil, false, fmt.Errorf("head row: %w", errIndex)
		}
	}
	if h.Format != indexFormat {
		return nil, false, fmt.Errorf("gateway's index has format %d, want %d", h.Format, indexFormat)
	}
	if h.Store != keys.Store() {
		return nil, false, fmt.Errorf("gateway's index belongs to store %x", h.Store)
	}
	if ix.aead, err = rowCipher(keys, h.Salt); err != nil {
		return nil, false, err
	}
	if !h.Built {
		return ix, true, ix.setHead(h)
	}
	return ix, false, ix.load()
}

func rowCipher(keys *seal.Keys, salt [32]byte) (cipher.AEAD, error) {
	root := keys.Derive("gateway index v1")
	mac := hmac.New(sha256.New, root[:])
	mac.Write(salt[:])
	block, err := aes.NewCipher(mac.Sum(nil))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func (ix *index) setHead(h head) error {
	raw, err := encMode.Marshal(h)
	if err != nil {
		return err
	}
	return ix.db.Set(headKey, raw, pebble.Sync)
}

// built marks the index as complete.
func (ix *index) built() error {
	raw, err := ix.raw(headKey)
	if err != nil {
		return err
	}
	var h head
	if err := decMode.Unmarshal(raw, &h); err != nil {
		return fmt.Errorf("head row: %w", errIndex)
	}
	h.Built = true
	return ix.setHead(h)
}

// load reads what is kept in memory: the intents, and the last generation.
func (ix *index) load() error {
	err := ix.scan([]byte{rowIntent}, nil, func(key []byte, value func(any) error) (bool, error) {
		var in intent
		if err := value(&in); err != nil {
			return false, err
		}
		ix.intents[string(key[1:])] = in
		ix.seen(in.Generation)
		return true, nil
	})
	if err != nil {
		return err
	}
	var last uint64
	if _, err := ix.get(generationKey, &last); err != nil {
		return err
	}
	ix.seen(last)
	return nil
}

// seen keeps generations growing: next gives none below what was seen.
func (ix *index) seen(generation uint64) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.generation.Store(max(generation, ix.generation.Load()))
}

// next gives out a generation, higher than all before it, also those of an
// earlier life: they are taken from blocks, and a block is on the disk before the
// first of it is used.
func (ix *index) next() (uint64, error) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	n := ix.generation.Load() + 1
	if n > ix.reserved {
		reserved := n + generationBlock
		c := ix.change()
		c.set(generationKey, reserved)
		if err := c.commit(); err != nil {
			return 0, err
		}
		ix.reserved = reserved
	}
	ix.generation.Store(n)
	return n, nil
}

func (ix *index) close() error { return ix.db.Close() }

// raw returns the bytes of a row, nil if there is none.
func (ix *index) raw(key []byte) ([]byte, error) {
	value, closer, err := ix.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the gateway's index: %w", err)
	}
	defer closer.Close()
	return bytes.Clone(value), nil
}

// get reads the row key into v and reports whether it is there.
func (ix *index) get(key []byte, v any) (bool, error) {
	raw, err := ix.raw(key)
	if err != nil || raw == nil {
		return false, err
	}
	return true, ix.open(key, raw, v)
}

// open opens the sealed value of the row key.
func (ix *index) open(key, value []byte, v any) error {
	n := ix.aead.NonceSize()
	if len(value) < n {
		return errIndex
	}
	plain, err := ix.aead.Open(nil, value[:n], value[n:], key)
	if err != nil {
		return errIndex
	}
	if err := decMode.Unmarshal(plain, v); err != nil {
		return fmt.Errorf("%w: %w", errIndex, err)
	}
	return nil
}

// scan calls fn for the rows whose keys begin with prefix and are not below
// from, in order, until fn returns false. value opens the value into its
// argument.
func (ix *index) scan(prefix, from []byte, fn func(key []byte, value func(any) error) (bool, error)) error {
	it, err := ix.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: successor(prefix)})
	if err != nil {
		return fmt.Errorf("reading the gateway's index: %w", err)
	}
	defer it.Close()
	if bytes.Compare(from, prefix) < 0 {
		from = prefix
	}
	for ok := it.SeekGE(from); ok; ok = it.Next() {
		key := it.Key()
		more, err := fn(key, func(v any) error { return ix.open(key, it.Value(), v) })
		if err != nil || !more {
			return err
		}
	}
	if err := it.Error(); err != nil {
		return fmt.Errorf("reading the gateway's index: %w", err)
	}
	return nil
}

// change is a set of rows that become durable together.
type change struct {
	ix  *index
	b   *pebble.Batch
	err error
}

func (ix *index) change() *change { return &change{ix: ix, b: ix.db.NewBatch()} }

// set writes v, sealed, to the row key.
func (c *change) set(key []byte, v any) {
	if c.err != nil {
		return
	}
	plain, err := encMode.Marshal(v)
	if err != nil {
		c.err = fmt.Errorf("encoding a row of the index: %w", err)
		return
	}
	n := c.ix.aead.NonceSize()
	value := make([]byte, n, n+len(plain)+c.ix.aead.Overhead())
	rand.Read(value)
	c.err = c.b.Set(key, c.ix.aead.Seal(value, value, plain, key), nil)
}

func (c *change) delete(key []byte) {
	if c.err == nil {
		c.err = c.b.Delete(key, nil)
	}
}

// commit makes the change durable. The change must not be used afterwards.
func (c *change) commit() error { return c.finish(pebble.Sync) }

func (c *change) finish(o *pebble.WriteOptions) error {
	defer c.b.Close()
	if c.err != nil {
		return c.err
	}
	if err := c.b.Commit(o); err != nil {
		return fmt.Errorf("writing the gateway's index: %w", err)
	}
	return nil
}

// successor is the first key that does not begin with prefix, nil if there is none.
func successor(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			out := bytes.Clone(prefix[:i+1])
			out[i]++
			return out
		}
	}
	return nil
}

// nameKey is the beginning of the rows of one name in a bucket. The order of the
// rows is that of the names: 0x00 becomes 0x00 0xff, and 0x00 0x01 ends a name.
func nameKey(kind byte, bucket, name string) []byte {
	return append(prefixKey(kind, bucket, name), 0, 1)
}

// prefixKey is the beginning of the rows of all names that begin with prefix.
func prefixKey(kind byte, bucket, prefix string) []byte {
	b := make([]byte, 0, len(bucket)+len(prefix)+32)
	b = append(b, kind)
	b = append(b, bucket...)
	b = append(b, 0)
	for i := range len(prefix) {
		b = append(b, prefix[i])
		if prefix[i] == 0 {
			b = append(b, 0xff)
		}
	}
	return b
}

// parseNameKey splits a row key into its name and what follows.
func parseNameKey(key []byte, bucket string) (name string, rest []byte, err error) {
	if len(key) < len(bucket)+2 {
		return "", nil, errIndex
	}
	key = key[len(bucket)+2:]
	out := make([]byte, 0, len(key))
	for i := 0; i < len(key); i++ {
		if key[i] != 0 {
			out = append(out, key[i])
			continue
		}
		if i++; i == len(key) {
			break
		}
		if key[i] == 1 {
			return string(out), key[i+1:], nil
		}
		out = append(out, 0)
	}
	return "", nil, errIndex
}

// versionKey is the key of one version: newer ones come first.
func versionKey(kind byte, bucket, name string, generation uint64) []byte {
	return binary.BigEndian.AppendUint64(nameKey(kind, bucket, name), ^generation)
}

// silent is pebble's logger: what matters comes back as an error.
type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}

// Fatalf is what pebble calls when it must not go on, after a failed write of
// its log for example: what it acknowledged before would no longer hold. The
// panic is on a goroutine of its own, as net/http catches those of handlers.
func (silent) Fatalf(format string, args ...any) {
	go panic(fmt.Sprintf("gateway's index: "+format, args...))
	select {}
}
