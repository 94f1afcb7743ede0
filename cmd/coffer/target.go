package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"coffer/internal/config"
	"coffer/internal/durable"
	"coffer/keyring"
	"coffer/upstream"
)

func (a *app) targetCommand() *cobra.Command {
	cmd := a.group("target", "Say where the backups lie: in one place, or in several that mirror each other")
	var w where
	add := &cobra.Command{
		Use: "add NAME --upstream WHERE", Short: "Keep the backups in another place, too",
		Long: "add makes another folder or bucket a mirror: it gets a copy of everything, and whatever is backed up from\n" +
			"then on. One that is away for a time gets what it missed when it is back.",
		Example: "  coffer target add usb --upstream folder:/media/usb/backup; coffer check --mirrors",
		Args:    exactly(1, "target add takes NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := required(cmd, "upstream"); err != nil {
				return err
			}
			return a.targetAdd(cmd.Context(), args[0], &w)
		},
	}
	w.flags(add)
	cmd.AddCommand(add,
		&cobra.Command{
			Use: "list", Short: "List where the backups lie", Args: atMost(0, "target list takes none"),
			RunE: func(*cobra.Command, []string) error { return a.targetList() },
		},
		&cobra.Command{
			Use: "remove NAME", Short: "Use a place no more; what lies there stays", Args: exactly(1, "target remove takes NAME"),
			RunE: func(cmd *cobra.Command, args []string) error { return a.targetRemove(cmd.Context(), args[0]) },
		},
		&cobra.Command{
			Use: "test [NAME]...", Short: "Write, read and delete an object, and compare the clocks",
			RunE: func(cmd *cobra.Command, args []string) error { return a.targetTest(cmd.Context(), args) },
		})
	return cmd
}

func (a *app) targetAdd(ctx context.Context, name string, w *where) error {
	u, err := a.load()
	if err != nil {
		return err
	}
	if findTarget(u, name) >= 0 {
		return hint(fmt.Errorf("there is an upstream %q already", name), `"coffer target list" lists them`)
	}
	ring, err := keyring.Load(u.StateDir)
	if err != nil {
		return err
	}
	up, err := w.parse()
	if err != nil {
		return err
	}
	up.Name = name
	next := *u
	next.Upstreams = append(slices.Clone(u.Upstreams), up)
	if _, err := complete(&next); err != nil { // a name that cannot be one
		return err
	}
	b, err := openUpstream(ctx, up, nil, true)
	if err != nil {
		return err
	}
	if err := markTarget(ctx, b, ring.Profile()); err != nil {
		return fmt.Errorf("upstream %s: %w", name, err)
	}
	if err := keepS3Keys(&up, u.StateDir); err != nil {
		return err
	}
	var names []string
	for _, up := range next.Upstreams {
		names = append(names, up.Name)
	}
	j, err := upstream.OpenJournal(filepath.Join(u.StateDir, journalName), names)
	if err == nil {
		err = j.MissedAll(len(names) - 1)
	}
	if err != nil {
		return err
	}
	if err := config.Add(a.configFile, &config.User{Upstreams: []config.Upstream{up}}); err != nil {
		return err
	}
	a.say(`%s is a mirror from now on. The daemon copies there what is missing; so does "coffer check --mirrors", now.`, name)
	return a.applied(ctx, u)
}

// markTarget makes the storage one of the store of p; it refuses that of another.
func markTarget(ctx context.Context, b upstream.Bucket, p keyring.Profile) error {
	found, err := keyring.LoadProfile(ctx, inBucket(b))
	if errors.Is(err, keyring.ErrNoStore) {
		return keyring.CreateProfile(ctx, inBucket(b), p)
	}
	if err == nil && found.Store != p.Store {
		err = hint(fmt.Errorf("it has the backups of another store: %s", describe(found)), "another prefix or folder is free")
	}
	return err
}

func findTarget(u *config.User, name string) int {
	return slices.IndexFunc(u.Upstreams, func(o config.Upstream) bool { return o.Name == name })
}

func noTarget(name string) error {
	return hint(usagef("there is no upstream %q", name), `"coffer target list" lists them`)
}

