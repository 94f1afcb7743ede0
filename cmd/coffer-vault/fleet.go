package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"coffer/internal/durable"
	"coffer/vault"
)

func (a *app) fleetCommand() *cobra.Command {
	return group("fleet", "The signed description of a fleet",
		a.keyCommand("Make a root key, to be kept offline; prints its public half"), a.fleetInitCommand(), a.fleetNextCommand(), a.fleetSignCommand(), a.fleetShowCommand(), a.fleetVerifyCommand(), a.fleetAuditCommand())
}

// keyCommand makes a key that signs: a fleet's root, or what issues tokens.
func (a *app) keyCommand(short string) *cobra.Command {
	var out string
	c := &cobra.Command{
		Use: "key", Short: short, Args: none,
		RunE: func(*cobra.Command, []string) error {
			public, err := makeSigningKey(out)
			if err != nil {
				return err
			}
			fmt.Fprintln(a.out, public)
			return nil
		},
	}
	required(c, &out, "out", "file to write the key to, 0600")
	return c
}

func required(c *cobra.Command, to *string, name, use string) {
	c.Flags().StringVar(to, name, "", use)
	if err := c.MarkFlagRequired(name); err != nil {
		panic(err) // the flag was made a line above
	}
}

// manifestFlags are what fleet init and fleet next may change.
type manifestFlags struct {
	roots    []string
	out      string
	name     string
	delays   string
	budget   uint8
	deadline time.Duration
	days     int
	before   string // fleet file
}

func (f *manifestFlags) add(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.roots, "root", nil, "root key to sign with; more than once for several")
	required(c, &f.out, "out", "fleet file to write")
	c.Flags().StringVar(&f.delays, "delays", "", `"none", or seconds to wait after 0, 1, 2 ... wrong attempts: "0,0,60,300"`)
	c.Flags().Uint8Var(&f.budget, "budget", 0, "attempts before the key is destroyed")
	c.Flags().DurationVar(&f.deadline, "deadline", 0, "time for the proof of the last attempt")
	c.Flags().IntVar(&f.days, "days", 0, "days for which the manifest is valid")
	c.Flags().StringVar(&f.before, "predecessor", "", "fleet file of another fleet whose accounts move to this one")
}

func (f *manifestFlags) apply(m *vault.Manifest, now time.Time) error {
	switch f.delays {
	case "":
	case "none":
		m.Policy.Delays = []uint32{0}
	default:
		m.Policy.Delays = nil
		for part := range strings.SplitSeq(f.delays, ",") {
			var n uint32
			if _, err := fmt.Sscanf(strings.TrimSpace(part)+"\n", "%d\n", &n); err != nil {
				return usagef("--delays: %q is no number of seconds", part)
			}
			m.Policy.Delays = append(m.Policy.Delays, n)
		}
	}
	if f.budget != 0 {
		m.Policy.Budget = f.budget
	}
	if f.deadline != 0 {
		m.Policy.Deadline = uint32(f.deadline / time.Second)
	}
	if f.before != "" {
		s, err := readFleet(f.before)
		if err != nil {
			return err
		}
		m.Predecessor = s.Bytes()
	}
	if f.days != 0 {
		m.NotAfter = now.AddDate(0, 0, f.days).Unix()
	}
	return nil
}

// write signs m with the root keys and writes the fleet file.
func (f *manifestFlags) write(m *vault.Manifest) error {
	if err := m.Check(); err != nil {
		return err
	}
	s, err := vault.Unsigned(m)
	if err != nil {
		return err
	}
	for _, file := range f.roots {
		key, err := readSigningKey(file)
		if err != nil {
			return err
		}
		s.Sign(key)
	}
	return durable.WriteFile(f.out, s.Bytes(), 0o644)
}

func readNodes(files []string) ([]vault.Node, error) {
	var nodes []vault.Node
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, hinted(err, `"coffer-vault init" writes node.json`)
		}
		var f nodeFile
		if err := json.Unmarshal(b, &f); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		n, err := f.node()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, func(a, b vault.Node) int { return strings.Compare(a.ID, b.ID) })
	return nodes, nil
}

func (a *app) fleetInitCommand() *cobra.Command {
	var f manifestFlags
	c := &cobra.Command{
		Use: "init NODE.json...", Short: "Describe a new fleet of 1, 3, 5 or 7 nodes, and sign it",
		RunE: func(_ *cobra.Command, args []string) error {
			nodes, err := readNodes(args)
			if err != nil {
				return err
			}
			if _, err := os.Lstat(f.out); !errors.Is(err, os.ErrNotExist) {
				return hinted(fmt.Errorf("%s exists already", f.out), `"coffer-vault fleet next" changes a fleet; a new one would be another`)
			}
			now := time.Now()
			m := vault.NewManifest(f.name, nodes, now)
			if err := f.apply(m, now); err != nil {
				return err
			}
			return f.write(m)
		},
	}
	f.add(c)
	required(c, &f.name, "name", "name of the fleet, for people to read")
	return c
}

