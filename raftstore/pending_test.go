package raftstore

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap"
	"pgregory.net/rapid"
)

// Reads of writes that are not committed are as they will be when they are.
func TestPendingReadsItsWrites(t *testing.T) {
	t.Parallel()
	keys := rapid.StringMatching(`k[a-c]{0,3}`)
	rapid.Check(t, func(r *rapid.T) {
		db, err := openDB(vfs.NewMem(), "d", pebbleLog{zap.NewNop(), func(err error) { r.Errorf("%v", err) }}, false)
		if err != nil {
			r.Fatal(err)
		}
		defer db.Close()
		want, p := make(map[string]string), newPending(db)
		for range rapid.IntRange(0, 60).Draw(r, "steps") {
			k := keys.Draw(r, "key")
			switch rapid.IntRange(0, 4).Draw(r, "step") {
			case 0, 1:
				v := rapid.StringN(0, 3, -1).Draw(r, "value")
				want[k] = v
				err = p.set([]byte(k), []byte(v))
			case 2:
				delete(want, k)
				err = p.delete([]byte(k))
			case 3:
				if err = p.commit(); err == nil {
					p.close()
					p = newPending(db)
				}
			case 4:
				v, ok, err := p.get([]byte(k))
				if w, has := want[k]; err != nil || ok != has || string(v) != w {
					r.Fatalf("%s is %q, %v, %v, want %q, %v", k, v, ok, err, w, has)
				}
			}
			if err != nil {
				r.Fatal(err)
			}
			prefix, most := keys.Draw(r, "prefix"), rapid.IntRange(1, 20).Draw(r, "most")
			var got, all []string
			err = p.scan([]byte(prefix), func(key, value []byte) bool {
				got = append(got, string(bytes.Clone(key))+"="+string(value))
				return len(got) < most
			})
			for _, k := range slices.Sorted(maps.Keys(want)) {
				if strings.HasPrefix(k, prefix) && len(all) < most {
					all = append(all, k[1:]+"="+want[k])
				}
			}
			if err != nil || !slices.Equal(got, all) {
				r.Fatalf("prefix %s, at most %d: %q, %v, want %q", prefix, most, got, err, all)
			}
		}
		p.close()
	})
}
