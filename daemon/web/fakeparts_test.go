package web

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"coffer/backup"
	"coffer/daemon"
)

// fakePasskeys opens with the secret that was given with a passkey.
type fakePasskeys struct {
	daemon *fakeDaemon

	mu      sync.Mutex
	all     []Passkey
	secrets map[string][32]byte
	err     error // of the next Add
}

func (k *fakePasskeys) List(context.Context) ([]Passkey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.all), nil
}

func (k *fakePasskeys) Add(_ context.Context, p Passkey, secret [32]byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return k.err
	}
	if k.daemon.Status().Locked {
		return daemon.ErrLocked
	}
	p.ID, p.Created = hex.EncodeToString(p.Credential[:min(16, len(p.Credential))]), time.Now()
	k.all, k.secrets[p.ID] = append(k.all, p), secret
	return nil
}

func (k *fakePasskeys) Remove(_ context.Context, id string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := len(k.all)
	if k.all = slices.DeleteFunc(k.all, func(p Passkey) bool { return p.ID == id }); len(k.all) == n {
		return ErrPasskey
	}
	delete(k.secrets, id)
	return nil
}

func (k *fakePasskeys) Unlock(_ context.Context, id string, secret [32]byte) error {
	k.mu.Lock()
	want, ok := k.secrets[id]
	k.mu.Unlock()
	if !ok || want != secret {
		return ErrPasskey
	}
	k.daemon.change(func(s *daemon.Status) { s.Locked = false }, daemon.Event{Kind: daemon.Unlocked})
	return nil
}

func someVault(context.Context) (Vault, error) {
	return Vault{Name: "home-vault", Registered: true, Left: 8, Budget: 10, Failed: 2, LastFailed: time.Now().Add(-5 * time.Hour), Nodes: []VaultNode{
		{Name: "attic", Operator: "Anna", HSM: "SoftHSM, software", Holds: true, Took: 4 * time.Millisecond},
		{Name: "cellar", Operator: "Bert " + bidiName, HSM: "Nitrokey HSM 2", Holds: true, Err: errors.New("connection refused")},
		{Name: "garden", Operator: "Cleo", Took: 31 * time.Millisecond},
	}}, nil
}

func someBuckets(_ context.Context, limit int) ([]GatewayBucket, error) {
	all := []GatewayBucket{
		{Name: "archive", Created: time.Now().Add(-400 * time.Hour), Versioning: "Enabled", Lock: true}, {Name: "photos", Created: time.Now().Add(-90 * time.Hour), Versioning: "Enabled"},
		{Name: "notes", Created: time.Now().Add(-time.Hour)},
	}
	return all[:min(limit, len(all))], nil
}

func someFindings(context.Context) ([]Finding, error) {
	return []Finding{
		{Check: "config", State: "ok", Text: "/home/anna/.config/coffer/coffer.toml is right"},
		{Check: "upstream", State: "failed", Text: "cloud: connection refused", Fix: "coffer target test cloud"},
		{Check: "recovery", State: "warning", Text: "the key has one way back: " + evilName, Fix: "coffer recovery sheet"},
	}, nil
}

// Diff tells of one of each kind, whatever the snapshots are.
func (r *fakeRepo) Diff(_ context.Context, from, to *backup.Snapshot, name string, fn func(backup.Change) error) error {
	if from.Source != to.Source || !from.Time.Before(to.Time) {
		return fmt.Errorf("%s and %s are compared", from.ID, to.ID)
	}
	entry := func(path string) *backup.Entry { e := r.tree[path]; return &e }
	old := entry("/Projects/notes.md")
	old.Size /= 3
	for _, c := range []backup.Change{
		{Path: "/Letters/" + evilName, Kind: "added", New: entry("/Letters/" + evilName)},
		{Path: "/Letters/to-grandma.txt", Kind: "removed", Old: entry("/Letters/to-grandma.txt")},
		{Path: "/Projects", Kind: "metadata", Old: entry("/Projects"), New: entry("/Projects")},
		{Path: "/Projects/notes.md", Kind: "content", Old: old, New: entry("/Projects/notes.md")},
		{Path: "/Projects/latest", Kind: "type", Old: entry("/Projects/thesis.pdf"), New: entry("/Projects/latest")},
	} {
		if err := fn(c); err != nil {
			return err
		}
	}
	for i := range r.changes {
		if err := fn(backup.Change{Path: fmt.Sprintf("/many/%d", i), Kind: "added", New: entry("/Projects/notes.md")}); err != nil {
			return err
		}
	}
	return nil
}
