package backup

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"coffer/backup/store"
	"coffer/upstream"
)

// A stream is read back as it came, whatever its length, and deduplicates with
// itself; one that breaks off leaves no snapshot.
func TestBackupStream(t *testing.T) {
	f := newFixture(t)
	for _, size := range []int{0, 1, 1 << 10, 1<<10 + 1, 200 << 10} {
		want := random(uint64(size), size)
		s, rep, err := f.repo.BackupStream(t.Context(), BackupOptions{Source: "dump.sql", Host: "host", Tags: []string{"db"}}, iotest.HalfReader(bytes.NewReader(want)))
		if err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, f.reopen(), s, "/dump.sql", 0, -1); !bytes.Equal(got, want) || rep.Bytes != int64(size) {
			t.Errorf("%d bytes: %d came back, report %d", size, len(got), rep.Bytes)
		}
	}
	again, rep, err := f.repo.BackupStream(t.Context(), BackupOptions{Source: "dump.sql", Host: "host"}, bytes.NewReader(random(200<<10, 200<<10)))
	if err != nil || rep.Added > 4<<10 || again.Parent == "" {
		t.Errorf("the same data again: %d bytes added, parent %q, %v", rep.Added, again.Parent, err)
	}
	broken := errors.New("the command failed")
	_, _, err = f.repo.BackupStream(t.Context(), BackupOptions{Source: "dump.sql", Host: "host"}, io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) {
		t.Errorf("error %v, want that of the stream", err)
	}
	all, err := f.repo.Snapshots(t.Context())
	if err != nil || len(all) != 6 {
		t.Errorf("%d snapshots, %v; want 6", len(all), err)
	}
	for _, name := range []string{"", ".", "..", "a/b", "a\x00"} {
		if _, _, err := f.repo.BackupStream(t.Context(), BackupOptions{Source: name}, strings.NewReader("x")); err == nil {
			t.Errorf("%q is the name of a file", name)
		}
	}
	if rep, err := f.repo.Check(t.Context(), CheckOptions{ReadData: true}); err != nil || len(rep.Problems) > 0 {
		t.Errorf("check: %+v, %v", rep.Problems, err)
	}
}

// A store that stops in between makes no snapshot.
func TestBackupStreamStopped(t *testing.T) {
	f := newFixture(t)
	d := &dying{Bucket: f.bucket}
	f.conf.Bucket = d
	d.left.Store(1)
	f.reopen()
	d.left.Store(5)
	if _, _, err := f.repo.BackupStream(t.Context(), BackupOptions{Source: "x"}, bytes.NewReader(random(1, 300<<10))); err == nil {
		t.Error("stored in a bucket that does not answer")
	}
	n := 0
	if err := f.bucket.List(t.Context(), store.SnapshotDir, "", func(upstream.Info) error { n++; return nil }); err != nil || n != 0 {
		t.Errorf("%d snapshots, %v", n, err)
	}
}
