package seal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// Secrets do not get into logs or errors, whatever the verb and wherever they lie.
func TestSecretsPrintHidden(t *testing.T) {
	key, err := KeyFromBytes(bytes.Repeat([]byte{0xa5}, KeySize))
	if err != nil {
		t.Fatal(err)
	}
	k := key.Keys(StoreID{1})
	o, err := NewObjectKey(k, Options{})
	if err != nil {
		t.Fatal(err)
	}
	derived := k.Derive("test")
	type outer struct {
		Key  Key
		key  Key
		Keys *Keys
		k    *Keys
		o    *ObjectKey
		O    *ObjectKey
	}
	v := outer{key, key, k, k, o, o}
	j, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	printed := string(j)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q", "%X"} {
		for _, x := range []any{key, &key, k, *k, o, *o, v, &v, []Key{key}, map[string]*Keys{"a": k}} {
			printed += fmt.Sprintf(verb, x) + "\n"
		}
	}
	dek := o.dek()
	for what, secret := range map[string][]byte{"key": {0xa5, 0xa5, 0xa5}, "wrap key": k.secrets().wrap[:4], "data key": dek[:4], "derived": derived[:4]} {
		for _, form := range []string{"%x", "%X", "%d", "%v", "%q"} {
			s := strings.Trim(fmt.Sprintf(form, secret), "[]\"")
			if strings.Contains(printed, s) {
				t.Errorf("the %s is printed as %s", what, s)
			}
		}
	}
	if !strings.Contains(printed, "seal.Key(hidden)") || !strings.Contains(printed, "seal.Keys(hidden)") {
		t.Error("hidden secrets do not say so")
	}
}

// Derived keys are stable, and apart for each label, store and backup key.
func TestDerive(t *testing.T) {
	key := NewKey()
	store := NewStoreID()
	k := key.Keys(store)
	again, err := KeyFromBytes(bytes.Clone(func() []byte { b := key.Bytes(); return b[:] }()))
	if err != nil {
		t.Fatal(err)
	}
	if k.Derive("a") != again.Keys(store).Derive("a") || k.ID() != again.Keys(store).ID() || !key.Equal(again) {
		t.Error("equal keys derive different ones")
	}
	seen := map[[32]byte]string{k.secrets().wrap: "wrap", k.secrets().env: "env", k.secrets().nameMAC: "mac"}
	for _, c := range []struct {
		what string
		key  [32]byte
	}{
		{"a", k.Derive("a")}, {"b", k.Derive("b")}, {"empty", k.Derive("")}, {"store", key.Keys(NewStoreID()).Derive("a")},
		{"key", NewKey().Keys(store).Derive("a")}, {"like wrap", k.Derive("coffer seal wrap v1" + epoch)},
	} {
		if other, ok := seen[c.key]; ok {
			t.Errorf("%s and %s are the same key", c.what, other)
		}
		seen[c.key] = c.what
	}
	if key.Equal(NewKey()) || key.Equal(Key{}) || (Key{}).Equal(Key{}) {
		t.Error("different keys are equal")
	}
}

func TestKeyFromBytes(t *testing.T) {
	for _, n := range []int{0, 31, 33, 64} {
		if _, err := KeyFromBytes(make([]byte, n)); err == nil {
			t.Errorf("%d bytes are a key", n)
		}
	}
	b := make([]byte, KeySize)
	k, err := KeyFromBytes(b)
	if err != nil {
		t.Fatal(err)
	}
	b[0] = 1
	if k.Bytes() != [KeySize]byte{} {
		t.Error("the key follows the slice it was made from")
	}
}

func TestStoreID(t *testing.T) {
	id := NewStoreID()
	if got, err := ParseStoreID(id.String()); err != nil || got != id {
		t.Errorf("got %v, %v, want %v", got, err, id)
	}
	j, err := json.Marshal(id)
	if err != nil || string(j) != `"`+id.String()+`"` {
		t.Errorf("got %s, %v", j, err)
	}
	var back StoreID
	if err := json.Unmarshal(j, &back); err != nil || back != id {
		t.Errorf("got %v, %v", back, err)
	}
	for _, s := range []string{"", "12", strings.Repeat("x", 32), strings.Repeat("0", 34)} {
		if _, err := ParseStoreID(s); err == nil {
			t.Errorf("%q is a store id", s)
		}
	}
}

