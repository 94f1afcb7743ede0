package store

import (
	"bytes"
	"errors"
	"testing"

	"coffer/backup/pack"
)

func TestDoc(t *testing.T) {
	for _, payload := range [][]byte{nil, []byte("short"), bytes.Repeat([]byte("long "), 10_000)} {
		b := encodeDoc(payload)
		if len(b) != pack.Padded(len(b)) || len(b) < docMin {
			t.Errorf("%d bytes are not a padded size", len(b))
		}
		got, err := decodeDoc(b)
		if err != nil || !bytes.Equal(got, payload) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}
	good := encodeDoc([]byte("payload"))
	for name, edit := range map[string]func(b []byte) []byte{
		"empty":       func([]byte) []byte { return nil },
		"compression": func(b []byte) []byte { b[1] = 2; return b },
		"length":      func(b []byte) []byte { b[3] = 1; return b },
		"plain":       func(b []byte) []byte { b[6]++; return b },
		"padding":     func(b []byte) []byte { b[len(b)-1] = 1; return b },
		"zstd":        func(b []byte) []byte { b[1] = 1; return b },
		"bomb":        func(b []byte) []byte { b[1], b[9] = 1, 0xff; return b },
	} {
		if _, err := decodeDoc(edit(bytes.Clone(good))); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good[0] = 2
	if _, err := decodeDoc(good); !errors.Is(err, ErrVersion) {
		t.Errorf("version 2: %v", err)
	}
}

func FuzzDoc(f *testing.F) {
	f.Add(encodeDoc([]byte("payload")))
	f.Add(encodeDoc(bytes.Repeat([]byte("long "), 1000)))
	f.Fuzz(func(t *testing.T, b []byte) {
		payload, err := decodeDoc(b)
		if err != nil {
			return
		}
		if again, err := decodeDoc(encodeDoc(payload)); err != nil || !bytes.Equal(again, payload) {
			t.Errorf("%v", err)
		}
	})
}
