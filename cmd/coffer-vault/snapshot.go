package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"coffer/internal/durable"
	"coffer/raftstore"
)

func (a *app) snapshotCommand() *cobra.Command {
	return group("snapshot", "Copies of the replicated state, for the day when the fleet is lost",
		&cobra.Command{Use: "save FILE", Short: "Have the running node write its state to a new file", Args: one("the file to write"),
			RunE: func(cmd *cobra.Command, args []string) error { return a.saveSnapshot(cmd.Context(), args[0]) }},
		&cobra.Command{Use: "inspect FILE", Short: "Read a file whole and say what it holds", Args: one("the file"),
			RunE: func(_ *cobra.Command, args []string) error { return a.inspectSnapshot(args[0]) }},
		a.recoverCommand("restore"))
}

func (a *app) saveSnapshot(ctx context.Context, file string) (err error) {
	c, err := a.load()
	if err != nil {
		return err
	}
	if _, err := os.Lstat(file); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s exists already", file)
	}
	body, err := request(ctx, c, http.MethodGet, "/backup", nil)
	if err != nil {
		return err
	}
	defer body.Close()
	f, err := os.CreateTemp(filepath.Dir(file), ".snapshot-") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = io.Copy(f, body)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	if err := os.Link(f.Name(), file); err != nil { // unlike a rename, it replaces nothing
		return err
	}
	if err := durable.SyncDir(filepath.Dir(file)); err != nil {
		return err
	}
	return a.inspectSnapshot(file)
}

func (a *app) inspectSnapshot(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := raftstore.CheckBackup(f, "")
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return a.printBackup(info)
}

func (a *app) printBackup(info raftstore.BackupInfo) error {
	if a.json {
		return a.printJSON(info)
	}
	fmt.Fprintf(a.out, "state up to entry %d of term %d, generation %d, written by %s on %s\n",
		info.Index, info.Term, info.Generation, info.Node, info.Time.Format("2006-01-02 15:04:05 MST"))
	return nil
}
