package keyring

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"coffer/seal"
)

// ProfileName is the name of the profile in the store.
const ProfileName = "coffer.json"

// maxProfile bounds a profile, in bytes.
const maxProfile = 64 << 10

const (
	profileFormat  = "coffer store"
	profileVersion = 1
)

var (
	// ErrNoStore means that there is no profile: the store is not coffer's, or
	// this machine is not set up.
	ErrNoStore = errors.New("no coffer store")
	// ErrStoreExists means that the store has a profile already.
	ErrStoreExists = errors.New("the store has backups already")
	// ErrProfile means that the profile is malformed, or was changed by somebody
	// who does not have the backup key.
	ErrProfile = errors.New("the profile of the store is not as it was written")
	// ErrVersion means that a newer coffer wrote the profile.
	ErrVersion = errors.New("the store was made by a newer coffer")
)

// Profile is the public description of a store: which key it needs and how its
// owner gets it. Everybody who sees the store can read it; only who has the
// backup key can change it unnoticed.
type Profile struct {
	Format  string       `json:"format"` // "coffer store"
	Version int          `json:"version"`
	Store   seal.StoreID `json:"store"`
	KeyID   string       `json:"key_id"` // 16 hex digits
	Created time.Time    `json:"created"`
	Host    string       `json:"host"`    // that set the store up
	Methods []Method     `json:"methods"` // how the key was kept, oldest first
	MAC     string       `json:"mac"`     // of all the rest, under a key of the backup key; 64 hex digits
}

// Method is one way in which the owner keeps the backup key.
type Method struct {
	Kind  string    `json:"kind"` // "digits" or "password"
	Since time.Time `json:"since"`
	Fleet string    `json:"fleet,omitempty"` // password: name of the vault
}

// The kinds of Method.
const (
	MethodDigits   = "digits"
	MethodPassword = "password"
)

// Bucket is the store as a profile needs it. Errors wrap [fs.ErrNotExist] and
// [fs.ErrExist] where they mean that.
type Bucket interface {
	// Load returns the object name, or fails if it is longer than limit bytes.
	Load(ctx context.Context, name string, limit int64) ([]byte, error)
	// Create stores the object name; it fails if there is one.
	Create(ctx context.Context, name string, data []byte) error
}

// NewProfile describes a new store for key.
func NewProfile(key seal.Key, host string, now time.Time, methods ...Method) Profile {
	p := Profile{
		Format: profileFormat, Version: profileVersion, Store: seal.NewStoreID(), Created: now.UTC().Truncate(time.Second),
		Host: strings.ToValidUTF8(host, "?"), Methods: methods,
	}
	keys := key.Keys(p.Store)
	id := keys.ID()
	p.KeyID = hex.EncodeToString(id[:])
	p.MAC = hex.EncodeToString(p.mac(keys))
	return p
}

// WithMethod is p with a method that takes the place of the one of its kind, or
// comes last. The keys must be those of the store.
func (p Profile) WithMethod(keys *seal.Keys, m Method) (Profile, error) {
	if err := p.Verify(keys); err != nil {
		return Profile{}, err
	}
	p.Methods = slices.DeleteFunc(slices.Clone(p.Methods), func(o Method) bool { return o.Kind == m.Kind })
	p.Methods = append(p.Methods, m)
	p.MAC = hex.EncodeToString(p.mac(keys))
	return p, nil
}

// mac is computed over the JSON of p without its MAC.
func (p Profile) mac(keys *seal.Keys) []byte {
	p.MAC = ""
	b, err := json.Marshal(p)
	if err != nil {
		panic("keyring: internal error: " + err.Error())
	}
	key := keys.Derive("keyring profile v1")
	m := hmac.New(sha256.New, key[:])
	m.Write(b)
	return m.Sum(nil)
}

// Verify says whether keys are those of the store ([seal.ErrKey] if not) and the
// profile is as it was written ([ErrProfile] if not).
func (p Profile) Verify(keys *seal.Keys) error {
	if id := keys.ID(); keys.Store() != p.Store || p.KeyID != hex.EncodeToString(id[:]) {
		return fmt.Errorf("key id %x, not %s: %w", id, p.KeyID, seal.ErrKey)
	}
	if mac, err := hex.DecodeString(p.MAC); err != nil || !hmac.Equal(mac, p.mac(keys)) {
		return ErrProfile
	}
	return nil
}

// Encode returns p as it lies in the store.
func (p Profile) Encode() []byte {
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		panic("keyring: internal error: " + err.Error())
	}
	return append(b, '\n')
}

// ParseProfile reads what Encode wrote; anything else is [ErrProfile] or
// [ErrVersion]. It cannot tell who wrote it: see [Profile.Verify].
func ParseProfile(b []byte) (Profile, error) {
	var head struct {
		Format  string `json:"format"`
		Version int    `json:"version"`
	}
	if len(b) > maxProfile || json.Unmarshal(b, &head) != nil || head.Format != profileFormat {
		return Profile{}, fmt.Errorf("%s: %w", ProfileName, ErrProfile)
	}
	if head.Version != profileVersion {
		return Profile{}, fmt.Errorf("%s: version %d: %w", ProfileName, head.Version, ErrVersion)
	}
	var p Profile
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil || !bytes.Equal(p.Encode(), b) {
		return Profile{}, fmt.Errorf("%s (%v): %w", ProfileName, err, ErrProfile)
	}
	return p, nil
}

// LoadProfile reads the profile of a store; [ErrNoStore] if it has none.
func LoadProfile(ctx context.Context, b Bucket) (Profile, error) {
	raw, err := b.Load(ctx, ProfileName, maxProfile)
	if errors.Is(err, fs.ErrNotExist) {
		return Profile{}, ErrNoStore
	}
	if err != nil {
		return Profile{}, fmt.Errorf("reading %s: %w", ProfileName, err)
	}
	return ParseProfile(raw)
}

// Replacer is a [Bucket] whose objects can be replaced.
type Replacer interface {
	Bucket
	// Replace stores the object name in place of one whose content is old; if it
	// is another one, it fails and leaves that.
	Replace(ctx context.Context, name string, old, data []byte) error
}

// UpdateProfile puts a method into the profile of a store, where another machine
// may do the same at that time, and returns the new profile. What is there must
// be of the same store and as it was written.
func UpdateProfile(ctx context.Context, b Replacer, keys *seal.Keys, m Method) (Profile, error) {
	old, err := LoadProfile(ctx, b)
	if err != nil {
		return Profile{}, err
	}
	next, err := old.WithMethod(keys, m)
	if err != nil {
		return Profile{}, err
	}
	if err := b.Replace(ctx, ProfileName, old.Encode(), next.Encode()); err != nil {
		return Profile{}, fmt.Errorf("writing %s: %w", ProfileName, err)
	}
	return next, nil
}

// CreateProfile makes the store p's own; [ErrStoreExists] if it has a profile
// already. Of two that try at once, one wins.
func CreateProfile(ctx context.Context, b Bucket, p Profile) error {
	err := b.Create(ctx, ProfileName, p.Encode())
	if errors.Is(err, fs.ErrExist) {
		return ErrStoreExists
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", ProfileName, err)
	}
	return nil
}
