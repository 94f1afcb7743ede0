package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"coffer/internal/config"
	"coffer/internal/durable"
	"coffer/keyring"
	"coffer/seal"
)

func (a *app) recoveryCommand() *cobra.Command {
	cmd := a.group("recovery", "Keep the key on paper, and try whether the paper is right")
	var out, digits string
	sheet := &cobra.Command{
		Use: "sheet", Short: "Draw a page to print: the key as digits and QR code, and what to do with it",
		Long: "sheet writes a PDF with the key and all that is needed on the day when nothing else is left. It is made\n" +
			"on this machine, without the network. Print it, and remove the file.",
		Args: atMost(0, "recovery sheet takes flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.recoverySheet(cmd.Context(), out) },
	}
	sheet.Flags().StringVarP(&out, "output", "o", "", "file to write; it must not exist (default ~/coffer-recovery-HOST.pdf)")
	verify := &cobra.Command{
		Use: "verify", Short: "Compare the digits on paper with the key of this machine",
		Args: atMost(0, "recovery verify takes flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.recoveryVerify(cmd.Context(), digits) },
	}
	verify.Flags().StringVar(&digits, "digits-file", "", "file with the digits, or the text of the QR code; - is standard input, none asks on the terminal")
	cmd.AddCommand(sheet, verify)
	return cmd
}

func (a *app) recoverySheet(ctx context.Context, out string) error {
	u, ring, key, err := a.unlocked()
	if err != nil {
		return err
	}
	s := keyring.Sheet{Profile: ring.Profile(), Made: time.Now()}
	for _, up := range u.Upstreams {
		s.Upstreams = append(s.Upstreams, upstreamName(up))
	}
	if err := a.sheetVault(ctx, u, &s); err != nil {
		return err
	}
	pdf, err := s.PDF(key)
	if err != nil {
		return err
	}
	if out == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return fmt.Errorf("finding the home folder: %w", err)
		}
		out = filepath.Join(home, "coffer-recovery-"+sourceName(u.Host)+".pdf")
	}
	f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("writing the recovery sheet: %w", err)
	}
	_, err = f.Write(pdf)
	if err := errors.Join(err, f.Sync(), f.Close(), durable.SyncDir(filepath.Dir(out))); err != nil {
		return fmt.Errorf("writing the recovery sheet: %w", err)
	}
	if a.json {
		return a.printJSON(sheetMade{out})
	}
	_, err = fmt.Fprintln(a.out, out)
	a.say(`Print it, remove the file, and try the paper: "coffer recovery verify".`)
	return err
}

// sheetVault adds the vault, of which the configuration and the fleet file tell.
func (a *app) sheetVault(ctx context.Context, u *config.User, s *keyring.Sheet) error {
	if u.Vault.Fleet == "" {
		return nil
	}
	c, err := a.fleetConfig(ctx, u.Vault, "")
	if err != nil {
		return err
	}
	m, err := a.manifest(c)
	if err != nil {
		return err
	}
	s.Vault, s.Account, s.Roots = m.Name, u.Vault.Account, u.Vault.Roots
	for _, n := range m.Nodes {
		s.Node = n.URL // any will do
		s.Nodes = append(s.Nodes, fmt.Sprintf("%s %s, identity %s...", n.ID, n.URL, hex.EncodeToString(n.Identity[:8])))
	}
	return nil
}

func (a *app) recoveryVerify(ctx context.Context, file string) error {
	_, _, key, err := a.unlocked()
	if err != nil {
		return err
	}
	var text string
	switch {
	case file != "":
		var raw []byte
		if file == "-" {
			raw, err = readLimited(a.in, "standard input", maxSecretFile)
		} else {
			raw, err = readFile(file, maxSecretFile)
		}
		if text = string(raw); err != nil {
			err = fmt.Errorf("reading the digits: %w", err)
		}
	case a.interactive():
		text, err = a.askSecret(ctx, "The digits, in one line (they are not shown): ")
	default:
		err = usagef("missing --digits-file, and there is no terminal to ask on")
	}
	if err != nil {
		return err
	}
	typed, err := keyring.ParseDigits(text)
	if err != nil {
		return hint(fmt.Errorf("these are not 64 digits: %w", err), digitsHint)
	}
	if !typed.Equal(key) {
		return hint(fmt.Errorf("these digits are not the key of this machine, from group %d on: %w", firstDifference(typed, key)+1, seal.ErrKey),
			`"coffer recovery sheet" draws a new page; destroy the old one`)
	}
	if a.json {
		return a.printJSON(digitsVerified{true})
	}
	a.say("These digits are the key. Keep them where the loss of this machine does not take them.")
	return nil
}

func firstDifference(x, y seal.Key) int {
	for g := range keyring.Groups {
		if keyring.Group(x, g) != keyring.Group(y, g) {
			return g
		}
	}
	return keyring.Groups
}
