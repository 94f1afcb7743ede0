package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"coffer/backup"
	"coffer/internal/config"
	"coffer/internal/human"
)

// excluded is the answer of "source excludes".
type excluded struct {
	Source  string          `json:"source"`
	Exclude []string        `json:"exclude"`           // the patterns; with --preview as they would be
	Preview *backup.LeftOut `json:"preview,omitempty"` // with --preview
}

func (a *app) excludesCommand() *cobra.Command {
	var add, remove []string
	var preview bool
	cmd := &cobra.Command{
		Use:   "excludes NAME [--add PATTERN]... [--remove PATTERN]... [--preview]",
		Short: "Show or change what of a source is left out",
		Long: "excludes lists the patterns of a source; --add and --remove change them in the configuration, which stays as it is\n" +
			"otherwise. With --preview nothing is changed: it says how many files and bytes would be left out, which are the\n" +
			"biggest, and what would be saved.\n\n" +
			"A pattern is as in .gitignore: \"*.tmp\" anywhere, \"/scratch\" only at the top, \"node_modules/\" only folders, and\n" +
			"\"!important.tmp\" takes back in. The last one that fits decides.",
		Example: "  coffer source excludes home --add node_modules/ --add '*.iso' --preview\n  coffer source excludes home --add node_modules/ --add '*.iso'",
		Args:    exactly(1, "source excludes takes NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.sourceExcludes(cmd.Context(), args[0], add, remove, preview)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&add, "add", nil, "pattern to add at the end")
	f.StringArrayVar(&remove, "remove", nil, "pattern to take away")
	f.BoolVar(&preview, "preview", false, "change nothing; say what would be left out")
	return cmd
}

func (a *app) sourceExcludes(ctx context.Context, name string, add, remove []string, preview bool) error {
	u, err := a.load()
	if err != nil {
		return err
	}
	i, err := sourceNamed(u, name)
	if err != nil {
		return err
	}
	s := u.Sources[i]
	for _, p := range remove {
		at := slices.Index(s.Exclude, p)
		if at < 0 {
			return hint(usagef("%s has no pattern %q", name, p), fmt.Sprintf(`"coffer source excludes %s" lists them`, name))
		}
		s.Exclude = slices.Delete(s.Exclude, at, at+1)
	}
	for _, p := range add {
		if !slices.Contains(s.Exclude, p) {
			s.Exclude = append(s.Exclude, p)
		}
	}
	answer := excluded{Source: name, Exclude: append([]string{}, s.Exclude...)}
	if preview {
		l, err := look(ctx, u, s)
		if err != nil {
			return err
		}
		answer.Preview = &l
	} else if len(add)+len(remove) > 0 {
		if err := config.SetExclude(a.configFile, i, s.Exclude); err != nil {
			return err
		}
		if err := a.applied(ctx, u); err != nil {
			return err
		}
	}
	if a.json {
		return a.printJSON(answer)
	}
	if preview {
		return a.printLeftOut(*answer.Preview)
	}
	if len(add)+len(remove) > 0 && len(s.Exclude) > 0 {
		a.say("From now on these patterns leave files of %s out; snapshots that have them keep them:", name)
	}
	for _, p := range s.Exclude {
		fmt.Fprintln(a.out, printable(p))
	}
	if len(s.Exclude) == 0 {
		a.say("no pattern leaves anything of %s out", name)
	}
	return nil
}

// printLeftOut says what a backup would leave out.
func (a *app) printLeftOut(l backup.LeftOut) error {
	if len(l.Biggest) > 0 {
		fmt.Fprintf(a.out, "%10s  %8s  %s\n", "SIZE", "FILES", "LEFT OUT")
	}
	for _, p := range l.Biggest {
		path := printable(p.Path)
		if p.Dir {
			path += "/"
		}
		if _, err := fmt.Fprintf(a.out, "%10s  %8d  %s\n", human.Size(p.Bytes), p.Files, path); err != nil {
			return err
		}
	}
	if more := l.Places - int64(len(l.Biggest)); more > 0 {
		fmt.Fprintf(a.out, "%20s  and %s more\n", "", count(more, "smaller place"))
	}
	_, err := fmt.Fprintf(a.out, "left out: %s, %s; saved: %s, %s\n", count(l.Files, "file"), human.Size(l.Bytes), count(l.Saved, "file"), human.Size(l.Size))
	return err
}

// look says what a backup of the source would leave out, all of it.
func look(ctx context.Context, u *config.User, s config.Source) (backup.LeftOut, error) {
	l, err := backup.Look(ctx, backupOptions(u, s))
	if err == nil && l.Partial {
		err = ctx.Err()
	}
	return l, err
}

// sourceNamed gives the place of a source in the configuration.
func sourceNamed(u *config.User, name string) (int, error) {
	i := slices.IndexFunc(u.Sources, func(s config.Source) bool { return s.Name == name })
	if i < 0 {
		return i, hint(usagef("there is no source %q", name), `"coffer source list" lists them`)
	}
	return i, nil
}
