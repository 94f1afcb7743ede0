package local

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.uber.org/zap"

	"coffer/backup/chunk"
	"coffer/backup/pack"
	"coffer/backup/tree"
)

func sum(b []byte) chunk.ID { return chunk.NewHasher([32]byte{}).Sum(b) }

func TestTrees(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trees")
	nodes := [][]byte{[]byte("one"), []byte("two"), {}}
	w := NewTreeWriter(path)
	for i, n := range nodes {
		w.Add(sum(n), uint64(i+5), n)
		w.Add(sum(n), 99, n)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	read := func() (found int) {
		trees := OpenTrees(path, sum)
		defer trees.Close()
		for i, n := range nodes {
			if got, dev := trees.Node(sum(n)); got != nil && bytes.Equal(got, n) {
				if dev != uint64(i+5) {
					t.Errorf("device %d, want %d", dev, i+5)
				}
				found++
			}
		}
		return found
	}
	if n := read(); n != 3 {
		t.Errorf("%d of 3 nodes", n)
	}
	// What a bad disk has changed must not be believed; what follows it may be.
	raw, _ := os.ReadFile(path)
	for at := range raw {
		bad := bytes.Clone(raw)
		bad[at] ^= 1
		os.WriteFile(path, bad, 0o600)
		trees := OpenTrees(path, sum)
		for _, n := range nodes {
			if got, _ := trees.Node(sum(n)); got != nil && !bytes.Equal(got, n) {
				t.Errorf("byte %d flipped: %q, want %q", at, got, n)
			}
		}
		trees.Close()
	}
	for n := range raw {
		os.WriteFile(path, raw[:n], 0o600)
		if n < len(raw)-1 && read() == 3 {
			t.Errorf("cut to %d bytes, and all is there", n)
		}
	}
	if a := NewTreeWriter(path); a.Commit() != nil {
		t.Error("commit of nothing")
	}
	a := NewTreeWriter(path)
	a.Abort()
	if _, err := os.Stat(path + ".new"); !os.IsNotExist(err) {
		t.Errorf("an aborted cache is left: %v", err)
	}
}

// A cache that is cut or written over while it is open costs nodes: not the process,
// nor what was read before. One that is replaced costs nothing; one that is not
// finished is none.
func TestTreesChange(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "trees")
	node, big := []byte("node"), bytes.Repeat([]byte("big "), 5000)
	write := func() {
		w := NewTreeWriter(path)
		w.Add(sum(node), 5, node)
		w.Add(sum(big), 5, big)
		if err := w.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	write()
	trees := OpenTrees(path, sum)
	defer trees.Close()
	NewTreeWriter(path).Add(sum(node), 5, node) // of a run that was killed
	if files, err := Finished(dir); err != nil || !slices.Equal(files, []string{path}) {
		t.Errorf("finished: %q, %v", files, err)
	}
	write()
	if got, _ := trees.Node(sum(big)); !bytes.Equal(got, big) {
		t.Error("a node is lost when the cache is replaced")
	}
	trees = OpenTrees(path, sum)
	defer trees.Close()
	got, _ := trees.Node(sum(node))
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xff}, 1000), int64(treeHead)); err != nil {
		t.Fatal(err)
	}
	if bad, _ := trees.Node(sum(node)); bad != nil || !bytes.Equal(got, node) {
		t.Errorf("written over: %q, and %q was read before", bad, got)
	}
	if err := f.Truncate(0); err != nil {
		t.Fatal(err)
	}
	if bad, _ := trees.Node(sum(big)); bad != nil {
		t.Errorf("cut to nothing: %q", bad)
	}
}

func TestJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	rec := &pack.Record{Name: pack.Name{1}, Size: 100, Segments: []pack.Segment{{Stored: 5, Chunks: []pack.Chunk{{ID: chunk.ID{1}, Len: 5}}}}}
	j := OpenJournal(path, zap.NewNop())
	j.File("/a/\xff", &tree.Entry{Name: "\xff", Type: tree.File, Size: 5, Content: []chunk.ID{{1}}})
	j.Pack(rec)
	j.File("/b", &tree.Entry{Name: "b", Type: tree.File, Size: 6})
	j.Close(false)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// A torn end counts for nothing, whatever its length; what is before it counts.
	for n := len(raw); n >= 0; n-- {
		os.WriteFile(path, raw[:n], 0o600)
		j := OpenJournal(path, zap.NewNop())
		a, b := j.Find("/a/\xff"), j.Find("/b")
		if (b != nil) != (n == len(raw)) || b != nil && b.Size != 6 || a != nil && (a.Size != 5 || len(a.Content) != 1) {
			t.Errorf("cut to %d of %d: %+v %+v", n, len(raw), a, b)
		}
		if n == len(raw) && (len(j.Packs()) != 1 || !bytes.Equal(j.Packs()[0].Append(nil), rec.Append(nil))) {
			t.Errorf("packs %+v", j.Packs())
		}
		j.File("/c", &tree.Entry{Name: "c", Type: tree.File, Size: 7})
		j.Close(false)
		j = OpenJournal(path, zap.NewNop())
		if c := j.Find("/c"); c == nil || c.Size != 7 {
			t.Errorf("cut to %d: what was appended then is lost", n)
		}
		j.Close(true)
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("the journal of a finished run is left: %v", err)
		}
	}
	none := OpenJournal("", zap.NewNop())
	none.File("/a", &tree.Entry{Name: "a", Type: tree.FIFO})
	none.Pack(rec)
	none.Close(true)
}

// FuzzTrees: whatever the cache of directories says, a node is what its id says.
func FuzzTrees(f *testing.F) {
	path := filepath.Join(f.TempDir(), "seed")
	node := []byte("node")
	w := NewTreeWriter(path)
	w.Add(sum(node), 5, node)
	if err := w.Commit(); err != nil {
		f.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "trees")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		trees := OpenTrees(path, sum)
		defer trees.Close()
		for id := range trees.at {
			if got, _ := trees.Node(id); got != nil && sum(got) != id {
				t.Errorf("node %s is %q", id, got)
			}
		}
	})
}

func FuzzJournal(f *testing.F) {
	path := filepath.Join(f.TempDir(), "seed")
	j := OpenJournal(path, zap.NewNop())
	j.File("/a", &tree.Entry{Name: "a", Type: tree.File, Size: 5})
	j.Pack(&pack.Record{Name: pack.Name{1}})
	j.Close(false)
	raw, _ := os.ReadFile(path)
	f.Add(raw)
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "journal")
		os.WriteFile(path, b, 0o600)
		j := OpenJournal(path, zap.NewNop())
		j.Find("/a")
		j.Close(false)
		if got, _ := os.ReadFile(path); !bytes.HasPrefix(b, got) {
			t.Error("opening a journal changed what it says")
		}
	})
}
