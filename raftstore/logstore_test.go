package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"pgregory.net/rapid"
)

// Our log must do what hashicorp's own does: the same calls, opening again
// included, give the same answers. raft-wal 0.4.0 lost whole nodes here, after a
// truncated end and a restart.
func TestLogStoresAgree(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		dir, err := os.MkdirTemp("", "logs")
		if err != nil {
			r.Fatal(err)
		}
		defer os.RemoveAll(dir)
		open := func() [2]backend {
			if err := os.MkdirAll(dir+"/wal", 0o700); err != nil {
				r.Fatal(err)
			}
			p, err := openPebbleStore(vfs.Default, dir+"/pebble", pebbleLog{testLog(t, "log"), func(err error) { r.Error(err) }})
			if err != nil {
				r.Fatal(err)
			}
			w, err := wal.Open(dir+"/wal", wal.WithLogger(hclog.NewNullLogger()), wal.WithSegmentSize(4096))
			if err != nil {
				r.Fatal(err)
			}
			return [2]backend{p, w}
		}
		stores := open()
		defer func() {
			stores[0].Close()
			stores[1].Close()
		}()
		both := func(what string, do func(backend) error) {
			if a, b := do(stores[0]), do(stores[1]); (a == nil) != (b == nil) {
				r.Fatalf("%s: ours says %v, raft-wal %v", what, a, b)
			}
		}
		var first, last, term uint64 = 0, 0, 1
		r.Repeat(map[string]func(*rapid.T){
			"append": func(r *rapid.T) {
				from := last + 1
				if last == 0 {
					from = rapid.Uint64Range(1, 1000).Draw(r, "from")
				}
				term += rapid.Uint64Range(0, 1).Draw(r, "term")
				var logs []*raft.Log
				for range rapid.IntRange(1, 5).Draw(r, "n") {
					logs = append(logs, &raft.Log{Index: from, Term: term, Type: raft.LogType(rapid.SampledFrom([]int{0, 1, 4, 5}).Draw(r, "type")),
						Data: rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(r, "data"), Extensions: rapid.SliceOfN(rapid.Byte(), 0, 8).Draw(r, "ext")})
					from++
				}
				both("append", func(b backend) error { return b.StoreLogs(logs) })
				if first == 0 {
					first = logs[0].Index
				}
				last = from - 1
			},
			"gap": func(r *rapid.T) {
				if last == 0 {
					return
				}
				both("gap", func(b backend) error { return b.StoreLog(&raft.Log{Index: last + 2, Term: term}) })
			},
			"cut the beginning": func(r *rapid.T) {
				if last == 0 {
					return
				}
				to := rapid.Uint64Range(first, last).Draw(r, "to")
				both("cut the beginning", func(b backend) error { return b.DeleteRange(first, to) })
				if first = to + 1; to == last {
					first, last = 0, 0
				}
			},
			"cut the end": func(r *rapid.T) {
				if last == 0 || first == last {
					return
				}
				from := rapid.Uint64Range(first+1, last).Draw(r, "from")
				both("cut the end", func(b backend) error { return b.DeleteRange(from, last) })
				last = from - 1
			},
			"set": func(r *rapid.T) {
				k, v := fmt.Appendf(nil, "k%d", rapid.IntRange(0, 2).Draw(r, "k")), rapid.Uint64().Draw(r, "v")
				both("set", func(b backend) error { return b.SetUint64(k, v) })
			},
			"open again": func(r *rapid.T) {
				both("close", backend.Close)
				stores = open()
			},
			"": func(r *rapid.T) { compareStores(r, stores, first, last) },
		})
	})
}

func compareStores(r *rapid.T, stores [2]backend, first, last uint64) {
	for i, s := range stores {
		f, err1 := s.FirstIndex()
		l, err2 := s.LastIndex()
		if err1 != nil || err2 != nil || f != first || l != last {
			r.Fatalf("store %d goes from %d to %d (%v, %v), want %d to %d", i, f, l, err1, err2, first, last)
		}
	}
	for i := max(first, 1) - 1; i <= last+1; i++ {
		var a, b raft.Log
		errA, errB := stores[0].GetLog(i, &a), stores[1].GetLog(i, &b)
		inside := i >= first && i <= last && last != 0
		if i < first {
			errB = raft.ErrLogNotFound // raft-wal still finds some that were cut from the beginning
		}
		if inside != (errA == nil) || inside != (errB == nil) {
			r.Fatalf("entry %d of %d to %d: %v, %v", i, first, last, errA, errB)
		}
		if !inside {
			if !errors.Is(errA, raft.ErrLogNotFound) {
				r.Fatalf("entry %d: %v, want %v", i, errA, raft.ErrLogNotFound)
			}
			continue
		}
		if a.Index != b.Index || a.Term != b.Term || a.Type != b.Type || !bytes.Equal(a.Data, b.Data) || !bytes.Equal(a.Extensions, b.Extensions) {
			r.Fatalf("entry %d: %+v, %+v", i, a, b)
		}
	}
	for k := range 3 {
		a, errA := stores[0].GetUint64(fmt.Appendf(nil, "k%d", k))
		b, errB := stores[1].GetUint64(fmt.Appendf(nil, "k%d", k))
		if errA != nil || errB != nil || a != b {
			r.Fatalf("setting %d: %d (%v), %d (%v)", k, a, errA, b, errB)
		}
	}
}

// A log or a record that is not ours is an error, never a panic.
func TestLogStoreRefusesDamage(t *testing.T) {
	t.Parallel()
	s, err := openPebbleStore(vfs.NewMem(), "log", pebbleLog{testLog(t, "log"), func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i, v := range [][]byte{{}, make([]byte, logHeader-1), append(make([]byte, logHeader-4), 0xff, 0xff, 0xff, 0xff)} {
		if err := s.db.Set(logKey(uint64(i+1)), v, nil); err != nil {
			t.Fatal(err)
		}
		if err := s.GetLog(uint64(i+1), new(raft.Log)); err == nil {
			t.Errorf("record %x is read", v)
		}
	}
	if err := s.Set([]byte("n"), []byte("12")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.GetUint64([]byte("n")); err == nil {
		t.Error("two bytes are read as a number")
	}
	if err := s.DeleteRange(1, 3); err != nil {
		t.Errorf("deleting from an empty log: %v", err)
	}
}

// Raft cuts the beginning while it appends: neither may undo the other's ends.
func TestLogStoreCutsWhileItGrows(t *testing.T) {
	t.Parallel()
	s, err := openPebbleStore(vfs.NewMem(), "log", pebbleLog{testLog(t, "log"), func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const n = 2000
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := uint64(1); i <= n; i++ {
			if err := s.StoreLog(&raft.Log{Index: i, Term: 1}); err != nil {
				t.Error(err)
			}
		}
	}()
	var cut uint64
	for cut < n-10 {
		last, _ := s.LastIndex()
		if last <= cut+5 {
			continue
		}
		first, _ := s.FirstIndex()
		if first != max(cut+1, 1) {
			t.Fatalf("log begins at %d, was cut up to %d", first, cut)
		}
		cut = last - 5
		if err := s.DeleteRange(first, cut); err != nil {
			t.Fatal(err)
		}
	}
	<-done
	first, _ := s.FirstIndex()
	last, _ := s.LastIndex()
	if first != cut+1 || last != n {
		t.Errorf("log goes from %d to %d, want %d to %d", first, last, cut+1, n)
	}
}
