package hsm

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestRotate: new records go under the new key, old ones stay good until their
// key is retired, and the node's identity, MACs and anchor remain.
func TestRotate(t *testing.T) {
	ctx := context.Background()
	for _, mode := range modes {
		config := provisioned(t, mode)
		tok := open(t, config())
		before := tok.Info()
		old, _ := newKey(t, tok, anna)
		want, err := tok.Evaluate(ctx, anna, old, blinded)
		if err != nil {
			t.Fatal(err)
		}
		if err := tok.SetAnchor(ctx, [40]byte{7}); err != nil {
			t.Fatal(err)
		}
		if _, err := Rotate(ctx, config()); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%v: rotating beside an open token of this process: %v", mode, err)
		}
		if err := tok.Close(); err != nil {
			t.Fatal(err)
		}

		id, err := Rotate(ctx, config())
		if err != nil || id == before.KeyID {
			t.Fatalf("%v: rotated to %x, %v", mode, id, err)
		}
		tok = open(t, config())
		after := tok.Info()
		if after.KeyID != id || len(after.Keys) != 2 || !slices.Contains(after.Keys, before.KeyID) || !after.Signing.Equal(before.Signing) {
			t.Errorf("%v: after rotation %+v", mode, after)
		}
		if got, err := tok.Evaluate(ctx, anna, old, blinded); err != nil || got != want {
			t.Errorf("%v: old record: %x, %v, want %x", mode, got, err, want)
		}
		fresh, _ := newKey(t, tok, anna)
		if key, err := RecordKey(fresh); err != nil || key != id {
			t.Errorf("%v: a new record is under %x, %v, want %x", mode, key, err, id)
		}
		if head, err := tok.Anchor(ctx); err != nil || head != [40]byte{7} {
			t.Errorf("%v: anchor %x, %v", mode, head, err)
		}
		if err := tok.Close(); err != nil {
			t.Fatal(err)
		}

		if err := Retire(ctx, config(), id); err == nil {
			t.Errorf("%v: the current key was retired", mode)
		}
		if err := Retire(ctx, config(), [16]byte{1}); err == nil {
			t.Errorf("%v: an unknown key was retired", mode)
		}
		if err := Retire(ctx, config(), before.KeyID); err != nil {
			t.Fatalf("%v: %v", mode, err)
		}
		tok = open(t, config())
		if _, err := tok.Evaluate(ctx, anna, old, blinded); !errors.Is(err, ErrRecord) {
			t.Errorf("%v: record of a retired key: %v, want %v", mode, err, ErrRecord)
		}
		if _, err := tok.Evaluate(ctx, anna, fresh, blinded); err != nil {
			t.Errorf("%v: new record: %v", mode, err)
		}
		if err := tok.Close(); err != nil {
			t.Fatal(err)
		}
		dirs, err := filepath.Glob(filepath.Join(config().Durable, tokensPrefix+"*"))
		if err != nil || len(dirs) != 1 || filepath.Base(dirs[0]) != "tokens-3" {
			t.Errorf("%v: folders %v, %v", mode, dirs, err)
		}
	}
	if _, err := RecordKey([]byte("short")); !errors.Is(err, ErrRecord) {
		t.Errorf("no record: %v, want %v", err, ErrRecord)
	}
}

// TestRotateBesideNode: a node that runs while another process rotates takes
// the new key when it next opens the module.
func TestRotateBesideNode(t *testing.T) {
	config := provisioned(t, ModeWrapped)
	tok := open(t, config())
	before := tok.Info().KeyID
	rec, _ := newKey(t, tok, anna)
	killed(t, "rotate", config(), nil, 0) // ends by itself
	if got := tok.Info().KeyID; got != before {
		t.Errorf("the key changed under an open module")
	}
	tok.replace(tok.now, "worn")
	if _, err := tok.MAC(context.Background(), nil); err != nil { // waits for it
		t.Fatal(err)
	}
	if got := tok.Info().KeyID; got == before {
		t.Error("the node did not see the new key")
	}
	if _, err := tok.Evaluate(context.Background(), anna, rec, blinded); err != nil {
		t.Error(err)
	}
}

// TestRotateKilled kills rotation at any moment: the token is the old or the
// new one, whole, and the old record stays good.
func TestRotateKilled(t *testing.T) {
	config := provisioned(t, ModeWrapped)
	tok := open(t, config())
	rec, _ := newKey(t, tok, anna)
	if err := tok.Close(); err != nil {
		t.Fatal(err)
	}
	_, whole := killed(t, "rotate", config(), nil, 0)
	keys := 2
	for n := range kills(t, 100) / 10 {
		killed(t, "rotate", config(), nil, within(whole))
		tok := open(t, config())
		if _, err := tok.Evaluate(context.Background(), anna, rec, blinded); err != nil {
			t.Fatalf("kill %d: %v", n, err)
		}
		if got := len(tok.Info().Keys); got != keys && got != keys+1 {
			t.Fatalf("kill %d: %d keys, want %d or one more", n, got, keys)
		} else {
			keys = got
		}
		if err := tok.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if id, err := Rotate(context.Background(), config()); err != nil || id == [16]byte{} {
		t.Errorf("rotating in the end: %v", err)
	}
	t.Logf("%d rotations were done before they were killed", keys-2)
}

// TestRotateHardwareWay rotates inside a token that is not ours to copy.
func TestRotateHardwareWay(t *testing.T) {
	ctx := context.Background()
	config := partition(t)
	if err := Provision(ctx, config(), nil); err != nil {
		t.Fatal(err)
	}
	tok := open(t, config())
	first := tok.Info().KeyID
	rec, _ := newKey(t, tok, anna)
	if err := tok.Close(); err != nil {
		t.Fatal(err)
	}
	id, err := Rotate(ctx, config())
	if err != nil {
		t.Fatal(err)
	}
	if err := Retire(ctx, config(), first); err != nil {
		t.Fatal(err)
	}
	tok = open(t, config())
	if i := tok.Info(); i.KeyID != id || len(i.Keys) != 1 {
		t.Errorf("after rotation and retirement %+v", i)
	}
	if _, err := tok.Evaluate(ctx, anna, rec, blinded); !errors.Is(err, ErrRecord) {
		t.Errorf("record of a retired key: %v, want %v", err, ErrRecord)
	}
}

// TestPrivateFiles: nobody else may read a token's files, rotated ones too.
func TestPrivateFiles(t *testing.T) {
	config := provision(t, ModeWrapped, t.TempDir())
	if _, err := Rotate(context.Background(), config()); err != nil {
		t.Fatal(err)
	}
	seen := 0
	err := filepath.WalkDir(config().Durable, func(path string, d os.DirEntry, err error) error {
		if err != nil || path == config().Durable { // the test's own folder
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v", path, info.Mode())
		}
		seen++
		return nil
	})
	if err != nil || seen < 8 {
		t.Errorf("%d files seen, %v", seen, err)
	}
	if pin := config().PIN; bytes.Equal(pin, make([]byte, len(pin))) {
		t.Error("Rotate wiped the PIN")
	}
}
