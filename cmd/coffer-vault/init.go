package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"coffer/hsm"
	"coffer/internal/config"
	"coffer/internal/durable"
	"coffer/vault"
)

func (a *app) initCommand() *cobra.Command {
	var operator string
	var renew bool
	c := &cobra.Command{
		Use: "init", Short: "Make a node's HSM keys, certificate and node.json", Args: none,
		Long: "Init prepares the node that the configuration describes: its folder, the PIN file, the HSM's keys,\n" +
			"a TLS key with a self-signed certificate, and DIR/node.json, which \"fleet init\" takes.\n" +
			"What is there already is kept, so it may be run again.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.load()
			if err != nil {
				return err
			}
			if renew {
				return a.renew(c)
			}
			return a.init(cmd.Context(), c, operator)
		},
	}
	c.Flags().StringVar(&operator, "operator", "", "who runs the node, for people to read; default its name")
	c.Flags().BoolVar(&renew, "new-certificate", false, "make another TLS key, for the fleet's next manifest; the present one is used until then")
	return c
}

func (a *app) init(ctx context.Context, c *config.Vault, operator string) error {
	if err := durable.MkdirAll(c.Dir, 0o700); err != nil {
		return fmt.Errorf("making the node's folder: %w", err)
	}
	if err := a.provision(ctx, c); err != nil {
		return err
	}
	info, err := inspect(ctx, c)
	if err != nil {
		return err
	}
	identity, err := vault.IdentityKey(info.Signing)
	if err != nil {
		return fmt.Errorf("reading the node's identity: %w", err)
	}
	cert, err := makeCertificate(c.Dir, c.Name)
	if err != nil {
		return err
	}
	p, err := pin(cert)
	if err != nil {
		return err
	}
	if operator == "" {
		operator = c.Name
	}
	f := nodeFile{
		ID: c.Name, Operator: operator, URL: "https://" + c.Advertise, Raft: c.RaftAdvertise,
		TLSPin: hex.EncodeToString(p[:]), Identity: hex.EncodeToString(identity[:]), HSM: kind(info),
	}
	return a.writeNode(c, f)
}

// renew makes another TLS key and names it in node.json. The node may run.
func (a *app) renew(c *config.Vault) error {
	_, _, m, err := loadManifest(c)
	if err != nil {
		return err
	}
	file := nodeFilePath(c)
	b, err := os.ReadFile(file)
	if err != nil {
		return hinted(err, `"coffer-vault init" writes it`)
	}
	var f nodeFile
	if err := json.Unmarshal(b, &f); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	cert, err := renewCertificate(c.Dir, m, c.Name)
	if err != nil {
		return err
	}
	p, err := pin(cert)
	if err != nil {
		return err
	}
	f.TLSPin = hex.EncodeToString(p[:])
	return a.writeNode(c, f)
}

func nodeFilePath(c *config.Vault) string { return filepath.Join(c.Dir, "node.json") }

// writeNode writes node.json and says where it is.
func (a *app) writeNode(c *config.Vault, f nodeFile) error {
	if _, err := f.node(); err != nil {
		return err
	}
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	file := nodeFilePath(c)
	if err := durable.WriteFile(file, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	if a.json {
		return a.printJSON(f)
	}
	fmt.Fprintf(a.out, "node %s is ready to join a fleet: %s\n", c.Name, file)
	return nil
}

// provision makes the PIN file and the HSM's keys, unless they are there.
func (a *app) provision(ctx context.Context, c *config.Vault) error {
	hc := hsmConfig(c)
	if hc.Durable != "" {
		if _, err := os.Stat(filepath.Join(hc.Durable, "token.json")); err == nil {
			return nil
		}
	} else if info, err := inspect(ctx, c); err == nil && info.Signing != nil {
		return nil
	}
	pin, err := readPIN(c)
	if errors.Is(err, os.ErrNotExist) && c.HSM.PINFile != "" && hc.Durable != "" {
		pin = hsm.NewPIN()
		err = writeSecret(c.HSM.PINFile, append([]byte(nil), pin...))
	}
	if err != nil {
		return fmt.Errorf("the HSM's PIN: %w", err)
	}
	hc.PIN = pin
	if err := makeRunDir(hc); err != nil {
		return err
	}
	if err := hsm.Provision(ctx, hc, nil); err != nil {
		return hinted(err, `"coffer-vault hsm check" says what the token lacks`)
	}
	return nil
}

// inspect opens the token for a moment.
func inspect(ctx context.Context, c *config.Vault) (hsm.Info, error) {
	h, err := withPIN(c)
	if err != nil {
		return hsm.Info{}, err
	}
	t, err := openToken(ctx, h)
	if err != nil {
		return hsm.Info{}, err
	}
	info := t.Info()
	return info, t.Close()
}

func kind(i hsm.Info) string {
	s := fmt.Sprintf("%s %s (%s)", i.Manufacturer, i.Model, i.Mode)
	if i.Software {
		s += ", software"
	}
	return s
}
