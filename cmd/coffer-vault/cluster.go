package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"coffer/internal/config"
	"coffer/raftstore"
	"coffer/vault"
)

func (a *app) clusterCommand() *cobra.Command {
	return group("cluster", "The group of nodes: who belongs to it, who leads, whether they agree",
		a.statusCommand(), a.verifyCommand(), a.joinCommand(),
		a.changeCommand("remove NODE", "Take a node out for ever; ask the leader", "/remove", one("the node's name")),
		a.changeCommand("transfer-leader [NODE]", "Let another node lead; ask the leader", "/transfer-leader", cobra.MaximumNArgs(1)),
		a.beginCommand(), a.recoverCommand("recover"))
}

// changeCommand has the node that runs, which must lead, change the group.
func (a *app) changeCommand(use, short, path string, args cobra.PositionalArgs) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: args, RunE: func(cmd *cobra.Command, args []string) error {
		c, err := a.load()
		if err != nil {
			return err
		}
		var m member
		if len(args) > 0 {
			m.ID = args[0]
		}
		return ask(cmd.Context(), c, http.MethodPost, path, m, &struct{}{})
	}}
}

func (a *app) joinCommand() *cobra.Command {
	var patience time.Duration
	c := &cobra.Command{
		Use: "join NODE", Short: "Take a node of the manifest into the group; ask the leader", Args: one("the node's name"),
		Long: "Join lets the node receive log and state, waits until it has them, and gives it a vote. When\n" +
			"the time is up the node goes on without a vote; the command may be given again.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.load()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), patience)
			defer cancel()
			if err := ask(ctx, c, http.MethodPost, "/add", member{args[0]}, &struct{}{}); err != nil {
				return err
			}
			fmt.Fprintf(a.err, "node %s receives log and state\n", args[0])
			for {
				err := ask(ctx, c, http.MethodPost, "/promote", member{args[0]}, &struct{}{})
				if err == nil {
					fmt.Fprintf(a.err, "node %s votes\n", args[0])
					return nil
				}
				select {
				case <-ctx.Done():
					return err
				case <-time.After(500 * time.Millisecond):
				}
			}
		},
	}
	c.Flags().DurationVar(&patience, "patience", 10*time.Minute, "how long to wait until the node has caught up")
	return c
}

func (a *app) verifyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "verify", Short: "Compare the nodes' states and ledgers", Args: none,
		Long: "Verify has the node that runs ask all nodes of the manifest. States that have applied as much must be the\n" +
			"same, no ledger may be shorter than another node remembers it. Exit status 1: a node is not as it should be.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.load()
			if err != nil {
				return err
			}
			var all []vault.Verified
			if err := ask(cmd.Context(), c, http.MethodGet, "/verify", nil, &all); err != nil {
				return err
			}
			if err := a.printVerified(all); err != nil {
				return err
			}
			bad := 0
			for _, v := range all {
				if len(v.Problems) > 0 {
					bad++
				}
			}
			if bad > 0 {
				return hinted(fmt.Errorf("%d of %d nodes are not as they should be", bad, len(all)), `OPERATIONS.md, "A node is not as it should be"`)
			}
			return nil
		},
	}
}

func (a *app) printVerified(all []vault.Verified) error {
	if a.json {
		return a.printJSON(all)
	}
	w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tAPPLIED\tSAME AS\tLEDGER\tREMEMBERED\tVERDICT")
	for _, v := range all {
		verdict := "well"
		if len(v.Problems) > 0 {
			verdict = strings.Join(v.Problems, "; ")
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%d\t%s\n", v.Node, v.Applied, strings.Join(v.Same, " "), v.Ledger, v.Remembered, verdict)
	}
	return w.Flush()
}

// group is what raftstore must know to begin one on this node.
func (a *app) groupConfig() (*config.Vault, raftstore.Config, error) {
	c, err := a.load()
	if err != nil {
		return nil, raftstore.Config{}, err
	}
	_, _, m, err := loadManifest(c)
	if err != nil {
		return nil, raftstore.Config{}, err
	}
	cert, err := pinnedCertificate(c.Dir, m, c.Name)
	if err != nil {
		return nil, raftstore.Config{}, err
	}
	return c, raftstore.Config{NodeID: c.Name, Dir: raftDir(c), Peers: peers(m), Certificate: cert, Machine: new(machine)}, nil
}

func raftDir(c *config.Vault) string { return filepath.Join(c.Dir, "raft") }

func (a *app) beginCommand() *cobra.Command {
	return &cobra.Command{
		Use: "init", Short: "Begin an empty group of the manifest's nodes, on this node", Args: none,
		Long: "The nodes of a fleet's first manifest begin their group by themselves. Those of a later one wait to be taken\n" +
			"in, for there is a group; should there be none any more, and no copy of its state, init begins another. It\n" +
			"must be given on every node before any is started. Accounts that the ledgers know are refused by it.",
		RunE: func(*cobra.Command, []string) error {
			_, rc, err := a.groupConfig()
			if err != nil {
				return err
			}
			return hinted(raftstore.Begin(rc), "an existing group is not overwritten")
		},
	}
}

// recoverCommand is "cluster recover", and "snapshot restore" for who looks there.
func (a *app) recoverCommand(verb string) *cobra.Command {
	var penalty uint8
	c := &cobra.Command{
		Use: verb + " FILE", Short: "Begin the group again from a copy of its state, on this node", Args: one("the file that \"snapshot save\" wrote"),
		Long: "This is for a fleet whose majority has lost its replicated state, and which has its ledgers, keys and\n" +
			"tokens. Take the copy from the node whose state is newest, which may run without a majority: \"snapshot save\".\n" +
			"Stop all nodes, give every one the same copy and penalty, and start them. What this node has of the old\n" +
			"group is kept beside, under raft.before. The new group is of the next generation: the HSMs remember it and\n" +
			"run no older disk.\n\n" +
			"What was counted since the copy was made, the ledgers know, and evaluate accordingly. Where ledgers are lost,\n" +
			"too, --penalty takes so many attempts from every account; the whole budget is strictly safe, and\n" +
			"users must register anew. Accounts that were registered since must be so in any case.",
		RunE: func(_ *cobra.Command, args []string) error { return a.recover(args[0], penalty) },
	}
	c.Flags().Uint8Var(&penalty, "penalty", 0, "attempts that every account loses; the same on every node")
	return c
}

func (a *app) recover(file string, penalty uint8) error {
	c, rc, err := a.groupConfig()
	if err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := raftstore.CheckBackup(f, c.Dir); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	before := rc.Dir + ".before"
	if _, err := os.Lstat(rc.Dir); err == nil {
		if _, err := os.Lstat(before); err == nil {
			return hinted(fmt.Errorf("%s exists already", before), "remove it, if nothing of that group is needed any more")
		}
		if err := os.Rename(rc.Dir, before); err != nil {
			return err
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	info, err := raftstore.Restore(rc, f, func(kv raftstore.KV) error { return vault.BeginAgain(kv, penalty) })
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return a.printBackup(info)
}
