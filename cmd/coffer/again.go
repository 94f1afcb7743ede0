package main

import (
	"context"
	"errors"

	"coffer/keyring"
	"coffer/seal"
	"coffer/vault"
)

// newPassword says where the password comes from that is to protect a key.
type newPassword struct {
	file     string // "": the terminal
	again    bool   // the owner says that the account never had the one in file
	personal []string
	had      func(password string) bool // on this machine; nil: nothing is known
}

// againUsage is the help of the flag for newPassword.again.
const againUsage = "after the vault destroyed the account's key: the password in --password-file is one that it never had"

// errHad is the refusal of a password that cannot follow a destruction.
var errHad = errors.New("that password was this account's before its key was destroyed")

// entrust gives the key to the vault, and returns the password too. If the vault has
// destroyed the account's key it takes another password only: whoever has used up
// the guesses would get as many again at the old one.
func (a *app) entrust(ctx context.Context, c vaultClient, key seal.Key, n newPassword) (string, vault.Registration, error) {
	password, err := a.newPassword(ctx, n.file, n.personal)
	if err != nil {
		return "", vault.Registration{}, err
	}
	r, err := keyring.Protect(ctx, c, password, key, n.personal...)
	if !errors.Is(err, vault.ErrDestroyed) {
		return password, r, err
	}
	if n.file != "" && !n.again {
		return "", r, hint(err, "choose a password that this account never had, and say so: --again; whoever used up the guesses would get as many again at an old one")
	}
	had := func(p string) bool { return n.had != nil && n.had(p) }
	if n.file == "" {
		first := password
		a.say("The vault has destroyed the key of this account: somebody used up the guesses. To begin anew choose another\n" +
			"password, one that the account never had: else the same guesser would get as many guesses again.")
		if password, err = a.newPassword(ctx, "", n.personal); err != nil {
			return "", r, err
		}
		if password == first {
			return "", r, errHad
		}
	}
	if had(password) {
		return "", r, errHad
	}
	r, err = keyring.ProtectAgain(ctx, c, password, key, n.personal...)
	return password, r, err
}
