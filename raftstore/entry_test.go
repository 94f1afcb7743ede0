package raftstore

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/go-hclog"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// What decodes must encode to the same bytes, what does not is malformed or of
// another kind. The seeds of the fuzz targets are files, in testdata/fuzz.
func FuzzEntry(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		cmds, err := decodeCommands(b)
		if err != nil {
			if !errors.Is(err, errMalformed) && !errors.Is(err, errKind) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if got := encodeCommands(cmds); !bytes.Equal(got, b) {
			t.Fatalf("%x decodes, and encodes to %x", b, got)
		}
	})
}

// A raft snapshot is foreign data: it must not write outside its folder, nor panic.
func FuzzUnpack(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		fs := vfs.NewMem()
		if err := fs.MkdirAll("top/db", 0o700); err != nil {
			t.Fatal(err)
		}
		unpack(fs, "top/db", bytes.NewReader(b))
		for _, dir := range []string{"", "top"} {
			names, err := fs.List(dir)
			if err != nil || len(names) != 1 {
				t.Fatalf("%q holds %q (%v)", dir, names, err)
			}
		}
		names, err := fs.List("top/db")
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			if !fileName.MatchString(n) || n == lockFile {
				t.Fatalf("file %q was written", n)
			}
		}
	})
}

// Archives with names that are not a database's are refused, good ones come out whole.
func TestUnpackRefuses(t *testing.T) {
	fs := vfs.NewMem()
	if err := fs.MkdirAll("from", 0o700); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"000001.sst": strings.Repeat("x", 1000), "CURRENT-1": "", "MANIFEST-000001": strings.Repeat("y", 512)}
	for name, body := range files {
		if err := writeSynced(fs, "from/"+name, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	a, size, err := newArchive(fs, "from")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if n, err := b.ReadFrom(a); err != nil || n != size {
		t.Fatalf("%d bytes (%v), said to be %d", n, err, size)
	}
	u, err := newUnpacker(fs, "to")
	if err != nil {
		t.Fatal(err)
	}
	for part := range slices.Chunk(b.Bytes(), 100) {
		if _, err := u.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	for name, body := range files {
		got, err := fs.UnsafeGetFileDataBuffer("to/" + name)
		if err != nil || string(got) != body {
			t.Errorf("%s has %d bytes (%v), want %d", name, len(got), err, len(body))
		}
	}
	for cut := range len(b.Bytes())/512 - 3 {
		u, err := newUnpacker(fs, "cut")
		if err != nil {
			t.Fatal(err)
		}
		u.Write(b.Bytes()[:512*cut])
		if err := u.Close(); err == nil {
			t.Errorf("archive cut after %d blocks is accepted", cut)
		}
	}
	if err := writeSynced(fs, "from/~", nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := newArchive(fs, "from"); err == nil {
		t.Error("a foreign file is packed")
	}
}

// What raft logs arrives in zap with its fields.
func TestLogAdapter(t *testing.T) {
	core, seen := observer.New(zap.InfoLevel)
	var l hclog.Logger = &raftLog{to: zap.New(core), name: "raft"}
	l.Debug("hidden")
	l.With("peer", "n1").Named("net").Warn("hello", "n", 3, "f", hclog.Fmt("%d/%d", 1, 2), "odd")
	if l.IsDebug() || !l.IsInfo() || l.GetLevel() != hclog.Info {
		t.Error("levels are not zap's")
	}
	all := seen.All()
	if len(all) != 1 || all[0].Message != "hello" || all[0].Level != zap.WarnLevel || all[0].LoggerName != "net" {
		t.Fatalf("logged %+v", all)
	}
	m := all[0].ContextMap()
	if m["peer"] != "n1" || m["n"] != int64(3) || m["f"] != "1/2" || m["extra"] != "odd" {
		t.Errorf("fields %v", m)
	}
}
