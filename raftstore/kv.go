package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash"

	"github.com/cockroachdb/pebble/v2"
)

// The state's keys: the machine's behind 'k', ours behind 'm'.
const (
	prefixMachine = 'k'
	prefixMeta    = 'm'
)

func machineKey(key []byte) []byte {
	return append(append(make([]byte, 0, len(key)+1), prefixMachine), key...)
}

// after is the first key behind all that begin with prefix, nil for none.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// get reads one key; the value is the caller's.
func get(r pebble.Reader, key []byte) ([]byte, bool, error) {
	v, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer closer.Close()
	return append([]byte{}, v...), true, nil
}

func scan(r pebble.Reader, prefix []byte, fn func(key, value []byte) bool) error {
	return each(r, prefix, after(prefix), func(key, value []byte) bool { return fn(key[1:], value) })
}

// each calls fn for the keys from from up to, not including, to, in byte order,
// until fn returns false.
func each(r pebble.Reader, from, to []byte, fn func(key, value []byte) bool) error {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return err
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if !fn(it.Key(), v) {
			break
		}
	}
	return it.Error()
}

// batchKV is the KV of Machine.Apply. Every write goes into the hash that
// replicas compare. err keeps the first failed read: the machine cannot be
// told, so what it went on to do is thrown away with the batch.
type batchKV struct {
	writes *pending
	sum    hash.Hash
	err    error
}

func (kv *batchKV) note(err error) {
	if err != nil && kv.err == nil {
		kv.err = err
	}
}

func (kv *batchKV) Get(key []byte) ([]byte, bool) {
	v, ok, err := kv.writes.get(machineKey(key))
	kv.note(err)
	return v, ok
}

func (kv *batchKV) Scan(prefix []byte, fn func(key, value []byte) bool) {
	kv.note(kv.writes.scan(machineKey(prefix), fn))
}

func (kv *batchKV) Set(key, value []byte) {
	hashParts(kv.sum, []byte{'s'}, key, value)
	kv.note(kv.writes.set(machineKey(key), value))
}

func (kv *batchKV) Delete(key []byte) {
	hashParts(kv.sum, []byte{'d'}, key)
	kv.note(kv.writes.delete(machineKey(key)))
}

// hashParts adds byte strings so that no two lists of them look alike.
func hashParts(h hash.Hash, parts ...[]byte) {
	var n [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write(p)
	}
}

// readKV is the KV of View. A write is a bug of the caller, which View reports.
type readKV struct {
	from pebble.Reader
	err  error
}

func (kv *readKV) note(err error) {
	if err != nil && kv.err == nil {
		kv.err = err
	}
}

func (kv *readKV) Get(key []byte) ([]byte, bool) {
	v, ok, err := get(kv.from, machineKey(key))
	kv.note(err)
	return v, ok
}

func (kv *readKV) Scan(prefix []byte, fn func(key, value []byte) bool) {
	kv.note(scan(kv.from, machineKey(prefix), fn))
}

func (kv *readKV) Set(key, _ []byte) {
	kv.note(fmt.Errorf("raftstore: view sets a key of %d bytes", len(key)))
}
func (kv *readKV) Delete(key []byte) {
	kv.note(fmt.Errorf("raftstore: view deletes a key of %d bytes", len(key)))
}
