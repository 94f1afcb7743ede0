package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"coffer/backup"
	"coffer/internal/human"
	"coffer/upstream"
)

// importFlags are the flags of import restic.
type importFlags struct {
	where        where
	passwordFile string
	source       string
}

func (a *app) importCommand() *cobra.Command {
	cmd := a.group("import", "Bring the snapshots of another program")
	var f importFlags
	from := &cobra.Command{
		Use:   "restic REPOSITORY",
		Short: "Bring the snapshots of a restic repository",
		Long: "restic brings all snapshots of a restic repository, in a folder or in S3, with their times, machines, paths\n" +
			"and tags. The repository is read only, and stays. What was brought before is not brought again, so an import\n" +
			"that was interrupted goes on, and a later one brings what is new. A source is named for the last part of its\n" +
			"path: a source of that name and path goes on from the newest snapshot without reading everything again.\n" +
			"Exit status 3: some files could not be read from the repository.",
		Example: "  coffer import restic /mnt/restic --password-file password\n" +
			"  coffer import restic s3:https://s3.example.org/restic --s3-access-key-file id --s3-secret-key-file secret",
		Args: exactly(1, "import restic takes REPOSITORY"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.importRestic(cmd.Context(), args[0], &f) },
	}
	fl := from.Flags()
	fl.StringVar(&f.passwordFile, "password-file", "", "file with the repository's password; - is standard input, none asks on the terminal")
	fl.StringVar(&f.source, "source", "", "name of the source (default: the last part of the path)")
	f.where.keyFlags(from)
	cmd.AddCommand(from)
	return cmd
}

func (a *app) importRestic(ctx context.Context, from string, f *importFlags) error {
	_, repo, err := a.openRepo(ctx)
	if err != nil {
		return err
	}
	files, err := f.files(ctx, from)
	if err != nil {
		return err
	}
	var password string
	switch {
	case f.passwordFile != "":
		if password, err = readSecret(a.in, f.passwordFile); err != nil {
			err = fmt.Errorf("reading the password: %w", err)
		}
	case a.interactive():
		password, err = a.askSecret(ctx, "Password of the restic repository: ")
	default:
		err = usagef("missing --password-file, and there is no terminal to ask on")
	}
	if err != nil {
		return err
	}
	o := backup.ImportOptions{Files: files, Password: password}
	o.Source = func(paths []string) string {
		if f.source != "" || len(paths) == 0 {
			return cmp.Or(f.source, "restic")
		}
		return sourceName(paths[0])
	}
	m := a.meter("import")
	o.Progress = m.update
	r, err := repo.ImportRestic(ctx, o)
	m.stop()
	return a.brought(r, err, "imported", r)
}

// brought tells what was brought from another repository; also what was, when it
// ended with an error.
// answer is what it says in JSON.
func (a *app) brought(r backup.BringReport, err error, verb string, answer any) error {
	if a.json {
		if err == nil {
			err = a.printJSON(answer)
		}
	} else {
		for i, f := range r.Failed {
			if i == maxFileErrors {
				a.say("coffer: error: ... and %d more", len(r.Failed)-i)
				break
			}
			a.warn("error", f.Path, f.Err)
		}
		for _, s := range r.Snapshots {
			fmt.Fprintf(a.out, "%s %.8s: %s, %s of %s, %s, %s\n", verb, s.ID, printable(s.Source), s.Time.Local().Format("2006-01-02 15:04:05"),
				printable(s.Host), count(s.Stats.Files, "file"), human.Size(s.Stats.Bytes))
		}
		if err == nil {
			_, err = fmt.Fprintf(a.out, "%s %s, %s read, %s uploaded; there already: %d\n", verb, count(len(r.Snapshots), "snapshot"), human.Size(r.Read), human.Size(r.Uploaded), r.Present)
		}
	}
	if err == nil && len(r.Failed) > 0 {
		return errIncomplete
	}
	return err
}

// files opens what holds the repository.
func (f *importFlags) files(ctx context.Context, from string) (backup.ResticFiles, error) {
	if !strings.HasPrefix(from, "s3:") {
		return backup.ResticFolder(absolute(strings.TrimPrefix(from, "folder:")))
	}
	f.where.upstream = from
	up, err := f.where.parse()
	if err != nil {
		return nil, err
	}
	b, err := upstream.Open(ctx, upstream.FromConfig(up, nil))
	if err != nil {
		return nil, hint(fmt.Errorf("restic repository %s: %w", upstreamName(up), err), "check the address and the keys: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or --s3-access-key-file and --s3-secret-key-file")
	}
	return backup.ResticBucket(b), nil
}
