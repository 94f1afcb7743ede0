package raftstore

import (
	"bytes"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
)

// pending is a database with writes that are not committed yet, which reads see. A
// batch of pebble's with an index can do that, too, but each of its reads costs more
// than looking into both.
type pending struct {
	db    *pebble.DB
	batch *pebble.Batch
	own   map[string][]byte // written; nil: deleted
}

func newPending(db *pebble.DB) *pending {
	return &pending{db: db, batch: db.NewBatch(), own: make(map[string][]byte)}
}

// get returns the value of key, which is the caller's.
func (p *pending) get(key []byte) ([]byte, bool, error) {
	if v, ok := p.own[string(key)]; ok {
		return bytes.Clone(v), v != nil, nil
	}
	return get(p.db, key)
}

func (p *pending) set(key, value []byte) error {
	p.own[string(key)] = append(make([]byte, 0, len(value)), value...)
	return p.batch.Set(key, value, nil)
}

func (p *pending) delete(key []byte) error {
	p.own[string(key)] = nil
	return p.batch.Delete(key, nil)
}

// scan is the function of that name over both.
func (p *pending) scan(prefix []byte, fn func(key, value []byte) bool) error {
	var mine []string
	for k := range p.own {
		if strings.HasPrefix(k, string(prefix)) {
			mine = append(mine, k)
		}
	}
	slices.Sort(mine)
	more := true
	// until gives what was written up to a key (nil: all), and says whether that was, too.
	until := func(key []byte) (own bool) {
		for more && len(mine) > 0 && (key == nil || mine[0][1:] <= string(key)) {
			k := mine[0]
			mine = mine[1:]
			own = key != nil && k[1:] == string(key)
			if v := p.own[k]; v != nil {
				more = fn([]byte(k[1:]), v)
			}
		}
		return own
	}
	err := scan(p.db, prefix, func(key, value []byte) bool {
		if own := until(key); !own && more {
			more = fn(key, value)
		}
		return more
	})
	until(nil)
	return err
}

func (p *pending) commit() error { return p.batch.Commit(pebble.NoSync) }

func (p *pending) close() error { return p.batch.Close() }
