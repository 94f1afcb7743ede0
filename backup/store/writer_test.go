package store

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"coffer/backup/chunk"
	"coffer/backup/pack"
	"coffer/seal"
	"coffer/upstream"
)

func newStoreIn(t *testing.T, dir string) *Store {
	t.Helper()
	bucket, err := upstream.NewFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	key, err := seal.KeyFromBytes(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	conf := Config{Bucket: bucket, Keys: key.Keys(seal.NewStoreID()), CacheDir: t.TempDir(), Uploads: 1}
	if err := Init(t.Context(), conf, DefaultFormat()); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), conf)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestReadSegments: any row of segments of a pack is read alone.
func TestReadSegments(t *testing.T) {
	s := newStoreIn(t, t.TempDir())
	var rec *pack.Record
	w := s.NewWriter(t.Context(), false, func(r *pack.Record) { rec = r })
	const segments, size = 30, 300_000 // more than a chunk of the seal, and no multiple of one
	random := rand.NewChaCha8([32]byte{})
	for range segments {
		b := w.Buffer(size)[:size]
		random.Read(b)
		if err := w.Submit(&Job{Raw: b, Flat: true, Chunks: []Piece{{Len: size, Out: new(chunk.ID), Done: nobody{}}}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	for first := 0; first < segments; first += 3 {
		for end := first + 1; end <= segments; end += 4 {
			r, err := s.ReadSegments(t.Context(), rec, first, end)
			if err != nil {
				t.Fatal(err)
			}
			for i := first; i < end; i++ {
				if data, err := r.Next(true); err != nil || s.Sum(data) != rec.Segments[i].Chunks[0].ID {
					t.Fatalf("segment %d of %d to %d: %v", i, first, end, err)
				}
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestDamageBefore: damage in front of what is wanted is not in its way.
func TestDamageBefore(t *testing.T) {
	dir := t.TempDir()
	s := newStoreIn(t, dir)
	var rec *pack.Record
	w := s.NewWriter(t.Context(), false, func(r *pack.Record) { rec = r })
	const segments, size = 4, 200_000
	for i := range segments {
		b := w.Buffer(size)[:size]
		rand.NewChaCha8([32]byte{byte(i)}).Read(b)
		if err := w.Submit(&Job{Raw: b, Flat: true, Chunks: []Piece{{Len: size, Out: new(chunk.ID), Done: nobody{}}}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, filepath.FromSlash(PackName(rec.Name))+"=") // as a folder upstream names it
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	raw[size/2] ^= 1
	if err := errors.Join(os.Chmod(file, 0o600), os.WriteFile(file, raw, 0o600)); err != nil {
		t.Fatal(err)
	}
	for first := range segments {
		r, err := s.ReadSegments(t.Context(), rec, first, segments)
		if err != nil {
			t.Fatalf("from segment %d on: %v", first, err)
		}
		if data, err := r.Next(true); (err == nil && s.Sum(data) == rec.Segments[first].Chunks[0].ID) != (first > 0) {
			t.Errorf("segment %d: %v", first, err)
		}
		r.Close()
	}
}

// TestManySmallChunks: what a Writer holds in memory of the chunks it has taken
// does not grow with their number, however small they are.
func TestManySmallChunks(t *testing.T) {
	s := newStoreIn(t, t.TempDir())
	const chunks, each = 210_000, 500
	most := 0 // in open packs and those that travel, and in those that no index object describes
	var w *Writer
	w = s.NewWriter(t.Context(), false, func(*pack.Record) {
		w.mu.Lock()
		defer w.mu.Unlock()
		held := len(w.claims)
		s.mu.RLock()
		for _, rec := range s.pending {
			held += rec.Len()
			if rec.Len() > packChunks {
				t.Errorf("a pack has %d chunks", rec.Len())
			}
		}
		s.mu.RUnlock()
		most = max(most, held)
	})
	for n := 0; n < chunks; n += each {
		j := &Job{Raw: w.Buffer(8 * each)}
		for i := range each {
			j.Chunks = append(j.Chunks, Piece{Off: len(j.Raw), Len: 8, Out: new(chunk.ID), Done: nobody{}})
			j.Raw = binary.BigEndian.AppendUint64(j.Raw, uint64(n+i))
		}
		if err := w.Submit(j); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	if s.Chunks() < chunks {
		t.Errorf("%d chunks are in the index, want %d", s.Chunks(), chunks)
	}
	if limit := indexChunks + 2*cap(w.free)*packChunks; most > limit || most == 0 {
		t.Errorf("%d of %d chunks are held, want at most %d", most, chunks, limit)
	}
	t.Logf("%d of %d chunks were held", most, chunks)
}

type nobody struct{}

func (nobody) ChunkDone() error { return nil }
