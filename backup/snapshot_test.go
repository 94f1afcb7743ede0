package backup

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"coffer/backup/pack"
	"coffer/backup/tree"
)

// FuzzSnapshot: what parses is encoded and parsed again as the same; what does not
// is an error of a kind that callers know.
func FuzzSnapshot(f *testing.F) {
	seed := &Snapshot{Time: time.Unix(1, 0).UTC(), End: time.Unix(2, 0).UTC(), Host: "host", Source: "s", Paths: []string{"/a", "/\xff"},
		Tags: []string{"t"}, root: tree.Entry{Name: "root", Type: tree.Dir}, users: map[uint32]string{0: "root"}}
	raw, err := seed.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeSnapshot(pack.Name{1}, b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
				t.Errorf("an error without sentinel: %v", err)
			}
			return
		}
		once, err := s.encode()
		if err != nil {
			return // a text that is not UTF-8, a time out of range
		}
		again, err := decodeSnapshot(pack.Name{1}, once)
		if err != nil {
			t.Fatalf("what was parsed does not parse again: %v", err)
		}
		if twice, err := again.encode(); err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%x, then %x, %v", once, twice, err)
		}
	})
}
