package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"coffer/backup"
)

func (a *app) tagCommand() *cobra.Command {
	var o backup.TagOptions
	cmd := &cobra.Command{
		Use:   "tag [SNAPSHOT]... --add TAG | --remove TAG | --set TAG",
		Short: "Put tags on snapshots, or take them off",
		Long: "tag changes the tags of the snapshots named, or of all of a source or machine. A snapshot never changes:\n" +
			"one with other tags takes its place, with another id, and at no moment is neither there. Tags are shown by\n" +
			"\"coffer snapshots\", and kept by \"coffer forget --keep-tag\".",
		Example: "  coffer tag latest --add before-upgrade\n  coffer tag 3fa9c1d2 --remove before-upgrade\n  coffer tag --source docs --set yearly",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.IDs = args
			if !cmd.Flags().Changed("set") {
				o.Set = nil
			}
			return a.tag(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.Add, "add", nil, "tag to put on; several flags for several")
	f.StringArrayVar(&o.Remove, "remove", nil, "tag to take off; several flags for several")
	f.StringArrayVar(&o.Set, "set", nil, "tag to have in place of all others; an empty one for none")
	f.StringVar(&o.Host, "host", "", "of this machine")
	f.StringVar(&o.Source, "source", "", "of this source")
	return cmd
}

// checkTags refuses what could not be told apart when it is listed.
func checkTags(tags []string) error {
	for _, t := range tags {
		if t == "" || strings.ContainsFunc(t, func(r rune) bool { return r <= ' ' || r == ',' || r == 0x7f }) {
			return usagef("%q is no tag: a tag is a word without blanks and commas", t)
		}
	}
	return nil
}

func (a *app) tag(ctx context.Context, o backup.TagOptions) error {
	if len(o.Set) == 1 && o.Set[0] == "" {
		o.Set = []string{}
	}
	switch {
	case o.Set == nil && len(o.Add)+len(o.Remove) == 0:
		return hint(usagef("nothing says which tags"), "give --add TAG, --remove TAG or --set TAG")
	case o.Set != nil && len(o.Add)+len(o.Remove) > 0:
		return usagef("either --set, or --add and --remove")
	case len(o.IDs) == 0 && o.Host == "" && o.Source == "":
		return hint(usagef("nothing says which snapshots"), `name them ("coffer snapshots" lists them), or give --source or --host`)
	}
	for _, tags := range [][]string{o.Add, o.Remove, o.Set} {
		if err := checkTags(tags); err != nil {
			return err
		}
	}
	_, repo, err := a.openRepo(ctx)
	if err != nil {
		return err
	}
	for i, id := range o.IDs {
		s, path, err := findSnapshot(ctx, repo, id, o.Source)
		if err == nil && path != "" {
			err = usagef("%q: tags are those of a whole snapshot", id)
		}
		if err != nil {
			return err
		}
		o.IDs[i] = s.ID
	}
	done, err := repo.Tag(ctx, o)
	if a.json {
		if jerr := a.printJSON(done); jerr != nil {
			return jerr
		}
		return err
	}
	for _, d := range done {
		tags := "no tags"
		if len(d.Tags) > 0 {
			tags = strings.Join(d.Tags, ",")
		}
		fmt.Fprintf(a.out, "%.8s is now %.8s: %s\n", d.Before, d.ID, printable(tags))
	}
	if err == nil && len(done) == 0 {
		a.say("No snapshot needed other tags.")
	}
	return err
}
