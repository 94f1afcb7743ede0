package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"coffer/backup"
	"coffer/internal/human"
)

// errProblems ends a check that found damage. What, has been told before.
var errProblems = errors.New("the check found damage")

// checkFlags are the flags of check.
type checkFlags struct {
	readData bool
	subset   string
	mirrors  bool
}

func (a *app) checkCommand() *cobra.Command {
	var f checkFlags
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Verify that all snapshots can be restored",
		Long: "check verifies that every object is there and opens, and that every snapshot has all it needs. With\n" +
			"--read-data it reads all the data, with --subset a part of it: 1/7 to 7/7 on the days of a week read all.\n" +
			"With --mirrors it compares the upstreams, and copies to each what it lacks; that needs no key.\n" +
			"Exit status 16: something is not what was written.",
		Example: "  coffer check\n  coffer check --subset 3/7\n  coffer check --mirrors",
		Args:    atMost(0, "check takes flags only"),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.check(cmd.Context(), &f) },
	}
	fl := cmd.Flags()
	fl.BoolVar(&f.readData, "read-data", false, "read and verify all data")
	fl.StringVar(&f.subset, "subset", "", "read and verify part N of M: N/M")
	fl.BoolVar(&f.mirrors, "mirrors", false, "compare the upstreams, and repair what one lacks")
	return cmd
}

// parseSubset reads "N/M"; 0, 0 is everything.
func parseSubset(s string) (part, of int, err error) {
	if s == "" {
		return 0, 0, nil
	}
	n, m, ok := strings.Cut(s, "/")
	part, err = strconv.Atoi(n)
	if err == nil {
		of, err = strconv.Atoi(m)
	}
	if !ok || err != nil || part < 1 || of < part || of > 1000 {
		return 0, 0, usagef("--subset %q: not N/M with N from 1 to M, and M up to 1000", s)
	}
	return part, of, nil
}

// checked is the answer of "check --json": one of the two.
type checked struct {
	Report  *backup.CheckReport `json:"report,omitempty"`
	Mirrors *mirrorState        `json:"mirrors,omitempty"` // with --mirrors
}

func (a *app) check(ctx context.Context, f *checkFlags) error {
	part, of, err := parseSubset(f.subset)
	if err != nil {
		return err
	}
	if f.mirrors {
		if f.readData || of > 0 {
			return usagef("--mirrors compares the upstreams; check the data by a run of its own")
		}
		return a.checkMirrorsOnly(ctx)
	}
	_, repo, err := a.openRepo(ctx)
	if err != nil {
		return err
	}
	m := a.meter("check")
	report, err := repo.Check(ctx, backup.CheckOptions{ReadData: f.readData || of > 0, Part: part, Of: of, Progress: m.update})
	m.stop()
	if err != nil {
		return err
	}
	if a.json {
		err = a.printJSON(checked{Report: &report})
	} else {
		err = a.printCheck(report)
	}
	if err != nil {
		return err
	}
	if len(report.Problems) > 0 || len(report.Rollbacks) > 0 {
		return errProblems
	}
	return nil
}

// maxTouches bounds the files that are listed for one object.
const maxTouches = 20

func (a *app) printCheck(r backup.CheckReport) error {
	for _, p := range r.Problems {
		a.warn("error", p.Object, strings.TrimPrefix(p.Err, "reading "+p.Object+": "))
		for i, t := range p.Touches {
			if i == maxTouches {
				a.say("    ... and %d more", len(p.Touches)-i)
				break
			}
			a.say("    touches %s", printable(t))
		}
	}
	for _, w := range r.Rollbacks {
		a.say("coffer: error: the history that machine %s has published has shrunk: somebody put an old state of the store back", printable(w))
	}
	line := fmt.Sprintf("%s, %s, %s", count(r.Snapshots, "snapshot"), count(r.Packs, "pack"), count(r.Chunks, "chunk"))
	if r.Bytes > 0 {
		line += ", " + human.Size(r.Bytes) + " read"
	}
	if r.Unused > 0 {
		line += fmt.Sprintf("; left by runs that were interrupted: %s", count(r.Unused, "pack"))
	}
	if n := len(r.Problems) + len(r.Rollbacks); n > 0 {
		line += ": " + count(n, "problem")
	} else {
		line += ": no problem"
	}
	_, err := fmt.Fprintln(a.out, line)
	return err
}

func (a *app) checkMirrorsOnly(ctx context.Context) error {
	u, err := a.load()
	if err != nil {
		return err
	}
	s, failed := a.checkMirrors(ctx, u)
	if s == nil {
		return failed
	}
	if a.json {
		if failed != nil {
			s.Error = failed.Error()
		}
		err = a.printJSON(checked{Mirrors: s})
	} else {
		for _, name := range s.Different {
			a.warn("error", name, "the upstreams have it in different sizes")
		}
		_, err = fmt.Fprintf(a.out, "%d upstreams, %d objects: %d copied, %d still missing, %d different\n",
			len(s.Upstreams), s.Objects, s.Repaired, s.Missing, len(s.Different))
	}
	if err == nil {
		err = failed
	}
	if err == nil && len(s.Different) > 0 {
		err = hint(errProblems, `"coffer check --read-data" tells whether the first upstream's are right`)
	}
	return err
}
