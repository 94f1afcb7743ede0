package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// maxLine bounds a line that is typed.
const maxLine = 4096

// errorLines tells what went wrong and what to do: lower case, no full stop.
func (a *app) errorLines(err error, tip string) {
	mark := "error:"
	if a.colour() {
		mark = "\x1b[1;31merror:\x1b[0m"
	}
	fmt.Fprintf(a.err, "coffer: %s %s\n", mark, printable(err.Error()))
	if tip != "" {
		fmt.Fprintf(a.err, "coffer: hint: %s\n", tip)
	}
}

// warn tells of one file; the run goes on.
func (a *app) warn(what, path, why string) {
	fmt.Fprintf(a.err, "coffer: %s: %s: %s\n", what, printable(path), printable(why))
}

// say prints a line for people; with --json none.
func (a *app) say(format string, args ...any) {
	if !a.json {
		fmt.Fprintf(a.err, format+"\n", args...)
	}
}

// printable keeps a file's name from moving the cursor.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, s)
}

// colour says whether standard error wants it (no-color.org).
func (a *app) colour() bool {
	return isTerminal(a.err) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

func isTerminal(f any) bool {
	file, ok := f.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// interactive says whether somebody is there to be asked.
func (a *app) interactive() bool { return !a.json && isTerminal(a.in) && isTerminal(a.err) }

// printJSON prints one value as the data of the command.
func (a *app) printJSON(v any) error {
	all := reflect.New(reflect.TypeOf(v))
	all.Elem().Set(reflect.ValueOf(v))
	fillLists(all)
	e := json.NewEncoder(a.out)
	e.SetIndent("", "  ")
	return e.Encode(all.Interface())
}

// ask reads a line from the terminal.
func (a *app) ask(ctx context.Context, prompt string) (string, error) {
	fmt.Fprint(a.err, prompt)
	return a.wait(ctx, func() (string, error) {
		var line []byte
		one := make([]byte, 1)
		for { // byte by byte: what follows may be a password, which is read elsewhere
			n, err := a.in.Read(one)
			if n == 1 && one[0] == '\n' || err == io.EOF && len(line) > 0 {
				return strings.TrimSpace(string(line)), nil
			}
			if err != nil {
				return "", fmt.Errorf("reading from the terminal: %w", err)
			}
			if line = append(line, one[:n]...); len(line) > maxLine {
				return "", errors.New("the line is too long")
			}
		}
	})
}

// askSecret reads a line that is not shown.
func (a *app) askSecret(ctx context.Context, prompt string) (string, error) {
	fd := int(a.in.Fd())
	before, err := term.GetState(fd)
	if err == nil {
		err = hush(fd) // before the prompt: who types at once is not to see it
	}
	if err != nil {
		return "", fmt.Errorf("reading from the terminal: %w", err)
	}
	fmt.Fprint(a.err, prompt)
	defer fmt.Fprintln(a.err)
	s, err := a.wait(ctx, func() (string, error) {
		b, err := term.ReadPassword(fd)
		return string(b), err
	})
	if err := errors.Join(err, term.Restore(fd, before)); err != nil {
		return "", fmt.Errorf("reading from the terminal: %w", err)
	}
	return s, nil
}

// hush keeps the terminal from showing what is typed.
func hush(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Lflag &^= unix.ECHO
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}

// wait returns what read does, or when ctx ends; the reader is left to the end
// of the program, as nothing can interrupt it.
func (a *app) wait(ctx context.Context, read func() (string, error)) (string, error) {
	type answer struct {
		s   string
		err error
	}
	done := make(chan answer, 1)
	go func() {
		s, err := read()
		done <- answer{s, err}
	}()
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case r := <-done:
		return r.s, r.err
	}
}

// count prints a number of things for people.
func count[N int | int64](n N, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
