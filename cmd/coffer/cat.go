package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func (a *app) catCommand() *cobra.Command {
	var source string
	cmd := &cobra.Command{
		Use:   "cat [SNAPSHOT]:PATH",
		Short: "Print a file of a snapshot",
		Long: "cat writes the content of a file to standard output. What it writes is verified; after an error it is\n" +
			"a true beginning of the file.",
		Example: "  coffer cat :/notes.txt\n  coffer cat 3fa9c1d2:/mail.tar | tar t",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("cat takes one [SNAPSHOT]:PATH")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.cat(cmd.Context(), args[0], source) },
	}
	cmd.Flags().StringVar(&source, "source", "", "of which source the newest snapshot is meant")
	return cmd
}

func (a *app) cat(ctx context.Context, arg, source string) error {
	_, repo, err := a.openRepo(ctx)
	if err != nil {
		return err
	}
	snap, path, err := findSnapshot(ctx, repo, arg, source)
	if err != nil {
		return err
	}
	e, err := repo.Stat(ctx, snap, path)
	if err != nil {
		return fmt.Errorf("%.8s:%s: %w", snap.ID, printable(path), err)
	}
	if e.Type != "file" {
		return hint(usagef("%.8s:%s is no file but a %s", snap.ID, printable(path), e.Type), `"coffer ls" lists folders, "coffer restore" restores everything`)
	}
	r, err := repo.ReadFile(ctx, snap, path, 0, -1)
	if err != nil {
		return fmt.Errorf("%.8s:%s: %w", snap.ID, printable(path), err)
	}
	_, err = io.Copy(a.out, r)
	return errors.Join(err, r.Close())
}
