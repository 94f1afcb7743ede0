package main

import (
	"context"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"coffer/internal/config"
)

func (a *app) sourceCommand() *cobra.Command {
	cmd := a.group("source", "Say what is backed up")
	var s config.Source
	var quiet time.Duration
	var preview bool
	add := &cobra.Command{
		Use: "add NAME=PATH", Short: "Back up another folder", Example: "  coffer source add photos=$HOME/Pictures --exclude '*.tmp'",
		Args: exactly(1, "source add takes NAME=PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s.Quiet = config.Duration(quiet)
			return a.sourceAdd(cmd.Context(), args[0], s, preview)
		},
	}
	f := add.Flags()
	f.StringArrayVar(&s.Exclude, "exclude", nil, "pattern, as in .gitignore, of what to leave out")
	f.BoolVar(&s.ExcludeCaches, "exclude-caches", false, "leave out what CACHEDIR.TAG marks")
	f.BoolVar(&s.OneFileSystem, "one-file-system", false, "do not cross into other file systems")
	f.BoolVar(&s.ScanOnly, "scan-only", false, "do not watch: look for changes now and then")
	f.StringArrayVar(&s.Tags, "tag", nil, "tag of each snapshot")
	f.DurationVar(&quiet, "quiet-time", 0, "back up when nothing changed for so long (default 5s)")
	f.BoolVar(&preview, "preview", false, "change nothing; say what would be saved, and what left out")
	cmd.AddCommand(add, a.excludesCommand(),
		&cobra.Command{
			Use: "list", Short: "List what is backed up", Args: atMost(0, "source list takes none"),
			RunE: func(*cobra.Command, []string) error { return a.sourceList() },
		},
		&cobra.Command{
			Use: "remove NAME", Short: "Back up a folder no more; its snapshots stay", Args: exactly(1, "source remove takes NAME"),
			RunE: func(cmd *cobra.Command, args []string) error { return a.sourceRemove(cmd.Context(), args[0]) },
		})
	return cmd
}

func (a *app) sourceAdd(ctx context.Context, arg string, s config.Source, preview bool) error {
	u, err := a.load()
	if err != nil {
		return err
	}
	parsed, err := parseSources([]string{arg})
	if err != nil {
		return err
	}
	s.Name, s.Path = parsed[0].Name, parsed[0].Path
	if slices.ContainsFunc(u.Sources, func(o config.Source) bool { return o.Name == s.Name }) {
		return hint(fmt.Errorf("there is a source %q already", s.Name), `"coffer source list" lists them`)
	}
	if preview {
		l, err := look(ctx, u, s)
		switch {
		case err != nil:
			return err
		case a.json:
			return a.printJSON(excluded{s.Name, append([]string{}, s.Exclude...), &l})
		}
		return a.printLeftOut(l)
	}
	if err := config.Add(a.configFile, &config.User{Sources: []config.Source{s}}); err != nil {
		return err
	}
	a.say("%s is backed up from now on: %s", s.Name, printable(s.Path))
	return a.applied(ctx, u)
}

func (a *app) sourceList() error {
	u, err := a.load()
	if err != nil {
		return err
	}
	if a.json {
		list := []sourcePath{}
		for _, s := range u.Sources {
			list = append(list, sourcePath{s.Name, s.Path})
		}
		return a.printJSON(list)
	}
	t := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	for _, s := range u.Sources {
		fmt.Fprintf(t, "%s\t%s\n", s.Name, printable(s.Path))
	}
	return t.Flush()
}

func (a *app) sourceRemove(ctx context.Context, name string) error {
	u, err := a.load()
	if err != nil {
		return err
	}
	i, err := sourceNamed(u, name)
	if err != nil {
		return err
	}
	if err := config.Remove(a.configFile, "source", i); err != nil {
		return err
	}
	a.say(`%s is backed up no more. Its snapshots stay: "coffer forget --source %s" removes them.`, name, name)
	return a.applied(ctx, u)
}
