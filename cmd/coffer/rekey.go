package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"coffer/backup"
	"coffer/daemon"
	"coffer/internal/config"
	"coffer/internal/human"
	"coffer/keyring"
	"coffer/proxy"
	"coffer/seal"
	"coffer/upstream"
)

func (a *app) rekeyCommand() *cobra.Command {
	var p protection
	cmd := &cobra.Command{
		Use:   "rekey",
		Short: "Give the store a new backup key, when somebody may have the old one",
		Long: "rekey makes a new backup key, has you keep it in the ways that the old one is kept, and then encrypts what\n" +
			"is stored anew. It goes on when it is run again after an interruption: with the new key everything can be\n" +
			"opened at any time, here or after \"coffer recover\" on another machine, by finishing the rekey first.\n\n" +
			"Snapshots are read and written again, each object with keys of its own, so the old key opens nothing of what\n" +
			"the store holds from then on. Of what S3 programs have stored only keys and names are encrypted anew, and no\n" +
			"data moves. Who has the old key still opens what he copied before, what the storage keeps of old versions\n" +
			"(versioned buckets, object lock), and of S3 objects those whose old beginning he has kept.\n\n" +
			"Stop the daemons of all machines first. The others get the new key by \"coffer recover\"; passkeys are removed\n" +
			"and must be added again; recovery sheets must be printed anew.",
		Example: "  systemctl --user stop coffer; coffer rekey --digits-file new-digits",
		Args:    atMost(0, "rekey takes flags only"),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.rekey(cmd.Context(), &p) },
	}
	f := cmd.Flags()
	f.StringVar(&p.digitsFile, "digits-file", "", "file to write the new 64 digits to; it must not exist")
	f.StringVar(&p.passwordFile, "password-file", "", "file with the password for the vault; - is standard input, none asks on the terminal")
	f.BoolVar(&p.again, "again", false, againUsage)
	return cmd
}

// rekeyed is the answer of "rekey".
type rekeyed struct {
	Store      seal.StoreID       `json:"store"`  // 32 hex digits
	KeyID      string             `json:"key_id"` // of the new key, 16 hex digits, public
	Methods    []keyring.Method   `json:"methods"`
	Repository backup.RekeyReport `json:"repository"`
	Gateway    proxy.RewrapReport `json:"gateway"`
}

func (a *app) rekey(ctx context.Context, p *protection) error {
	u, err := a.load()
	if err != nil {
		return err
	}
	if _, err := daemon.NewClient(u.Control).Status(ctx); !errors.Is(err, daemon.ErrNotRunning) {
		return hint(errors.Join(errors.New("the daemon runs, and would go on with the old key"), err), `stop it, on other machines too: "systemctl --user stop coffer"`)
	}
	b, err := a.openStore(ctx, u)
	if err != nil {
		return err
	}
	profile, err := keyring.LoadProfile(ctx, inBucket(b))
	if err != nil {
		return err
	}
	before, key, profile, err := a.nextKey(ctx, u, b, profile, p)
	if err != nil {
		return err
	}
	answer := rekeyed{Store: profile.Store, KeyID: profile.KeyID, Methods: profile.Methods}
	if err := a.sealAnew(ctx, u, b, before.Keys(profile.Store), key.Keys(profile.Store), &answer); err != nil {
		return hint(err, `the new key is in force; "coffer rekey" again goes on`)
	}
	if a.json {
		return a.printJSON(answer)
	}
	foreign := append(answer.Repository.Foreign, answer.Gateway.Foreign...)
	for _, name := range foreign {
		a.warn("warning", name, "neither key opens it: it was left as it is")
	}
	_, err = fmt.Fprintf(a.out, "The store has a new key. Encrypted anew: %s, %s; keys of S3 objects: %d\n",
		count(answer.Repository.Objects, "object"), human.Size(answer.Repository.Bytes), answer.Gateway.Objects)
	old := "Destroy the old digits"
	if len(foreign) > 0 {
		old = "Keep the old digits, those of earlier keys, too: what was left may need them"
	}
	a.say("Other machines need it: \"coffer recover\" there. %s, and print the recovery sheet anew.", old)
	return err
}

// nextKey returns the key of the store until now and the one from now on, which is
// the store's when it returns: it begins, or finds out how far an earlier run came.
// Only a machine that did not begin it needs the link, which storage may have lost.
func (a *app) nextKey(ctx context.Context, u *config.User, b upstream.Bucket, profile keyring.Profile, p *protection) (before, next seal.Key, _ keyring.Profile, err error) {
	next, replaced, err := keyring.NextKey(u.StateDir)
	inForce := err == nil && profile.Verify(next.Keys(profile.Store)) == nil
	if inForce { // perhaps not this machine's yet
		if err := keyring.Save(u.StateDir, profile, next); err != nil {
			return before, next, profile, err
		}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return before, next, profile, err
	}
	ring, err := keyring.Load(u.StateDir)
	if err != nil {
		return before, next, profile, err
	}
	key, err := ring.Key()
	if err != nil {
		return before, next, profile, err
	}
	if ring.From() != "file" {
		return before, next, profile, hint(errors.New("the key of this machine is a credential of systemd, which coffer cannot replace"), `run rekey where the key is a file, and give the new one to systemd`)
	}
	if err := profile.Verify(key.Keys(profile.Store)); err != nil {
		return before, next, profile, hint(err, `if another machine gave the store a new key: "coffer recover" gets it`)
	}
	before = replaced
	if !inForce {
		before, err = keyring.LoadLink(ctx, inBucket(b), key.Keys(profile.Store))
	}
	if err == nil {
		a.say("Going on with the rekey that was begun.")
		return before, key, profile, nil
	}
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, seal.ErrKey) {
		return before, next, profile, err
	}
	next, profile, err = a.beginRekey(ctx, u, b, profile, key, p)
	return key, next, profile, err
}

