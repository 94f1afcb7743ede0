package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// manDate is on the pages of section 1: they are made anew with each build, which
// must give the same bytes.
const manDate = "November 25, 2026"

func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use: "man DIR", Short: "Write the manual pages of section 1", Hidden: true,
		Args: exactly(1, "man takes DIR"),
		RunE: func(cmd *cobra.Command, args []string) error { return writeManual(cmd.Root(), args[0]) },
	}
}

// writeManual writes a page for the command and for each below it, in mdoc(7).
func writeManual(cmd *cobra.Command, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making the folder of the manual: %w", err)
	}
	cmd.InitDefaultHelpFlag()
	file := filepath.Join(dir, pageName(cmd)+".1")
	if err := os.WriteFile(file, manPage(cmd), 0o644); err != nil {
		return fmt.Errorf("writing the manual: %w", err)
	}
	for _, c := range children(cmd) {
		if err := writeManual(c, dir); err != nil {
			return err
		}
	}
	return nil
}

func children(cmd *cobra.Command) (all []*cobra.Command) {
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() && c.Name() != "help" {
			all = append(all, c)
		}
	}
	return all
}

func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

func manPage(cmd *cobra.Command) []byte {
	var b bytes.Buffer
	name := pageName(cmd)
	fmt.Fprintf(&b, ".Dd %s\n.Dt %s 1\n.Os\n.Sh NAME\n.Nm %s\n.Nd %s\n", manDate, strings.ToUpper(name), name, roff(lowerFirst(cmd.Short)))
	fmt.Fprintf(&b, ".Sh SYNOPSIS\n.Nm %s\n", roff(cmd.CommandPath()))
	if len(children(cmd)) > 0 {
		b.WriteString(".Ar command\n")
	}
	b.WriteString(".Op Ar flags\n")
	if _, args, ok := strings.Cut(cmd.Use, " "); ok {
		fmt.Fprintf(&b, "%s\n", roff(args))
	}
	long := cmd.Long
	if long == "" {
		long = cmd.Short + "."
	}
	b.WriteString(".Sh DESCRIPTION\n" + prose(long))
	flagList(&b, "The options are:", cmd.LocalFlags())
	flagList(&b, "And, as for every command:", cmd.InheritedFlags())
	if list := children(cmd); len(list) > 0 {
		b.WriteString(".Pp\nThe commands are:\n.Bl -tag -width Ds\n")
		for _, c := range list {
			fmt.Fprintf(&b, ".It Xr %s 1\n%s\n", pageName(c), roff(c.Short))
		}
		b.WriteString(".El\n")
	}
	if !cmd.HasParent() {
		b.WriteString(manTail)
	}
	if cmd.Example != "" {
		fmt.Fprintf(&b, ".Sh EXAMPLES\n.Bd -literal\n%s\n.Ed\n", roff(cmd.Example))
	}
	b.WriteString(".Sh SEE ALSO\n")
	if cmd.HasParent() {
		fmt.Fprintf(&b, ".Xr %s 1 ,\n", pageName(cmd.Parent()))
	}
	b.WriteString(".Xr coffer.toml 5 ,\n.Xr cofferd 8\n")
	return b.Bytes()
}

// flagList writes the options, those that users do not see aside.
func flagList(b *bytes.Buffer, head string, flags *pflag.FlagSet) {
	first := true
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "version" {
			return
		}
		if first {
			fmt.Fprintf(b, ".Pp\n%s\n.Bl -tag -width Ds\n", head)
			first = false
		}
		b.WriteString(".It ")
		if f.Shorthand != "" {
			fmt.Fprintf(b, "Fl %s , ", f.Shorthand)
		}
		value, usage := pflag.UnquoteUsage(f)
		value = strings.TrimSuffix(value, "Array")
		fmt.Fprintf(b, "Fl -%s", f.Name)
		if value != "" {
			fmt.Fprintf(b, " Ar %s", value)
		}
		fmt.Fprintf(b, "\n%s", roff(usage))
		// The path is that of who makes the page.
		if plain := f.DefValue; f.Name != "config" && !strings.Contains("|false|0|0s|[]|", "|"+plain+"|") && plain != "" {
			fmt.Fprintf(b, " (default %s)", roff(plain))
		}
		b.WriteString("\n")
	})
	if !first {
		b.WriteString(".El\n")
	}
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }

// roff escapes text for troff: nothing in it is a request.
func roff(s string) string {
	lines := strings.Split(strings.ReplaceAll(s, `\`, `\e`), "\n")
	for i, l := range lines {
		if l = strings.TrimRight(l, " \t"); strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			l = `\&` + l
		}
		lines[i] = l
	}
	return strings.Join(lines, "\n")
}

// prose is text of paragraphs, in which lines that are indented are literal.
func prose(s string) string {
	var b strings.Builder
	literal, paragraph := false, false
	for line := range strings.Lines(s) {
		text := roff(strings.TrimSpace(line))
		indented := strings.HasPrefix(line, "\t") || strings.HasPrefix(line, "  ")
		switch {
		case text == "":
			paragraph = true
			continue
		case indented && !literal:
			b.WriteString(".Bd -literal -offset indent\n")
		case !indented && literal:
			b.WriteString(".Ed\n.Pp\n")
		case paragraph && !literal && b.Len() > 0:
			b.WriteString(".Pp\n")
		}
		literal, paragraph = indented, false
		if !literal { // a sentence a line, so that the reader's program sets the space between them
			text = strings.NewReplacer(". ", ".\n", "! ", "!\n", "? ", "?\n").Replace(text)
		}
		b.WriteString(text + "\n")
	}
	if literal {
		b.WriteString(".Ed\n")
	}
	return b.String()
}

// manTail is what only the page coffer(1) has.
var manTail = func() string {
	var b strings.Builder
	b.WriteString(`.Sh ENVIRONMENT
.Bl -tag -width Ds
.It Ev COFFER_CONFIG
the configuration file, when no flag names one
.It Ev CREDENTIALS_DIRECTORY
where systemd puts the file
.Pa coffer.key ,
which holds the backup key
.It Ev NO_COLOR
no colours
.El
.Sh FILES
.Bl -tag -width Ds
.It Pa ~/.config/coffer/coffer.toml
the configuration
.It Pa ~/.local/state/coffer
the key of this machine, and what its daemon remembers
.It Pa ~/.cache/coffer
copies that may be removed at any time
.El
.Sh EXIT STATUS
They contain those of restic.
New ones may come; an unknown one is a failure.
.Pp
.Bl -tag -width Ds -compact
`)
	for _, e := range exitTexts {
		fmt.Fprintf(&b, ".It %s\n%s\n", strconv.Itoa(e.code), e.text)
	}
	b.WriteString(".El\n")
	return b.String()
}()

// exitTexts explains the exit statuses.
var exitTexts = []struct {
	code int
	text string
}{
	{exitOK, "done"}, {exitFailed, "failed"}, {exitUsage, "the command line makes no sense"},
	{exitIncomplete, "done, but some files could not be read or written"},
	{exitNoStore, "no backups there, or this machine is not set up"},
	{exitLocked, "the backup key is not in memory"}, {exitWrongKey, "wrong password or digits"},
	{exitNoVault, "the vault is unreachable, or too few of its nodes are up"},
	{exitTooSoon, "the vault takes the next attempt later"},
	{exitDestroyed, "no attempts left: the vault has destroyed its key"},
	{exitCorrupt, "something is not what was written"},
	{exitTemporary, "the storage is unavailable; try again"},
	{exitConfig, "the configuration is wrong"}, {exitInterrupted, "interrupted by a signal"},
}
