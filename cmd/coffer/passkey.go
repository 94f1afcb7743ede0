package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"coffer/internal/config"
	"coffer/internal/durable"
	"coffer/keyring"
	"coffer/upstream"
)

// passkeyUsage is the help of --passkey.
const passkeyUsage = "the key comes from a passkey, later, on the local page: set this machine up locked"

// webListen is where the page of a machine is that is unlocked on it.
const webListen = "127.0.0.1:9921"

// passkeyShown is a passkey in the answers of "passkey list" and "status". The
// backup key is wrapped by what only the authenticator can compute.
type passkeyShown struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
}

func (a *app) passkeyCommand() *cobra.Command {
	cmd := a.group("passkey", "Care for the passkeys that open the backup")
	cmd.Long = "A passkey is added, and used, on the local page (coffer web, Protection): only a browser can ask an authenticator."
	cmd.AddCommand(
		&cobra.Command{
			Use: "list", Short: "List the passkeys", Args: atMost(0, "passkey list takes none"),
			RunE: func(cmd *cobra.Command, _ []string) error { return a.passkeyList(cmd.Context()) },
		},
		&cobra.Command{
			Use: "remove ID", Short: "Remove a passkey: it opens the backup no more", Args: exactly(1, "passkey remove takes ID"),
			Long: "remove deletes what the passkey opens, in the store and here. Copies that somebody made of it, and what the storage\n" +
				"keeps of deleted objects, it does not reach: if the authenticator is in wrong hands, \"coffer rekey\" ends its power.",
			RunE: func(cmd *cobra.Command, args []string) error { return a.passkeyRemove(cmd.Context(), args[0]) },
		})
	return cmd
}

// passkeys are those of this machine's store.
func (a *app) passkeys(ctx context.Context) (k keyring.Passkeys, all []keyring.Passkey, err error) {
	u, err := a.load()
	if err != nil {
		return k, nil, err
	}
	ring, err := keyring.Load(u.StateDir)
	if err != nil {
		return k, nil, err
	}
	b, err := a.openStore(ctx, u)
	if err != nil {
		return k, nil, err
	}
	k = passkeysIn(b, u.StateDir, ring.Profile())
	all, err = k.List(ctx)
	return k, all, err
}

// passkeysIn are those of a store, and their copies on this machine.
func passkeysIn(b upstream.Bucket, stateDir string, p keyring.Profile) keyring.Passkeys {
	return keyring.Passkeys{Dir: stateDir, Profile: p, In: keyring.Objects{In: b}}
}

func showPasskeys(all []keyring.Passkey) []passkeyShown {
	list := []passkeyShown{}
	for _, p := range all {
		list = append(list, passkeyShown{p.ID(), p.Name, p.Created})
	}
	return list
}

func (a *app) passkeyList(ctx context.Context) error {
	_, all, err := a.passkeys(ctx)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(showPasskeys(all))
	}
	if len(all) == 0 {
		a.say(`There is no passkey. One is added on the local page: "coffer web", Protection.`)
	}
	t := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	for _, p := range all {
		fmt.Fprintf(t, "%s\t%s\t%s\n", p.ID(), p.Created.Local().Format(time.DateTime), printable(p.Name))
	}
	return t.Flush()
}

func (a *app) passkeyRemove(ctx context.Context, id string) error {
	k, all, err := a.passkeys(ctx)
	if err != nil {
		return err
	}
	for _, p := range all {
		if p.ID() == id {
			if err := k.Remove(ctx, p); err != nil {
				return err
			}
			a.say("The passkey %q opens this backup no more. On the authenticator it can be deleted, too.", printable(p.Name))
			return nil
		}
	}
	return hint(usagef("there is no passkey %q", id), `"coffer passkey list" shows their ids`)
}

// passkeysHere are the copies of this machine, which the status shows.
func passkeysHere(stateDir string, p keyring.Profile) ([]passkeyShown, error) {
	all, err := keyring.Passkeys{Dir: stateDir, Profile: p}.Here()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return showPasskeys(all), nil
}

// recoverByPasskey sets this machine up without the key: the page of the daemon
// gets it from the passkey.
func (a *app) recoverByPasskey(ctx context.Context, b upstream.Bucket, p keyring.Profile, written, u *config.User, known bool) error {
	all, err := passkeysIn(b, u.StateDir, p).List(ctx)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return hint(errors.New("no passkey opens this store"), "the 64 digits do (--digits-file), or the password where a vault keeps the key")
	}
	if err := durable.MkdirAll(u.StateDir, 0o700); err != nil {
		return err
	}
	if err := keyring.SaveProfile(u.StateDir, p); err != nil {
		return err
	}
	if !known {
		written.Web.Listen = webListen
		if err := a.settle(ctx, p, written, u); err != nil || a.json {
			return err
		}
	} else if a.json {
		return a.printJSON(setUp{a.configFile, u.StateDir, p.Store, p.KeyID, p.Methods})
	}
	a.say("It is locked, and %s can unlock it:", count(len(all), "passkey"))
	for _, k := range all {
		a.say("  %s, made %s", printable(k.Name), k.Created.Local().Format(time.DateOnly))
	}
	a.say(`Next: start the daemon ("systemctl --user enable --now coffer" or "cofferd"), then "coffer web": under Protection
the passkey unlocks, under Snapshots you look and restore. The key is in the daemon's memory only: it asks again
after each start, and commands such as "coffer restore" need the digits or the password.`)
	return nil
}