func (a *app) fleetNextCommand() *cobra.Command {
	var f manifestFlags
	c := &cobra.Command{
		Use: "next FLEET.cbor [NODE.json...]", Short: "Write a manifest's successor, with other nodes or policy", Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := readFleet(args[0])
			if err != nil {
				return err
			}
			old, err := s.Unverified()
			if err != nil {
				return err
			}
			now := time.Now()
			m := old.Next(now)
			if len(args) > 1 {
				if m.Nodes, err = readNodes(args[1:]); err != nil {
					return err
				}
				m.Threshold = uint8(len(m.Nodes)/2 + 1)
			}
			if err := f.apply(m, now); err != nil {
				return err
			}
			return f.write(m)
		},
	}
	f.add(c)
	return c
}

func readFleet(file string) (*vault.SignedManifest, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	s, err := vault.ParseManifest(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}

func (a *app) fleetSignCommand() *cobra.Command {
	var root string
	c := &cobra.Command{
		Use: "sign FLEET.cbor", Short: "Add a root key's signature", Args: one("the fleet file"),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := readFleet(args[0])
			if err != nil {
				return err
			}
			key, err := readSigningKey(root)
			if err != nil {
				return err
			}
			s.Sign(key)
			return durable.WriteFile(args[0], s.Bytes(), 0o644)
		},
	}
	required(c, &root, "root", "root key to sign with")
	return c
}

func (a *app) fleetShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show FLEET.cbor", Short: "Print a manifest; verifies nothing", Args: one("the fleet file"),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := readFleet(args[0])
			if err != nil {
				return err
			}
			m, err := s.Unverified()
			if err != nil {
				return err
			}
			return m.Show(a.out)
		},
	}
}

// rootFlags are the root keys that a fleet file is checked against.
type rootFlags struct {
	keys   []string
	quorum int
}

func (f *rootFlags) add(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.keys, "root", nil, "public root key, 64 hex digits; more than once for several")
	c.Flags().IntVar(&f.quorum, "quorum", 0, "signatures that are needed; default more than half of the root keys")
}

func (f *rootFlags) parse() (vault.Roots, error) {
	r, err := vault.ParseRoots(f.keys, f.quorum)
	if err != nil {
		return r, &exitError{err, exitUsage, "--root HEX, as \"fleet key\" printed it"}
	}
	return r, nil
}

func (a *app) fleetVerifyCommand() *cobra.Command {
	var r rootFlags
	c := &cobra.Command{
		Use: "verify FLEET.cbor", Short: "Check a manifest's signatures and validity", Args: one("the fleet file"),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := readFleet(args[0])
			if err != nil {
				return err
			}
			trusted, err := r.parse()
			if err != nil {
				return err
			}
			m, err := s.Verify(trusted, time.Now())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]any{"fleet": fmt.Sprintf("%x", m.Fleet), "name": m.Name, "sequence": m.Sequence, "nodes": len(m.Nodes), "threshold": m.Threshold, "hash": fmt.Sprintf("%x", m.Hash())})
			}
			fmt.Fprintf(a.out, "fleet %q, manifest %d, %d nodes of which %d suffice: signed and valid until %s\n",
				m.Name, m.Sequence, len(m.Nodes), m.Threshold, time.Unix(m.NotAfter, 0).UTC().Format(time.DateOnly))
			return nil
		},
	}
	r.add(c)
	return c
}

func (a *app) fleetAuditCommand() *cobra.Command {
	var r rootFlags
	c := &cobra.Command{
		Use: "audit FILE...", Short: "Check a fleet's whole history: its fleet files from the first on, in order, or all in one file",
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			trusted, err := r.parse()
			if err != nil {
				return err
			}
			var log bytes.Buffer
			for _, file := range args {
				b, err := os.ReadFile(file)
				if err != nil {
					return err
				}
				log.Write(b)
			}
			all, err := vault.AuditManifests(&log, trusted)
			if err != nil {
				return err
			}
			for _, m := range all {
				fmt.Fprintf(a.out, "%d\t%s\t%d nodes\t%x\n", m.Sequence, time.Unix(m.Issued, 0).UTC().Format(time.DateOnly), len(m.Nodes), m.Hash())
			}
			return nil
		},
	}
	r.add(c)
	return c
}
