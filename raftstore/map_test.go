package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

func TestMapKeepsWhatIsWritten(t *testing.T) {
	c := newCluster(t, 1, nil)[0].c
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(c.Dir, "map")
	for _, step := range []struct {
		changes map[string][]byte
		want    string
	}{
		{map[string][]byte{"a": {1}, "b1": {2}, "b2": {}, "c": {4}}, "b1=2 b2="},
		{map[string][]byte{"b1": nil, "b3": {5}, "d": nil}, "b2= b3=5"},
	} {
		m, err := s.OpenMap(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Write(step.changes); err != nil {
			t.Fatal(err)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		if m, err = s.OpenMap(dir); err != nil {
			t.Fatal(err)
		}
		var got []string
		err = m.Scan([]byte("b"), []byte("c"), func(k, v []byte) bool {
			got = append(got, strings.TrimRight(fmt.Sprintf("%s=%v", k, v), "]"))
			return true
		})
		if s := strings.ReplaceAll(strings.Join(got, " "), "[", ""); err != nil || s != step.want {
			t.Errorf("%q, %v, want %q", s, err, step.want)
		}
		if v, ok, err := m.Get([]byte("a")); err != nil || !ok || !slices.Equal(v, []byte{1}) {
			t.Errorf("a is %v, %v, %v", v, ok, err)
		}
		if _, ok, err := m.Get([]byte("b1")); err != nil || ok != (step.changes["b1"] != nil) {
			t.Errorf("b1: %v, %v", ok, err)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		if err := m.Write(step.changes); err == nil {
			t.Error("a closed map is written")
		}
	}
}

// After a power cut the map is as it was after some write, whole.
func TestMapLosesOnlyTheNewest(t *testing.T) {
	disk := vfs.NewCrashableMem()
	c := newCluster(t, 1, func(_ int, c *Config) { c.Dir, c.hooks.fs = "d", disk })[0].c
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.OpenMap("d/map")
	if err != nil {
		t.Fatal(err)
	}
	rng := mathrand.New(mathrand.NewPCG(1, 2))
	const writes = 2000
	number := func(i int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(i)) }
	for i := range writes {
		if err := m.Write(map[string][]byte{"last": number(i), "w" + string(number(i)): make([]byte, 500)}); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		c.hooks.fs = disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		s2, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		m2, err := s2.OpenMap("d/map")
		if err != nil {
			t.Fatal(err)
		}
		last := -1
		if v, ok, err := m2.Get([]byte("last")); err != nil {
			t.Fatal(err)
		} else if ok {
			last = int(binary.BigEndian.Uint64(v))
		}
		n := 0
		if err := m2.Scan([]byte("w"), []byte("x"), func([]byte, []byte) bool { n++; return true }); err != nil || n != last+1 {
			t.Errorf("%d writes are there, the last one is number %d (%v)", n, last, err)
		}
		m2.Close()
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
}

// A write that the disk refuses ends the node, and whoever wrote hears of it.
func TestMapFailsWithTheNode(t *testing.T) {
	t.Parallel()
	var failing atomic.Bool
	c := startCluster(t, 1, func(_ int, c *Config) {
		c.hooks.fs = errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(o errorfs.Op) error {
			if failing.Load() && o.Kind == errorfs.OpFileWrite && strings.Contains(o.Path, "/map/") {
				return syscall.ENOSPC
			}
			return nil
		}))
	})
	m, err := c[0].store.OpenMap(filepath.Join(c[0].c.Dir, "map"))
	if err != nil {
		t.Fatal(err)
	}
	failing.Store(true)
	for i := 0; err == nil && i < 1<<16; i++ {
		err = m.Write(map[string][]byte{"key": make([]byte, 1000)})
	}
	if err == nil {
		t.Error("writes to a disk that is full succeed")
	}
	if err := c[0].died(25 * time.Second); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("the node ended with %v", err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}
