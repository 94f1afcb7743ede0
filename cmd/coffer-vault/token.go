package main

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"coffer/internal/config"
	"coffer/vault"
)

// auth is the configuration's way to tell whether a token speaks for an
// account; run, if not nil, keeps it up to date.
func auth(ctx context.Context, c *config.Vault, fleet vault.FleetID) (a vault.Auth, run func(context.Context) error, err error) {
	switch c.Auth.Mode {
	case "open":
		return vault.OpenAuth{}, nil, nil
	case "jwt":
		j, err := vault.NewJWTAuth(ctx, vault.JWTConfig{Fleet: fleet, Issuer: c.Auth.Issuer, Audience: c.Auth.Audience, JWKS: c.Auth.JWKSFile})
		if err != nil {
			return nil, nil, &exitError{err, exitConfig, "auth.jwks_file holds the issuer's public keys"}
		}
		return j, j.Run, nil
	default:
		keys, err := tokenKeys(c.Auth.KeyFile)
		if err != nil {
			return nil, nil, &exitError{err, exitConfig, `"coffer-vault token key" makes it; nodes need only the line that it prints`}
		}
		return vault.TokenAuth{Fleet: fleet, Keys: keys}, nil, nil
	}
}

// tokenKeys reads the public keys that tokens are accepted from: lines of 64 hex
// digits, or the private key itself where one machine does all.
func tokenKeys(file string) ([]ed25519.PublicKey, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the token key: %w", err)
	}
	if strings.Contains(string(b), "PRIVATE KEY") {
		key, err := readSigningKey(file)
		if err != nil {
			return nil, err
		}
		return []ed25519.PublicKey{key.Public().(ed25519.PublicKey)}, nil
	}
	var keys []ed25519.PublicKey
	for line := range strings.FieldsSeq(string(b)) {
		k, err := hex.DecodeString(line)
		if err != nil || len(k) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("%s: want a public key of 64 hex digits a line", file)
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s holds no key", file)
	}
	return keys, nil
}

func (a *app) tokenCommand() *cobra.Command {
	return group("token", "Account tokens",
		a.keyCommand("Make the key that issues account tokens; prints its public half, for the nodes"), a.tokenIssueCommand())
}

func (a *app) tokenIssueCommand() *cobra.Command {
	var keyFile, fleetFile, account string
	var days int
	c := &cobra.Command{
		Use: "issue", Short: "Print a token that lets its holder act for an account", Args: none,
		RunE: func(*cobra.Command, []string) error {
			key, err := readSigningKey(keyFile)
			if err != nil {
				return err
			}
			s, err := readFleet(fleetFile)
			if err != nil {
				return err
			}
			m, err := s.Unverified()
			if err != nil {
				return err
			}
			now := time.Now()
			fmt.Fprintln(a.out, vault.IssueToken(key, m.Fleet, account, now, now.AddDate(0, 0, days)))
			return nil
		},
	}
	required(c, &keyFile, "key", "key that \"token key\" made")
	required(c, &fleetFile, "fleet", "the fleet file")
	required(c, &account, "account", "name of the account")
	c.Flags().IntVar(&days, "days", 365, "days for which the token is valid")
	return c
}
