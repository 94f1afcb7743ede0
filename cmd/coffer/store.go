package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"coffer/backup"
	"coffer/internal/config"
	"coffer/keyring"
	"coffer/upstream"
)

// load reads the configuration.
func (a *app) load() (*config.User, error) {
	u, err := config.LoadUser(a.configFile)
	return u, notSetUp(err)
}

// openUpstream connects to the storage; create makes an S3 bucket that is not there.
// limits may be nil.
func openUpstream(ctx context.Context, u config.Upstream, limits *upstream.Limits, create bool) (upstream.Bucket, error) {
	c := upstream.FromConfig(u, limits)
	c.Create = create
	return openConfig(ctx, u, c)
}

func openConfig(ctx context.Context, u config.Upstream, c upstream.Config) (upstream.Bucket, error) {
	b, err := upstream.Open(ctx, c)
	if err != nil {
		err = fmt.Errorf("upstream %s: %w", u.Name, err)
		if _, tip := explain(err); tip != "" {
			return nil, err
		}
		if u.Type == "folder" && errors.Is(err, fs.ErrNotExist) {
			return nil, hint(fmt.Errorf("upstream %s: %w: %w", u.Name, keyring.ErrNoStore, errors.Unwrap(err)), `is its disk mounted? "coffer setup" begins a store`)
		}
		if u.Type == "folder" {
			return nil, hint(err, "is it mounted, and may you write there?")
		}
		return nil, hint(err, "check the address and the keys: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or --s3-access-key-file and --s3-secret-key-file")
	}
	return b, nil
}

// shared is the Config of one of the machine's upstreams. Its requests are counted
// together with those of the daemon.
func shared(u *config.User, up config.Upstream, limits *upstream.Limits) (upstream.Config, error) {
	c := upstream.FromConfig(up, limits)
	var err error
	if up.Type == "s3" {
		c.Tally, err = upstream.OpenTally(tallies(u), up.Name)
	}
	return c, err
}

// tallies is the folder that counts the requests to S3.
func tallies(u *config.User) string { return filepath.Join(u.StateDir, "requests") }

// limitsOf are those of the configuration, for all upstreams of this process.
func limitsOf(u *config.User) *upstream.Limits {
	limits := upstream.NewLimits()
	limits.Set(upstream.Windows(u.Limits))
	return limits
}

// openRepo opens the repository of the machine; its key must be there.
func (a *app) openRepo(ctx context.Context) (*config.User, *backup.Repo, error) {
	u, err := a.load()
	if err != nil {
		return nil, nil, err
	}
	ring, err := keyring.Load(u.StateDir)
	if err != nil {
		return nil, nil, err
	}
	keys, err := ring.Keys()
	if err != nil {
		return nil, nil, err
	}
	b, err := a.openStore(ctx, u)
	if err != nil {
		return nil, nil, err
	}
	r, err := backup.Open(ctx, backup.Config{Bucket: b, Keys: keys, CacheDir: u.CacheDir})
	if errors.Is(err, backup.ErrNotExist) {
		err = fmt.Errorf("upstream %s (%w): %w", u.Upstreams[0].Name, err, keyring.ErrNoStore)
	}
	if err != nil {
		return nil, nil, err
	}
	return u, r, nil
}

// profileBucket is an upstream as the keyring needs it, with what to do when
// another machine was there first.
type profileBucket struct{ keyring.Objects }

func inBucket(b upstream.Bucket) profileBucket { return profileBucket{keyring.Objects{In: b}} }

// Replace implements [keyring.Replacer].
func (p profileBucket) Replace(ctx context.Context, name string, old, data []byte) error {
	err := p.Objects.Replace(ctx, name, old, data)
	if errors.Is(err, upstream.ErrExists) {
		err = hint(err, "try again")
	}
	return err
}

// initRepo makes the repository, or finds that it is there.
func initRepo(ctx context.Context, b upstream.Bucket, ring *keyring.Ring) error {
	keys, err := ring.Keys()
	if err != nil {
		return err
	}
	if err := backup.Init(ctx, backup.Config{Bucket: b, Keys: keys}); err != nil && !errors.Is(err, backup.ErrExists) {
		return fmt.Errorf("making the repository: %w", err)
	}
	return nil
}