// Every odd name of S3 has a sealed name within limits and comes back.
func TestNames(t *testing.T) {
	k := testKeys(t)
	seen := make(map[string]string)
	for _, key := range oddNames {
		for _, bucket := range []string{"b", "bucket", strings.Repeat("b", 63)} {
			sealed, err := k.SealName(bucket, key)
			if err != nil {
				t.Fatal(err)
			}
			checkName(t, k, bucket, key, sealed)
			if other, ok := seen[sealed]; ok {
				t.Errorf("%q and %q have the same sealed name", other, bucket+"/"+key)
			}
			seen[sealed] = bucket + "/" + key
		}
	}
	for _, key := range []string{"", strings.Repeat("x", MaxName+1)} {
		if _, err := k.SealName("b", key); err == nil {
			t.Errorf("a key of %d bytes was sealed", len(key))
		}
	}
	sb, err := k.SealBucket("photos")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := k.OpenBucket(sb); err != nil || got != "photos" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := testKeys(t).OpenBucket(sb); !errors.Is(err, ErrCorrupt) {
		t.Errorf("with another key: %v", err)
	}
	for _, b := range []string{"", strings.Repeat("x", 128)} {
		if _, err := k.SealBucket(b); err == nil {
			t.Errorf("a bucket of %d bytes was sealed", len(b))
		}
	}
}

// Names under one folder share the sealed folder: the tree stays a tree.
func TestNamesKeepPrefixes(t *testing.T) {
	k := testKeys(t)
	a, err := k.SealName("b", "photos/2026/a.jpg")
	if err != nil {
		t.Fatal(err)
	}
	b, err := k.SealName("b", "photos/2026/b.jpg")
	if err != nil {
		t.Fatal(err)
	}
	c, err := k.SealName("b", "2026/photos/a.jpg")
	if err != nil {
		t.Fatal(err)
	}
	dir := func(s string) string { return s[:strings.LastIndexByte(s, '/')] }
	if dir(a) != dir(b) || a == b {
		t.Error("names of one folder are in different sealed folders")
	}
	for s := range strings.SplitSeq(c, "/") {
		if strings.Contains(a, s) {
			t.Error("a segment looks the same elsewhere in the tree")
		}
	}
}

// An envelope opens under its bucket and key only, and keeps all it was given.
func TestEnvelope(t *testing.T) {
	k := testKeys(t)
	o, err := NewObjectKey(k, Options{Footer: true})
	if err != nil {
		t.Fatal(err)
	}
	e := Envelope{Object: o.ID(), Generation: 1 << 60, Header: o.Header(), Deleted: true, Replaced: true,
		Headers: map[string]string{"content-type": "a/b"}, Meta: map[string]string{"x": "\x00\xff"}, Tags: map[string]string{"": ""}}
	for _, key := range []string{"k", strings.Repeat("long", 256)} {
		s, err := k.SealEnvelope("b", key, e)
		if err != nil {
			t.Fatal(err)
		}
		got, err := k.OpenEnvelope("b", key, s)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(e) {
			t.Errorf("got %+v, %v", got, err)
		}
		for _, other := range [][2]string{{"b", key + "x"}, {"c", key}, {"", "b" + key}, {"b" + key[:1], key[1:]}} {
			if other[1] == "" {
				continue
			}
			if _, err := k.OpenEnvelope(other[0], other[1], s); err == nil {
				t.Errorf("opened as %.10q", other)
			}
		}
		if again, err := k.SealEnvelope("b", key, e); err != nil || again == s {
			t.Errorf("two envelopes are equal: %v", err)
		}
	}
	e.Meta = map[string]string{"x": strings.Repeat("y", 2000)}
	if _, err := k.SealEnvelope("b", "k", e); !errors.Is(err, ErrTooLarge) {
		t.Errorf("2000 bytes of metadata: got %v", err)
	}
	e.Header = []byte("short")
	if _, err := k.SealEnvelope("b", "k", e); err == nil {
		t.Error("a header of 5 bytes was sealed")
	}
}