// target is one line of "target list --json".
type target struct {
	Name    string `json:"name"`
	Address string `json:"address"`
}

func (a *app) targetList() error {
	u, err := a.load()
	if err != nil {
		return err
	}
	list := []target{}
	for _, up := range u.Upstreams {
		list = append(list, target{up.Name, upstreamName(up)})
	}
	if a.json {
		return a.printJSON(list)
	}
	t := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	for _, l := range list {
		fmt.Fprintf(t, "%s\t%s\n", l.Name, printable(l.Address))
	}
	return t.Flush()
}

func (a *app) targetRemove(ctx context.Context, name string) error {
	u, err := a.load()
	if err != nil {
		return err
	}
	i := findTarget(u, name)
	if i < 0 {
		return noTarget(name)
	}
	if len(u.Upstreams) == 1 {
		return hint(usagef("%q is the only upstream", name), `"coffer target add" adds another one first`)
	}
	if err := config.Remove(a.configFile, "upstream", i); err != nil {
		return err
	}
	a.say("%s is used no more. What lies there stays: %s", name, printable(upstreamName(u.Upstreams[i])))
	return a.applied(ctx, u)
}

// tested is one line of "target test --json".
type tested struct {
	Name  string        `json:"name"`
	Took  time.Duration `json:"took"` // ns
	Skew  time.Duration `json:"skew"` // ns by which its clock is ahead, give or take a second; an object's time shows it
	Error string        `json:"error,omitempty"`
}

func (a *app) targetTest(ctx context.Context, names []string) error {
	u, err := a.load()
	if err != nil {
		return err
	}
	chosen := u.Upstreams
	if len(names) > 0 {
		chosen = nil
	}
	for _, name := range names {
		i := findTarget(u, name)
		if i < 0 {
			return noTarget(name)
		}
		chosen = append(chosen, u.Upstreams[i])
	}
	results := []tested{}
	var failed error
	for _, up := range chosen {
		r, err := testTarget(ctx, up)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("upstream %s: %w", up.Name, err))
		}
		results = append(results, r)
		if err == nil && !a.json {
			fmt.Fprintf(a.out, "%s: writes, reads and deletes, in %v; clock skew %v\n", r.Name, r.Took.Round(time.Millisecond), r.Skew.Round(100*time.Millisecond))
		}
	}
	if a.json {
		if err := a.printJSON(results); err != nil {
			return err
		}
	}
	return failed
}

// testTarget writes a small object, reads it back and deletes it.
func testTarget(ctx context.Context, up config.Upstream) (tested, error) {
	r := tested{Name: up.Name}
	began := time.Now()
	err := func() error {
		b, err := openUpstream(ctx, up, nil, false)
		if err != nil {
			return err
		}
		name, body := "coffer-test/"+rand.Text(), []byte(rand.Text())
		before := time.Now()
		if _, err := b.Put(ctx, name, bytes.NewReader(body), int64(len(body)), upstream.PutOptions{}); err != nil {
			return err
		}
		at := before.Add(time.Since(before) / 2)
		got, info, err := b.Get(ctx, name, 0, -1)
		if err == nil {
			var back []byte
			back, err = io.ReadAll(io.LimitReader(got, maxSecretFile))
			err = errors.Join(err, got.Close())
			if err == nil && !bytes.Equal(back, body) {
				err = fmt.Errorf("%s is not what was written: %w", name, upstream.ErrDamaged)
			}
			if d := info.ModTime.Sub(at); d.Abs() > time.Second { // S3 tells whole seconds
				r.Skew = d
			}
		}
		return errors.Join(err, b.Delete(ctx, name))
	}()
	r.Took = time.Since(began)
	if err != nil {
		r.Error = err.Error()
	}
	return r, err
}

// targetKeyFile is where the S3 key of an upstream is kept.
func targetKeyFile(stateDir, name, what string) string {
	if name == "s3" {
		return filepath.Join(stateDir, "s3-"+what)
	}
	return filepath.Join(stateDir, "s3-"+name+"-"+what)
}

// writeKey keeps one line that only the owner may read.
func writeKey(file, text string) error { return durable.WriteFile(file, []byte(text+"\n"), 0o600) }
