package raftstore

import (
	"bytes"
	"errors"
	"testing"
)

// A group that is lost begins again from a backup, on other nodes, as the next
// generation.
func TestBackup(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, nil)
	for range 5 {
		c.propose(t, "incr a")
	}
	c.propose(t, "incr c")
	c.agree(t)
	var b bytes.Buffer
	info, err := c[1].store.Backup(t.Context(), &b)
	if err != nil {
		t.Fatal(err)
	}
	c.propose(t, "incr a") // is not in it
	for _, n := range c {
		n.halt()
	}
	if got, err := CheckBackup(bytes.NewReader(b.Bytes()), t.TempDir()); err != nil || got != info {
		t.Errorf("check: %+v, %v, want %+v", got, err, info)
	}

	d := newCluster(t, 3, nil)
	for _, n := range d {
		got, err := Restore(n.c, bytes.NewReader(b.Bytes()), func(kv KV) error {
			kv.Set([]byte("b"), []byte("changed"))
			kv.Delete([]byte("c"))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if got.Index != info.Index || got.Generation != 1 || got.Chain == info.Chain {
			t.Errorf("restored %+v of %+v", got, info)
		}
		if _, err := Restore(n.c, bytes.NewReader(b.Bytes()), nil); err == nil {
			t.Error("restored over a node that exists")
		}
		n.start()
	}
	if got := d[0].get("b") + d[1].get("b") + d[0].get("c"); got != "changedchanged" {
		t.Errorf("the change made %q of it", got)
	}
	if got := d.propose(t, "incr a"); got != "6" {
		t.Errorf("answer %s, want 6", got)
	}
	d.agree(t)
	for _, n := range d {
		if g, err := n.store.Generation(); err != nil || g != 1 {
			t.Errorf("generation %d (%v), want 1", g, err)
		}
	}
	d[0].halt()
	d[0].start()
	d.agree(t)
	b.Reset()
	if info, err := d[2].store.Backup(t.Context(), &b); err != nil || info.Generation != 1 {
		t.Errorf("backup of the new group: %+v, %v", info, err)
	}
}

// A damaged backup is refused before it counts.
func TestBackupDamaged(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, nil)
	c.propose(t, "incr a")
	var b bytes.Buffer
	if _, err := c[0].store.Backup(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	whole := b.Bytes()
	if _, err := CheckBackup(bytes.NewReader(whole), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func([]byte) []byte{
		"empty":     func([]byte) []byte { return nil },
		"magic":     func(b []byte) []byte { b[0]++; return b },
		"head":      func(b []byte) []byte { return bytes.Replace(b, []byte(`"index":`), []byte(`"index":1`), 1) },
		"cut":       func(b []byte) []byte { return b[:len(b)-2000] },
		"cut early": func(b []byte) []byte { return b[:300] },
	} {
		b := damage(bytes.Clone(whole))
		if _, err := CheckBackup(bytes.NewReader(b), t.TempDir()); !errors.Is(err, ErrBackup) {
			t.Errorf("%s: %v, want %v", name, err, ErrBackup)
		}
		d := newCluster(t, 1, nil)
		if _, err := Restore(d[0].c, bytes.NewReader(b), nil); !errors.Is(err, ErrBackup) {
			t.Errorf("%s: restore: %v, want %v", name, err, ErrBackup)
		}
	}
}

// A group begun by hand is the one that nodes begin by themselves; one that exists is
// not begun again.
func TestBegin(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, func(i int, c *Config) { c.Join = i != 2 }) // the third does so by itself
	for _, n := range c[:2] {
		if err := Begin(n.c); err != nil {
			t.Fatal(err)
		}
		if err := Begin(n.c); err == nil {
			t.Error("begun over a group that exists")
		}
	}
	for _, n := range c {
		n.start()
	}
	c.propose(t, "incr a")
	c.agree(t)
}