// beginRekey has the owner keep a new key, and makes it the store's.
func (a *app) beginRekey(ctx context.Context, u *config.User, b upstream.Bucket, profile keyring.Profile, key seal.Key, p *protection) (seal.Key, keyring.Profile, error) {
	if err := a.canKeep(u, profile, p); err != nil {
		return key, profile, err
	}
	next, err := keyring.MakeNext(u.StateDir, key)
	if err != nil {
		return key, profile, err
	}
	keys := next.Keys(profile.Store)
	link := keyring.Link(keys, key)
	if _, err := b.Put(ctx, keyring.LinkName, bytes.NewReader(link), int64(len(link)), upstream.PutOptions{}); err != nil {
		return key, profile, fmt.Errorf("writing %s: %w", keyring.LinkName, err)
	}
	var methods []keyring.Method
	for _, m := range profile.Methods {
		if m.Kind == keyring.MethodPassword {
			m, err = a.protectByPassword(ctx, u.Vault, u, p, next)
		} else {
			m, err = a.keepDigits(ctx, p.digitsFile, next)
		}
		if err != nil {
			return key, profile, err
		}
		methods = append(methods, m)
	}
	renewed, err := profile.Rekeyed(key.Keys(profile.Store), next, methods...)
	if err != nil {
		return key, profile, err
	}
	if err := inBucket(b).Replace(ctx, keyring.ProfileName, profile.Encode(), renewed.Encode()); err != nil {
		return key, profile, fmt.Errorf("writing %s: %w", keyring.ProfileName, err)
	}
	if err := keyring.Save(u.StateDir, renewed, next); err != nil {
		return key, profile, err
	}
	return next, renewed, p.remember(u.StateDir, keys)
}

// canKeep says what is missing to keep a new key as the old one is kept.
func (a *app) canKeep(u *config.User, profile keyring.Profile, p *protection) error {
	for _, m := range profile.Methods {
		switch {
		case a.interactive():
		case m.Kind == keyring.MethodPassword && u.Vault.Fleet == "":
			return hint(errors.New("the key is kept by a password, and this machine does not know the vault"), "run rekey on the machine that does")
		case m.Kind == keyring.MethodPassword && p.passwordFile == "":
			return hint(usagef("missing --password-file: the key is kept by a password"), "it may be the same password; there is no terminal to ask on")
		case m.Kind != keyring.MethodPassword && p.digitsFile == "":
			return hint(usagef("missing --digits-file: the key is kept by its 64 digits"), "it is the file to write the new ones to; there is no terminal to show them on")
		}
	}
	return nil
}

// keepDigits is protectByDigits, but takes a file that an earlier run has written, and
// replaces one that it had begun to write.
func (a *app) keepDigits(ctx context.Context, file string, key seal.Key) (keyring.Method, error) {
	if raw, err := readFile(file, maxSecretFile); file != "" && err == nil {
		text := keyring.Digits(key) + "\n"
		if string(raw) == text {
			return keyring.Method{Kind: keyring.MethodDigits, Since: time.Now().UTC().Truncate(time.Second)}, nil
		}
		if strings.HasPrefix(text, string(raw)) {
			if err := os.Remove(file); err != nil {
				return keyring.Method{}, fmt.Errorf("writing the digits: %w", err)
			}
		}
	}
	return a.protectByDigits(ctx, file, key)
}

// sealAnew seals all that the store holds under the new key, then forgets the old one.
func (a *app) sealAnew(ctx context.Context, u *config.User, b upstream.Bucket, from, to *seal.Keys, answer *rekeyed) (err error) {
	m := a.meter("rekey")
	answer.Repository, err = backup.Rekey(ctx, b, from, to, m.update)
	m.stop()
	if err != nil {
		return err
	}
	if answer.Gateway, err = proxy.Rekey(ctx, b, u.Gateway.Names, from, to); err != nil {
		return err
	}
	// The gateway builds its index anew; its unfinished uploads are sealed under the old key.
	if err := os.RemoveAll(filepath.Join(u.StateDir, "gateway")); err != nil {
		return err
	}
	var passkeys []string // they open the old key
	err = b.List(ctx, keyring.PasskeyPrefix, "", func(i upstream.Info) error { passkeys = append(passkeys, i.Name); return nil })
	for _, name := range passkeys {
		err = errors.Join(err, b.Delete(ctx, name))
	}
	if err = errors.Join(err, os.RemoveAll(filepath.Join(u.StateDir, "passkeys"))); err != nil {
		return fmt.Errorf("removing passkeys: %w", err)
	}
	if len(passkeys) > 0 {
		a.say("Passkeys opened the old key and were removed: %d. The local page adds new ones.", len(passkeys))
	}
	// A link that begins at another key is of a machine that has begun the next rekey.
	if _, err := keyring.LoadLink(ctx, inBucket(b), to); !errors.Is(err, seal.ErrKey) {
		if err := b.Delete(ctx, keyring.LinkName); err != nil {
			return fmt.Errorf("removing %s: %w", keyring.LinkName, err)
		}
	}
	return keyring.ForgetNext(u.StateDir)
}
