package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"coffer/internal/durable"
)

// Add appends the sources, upstreams and gateway keys of u to a coffer.toml, and its
// vault where there is none, and
// leaves all that is written there as it is, with its comments. A file that would
// not be right then stays as it was; the error is that of LoadUser.
func Add(file string, u *User) error {
	part := User{Upstreams: u.Upstreams, Sources: u.Sources, Gateway: Gateway{Keys: u.Gateway.Keys}, Vault: u.Vault}
	var b bytes.Buffer
	if err := toml.NewEncoder(&b).Encode(&part); err != nil {
		return fmt.Errorf("editing %s: %w", file, err)
	}
	added := b.String()
	if len(part.Gateway.Keys) > 0 { // the table is there already, or implied
		added = strings.Replace(added, "[gateway]\n", "", 1)
	}
	return edit(file, func(text string) (string, error) {
		return strings.TrimRight(text, "\n") + "\n\n" + strings.TrimLeft(added, "\n"), nil
	})
}

// Remove takes the table with the index, from 0, of an array of tables out of a
// coffer.toml: of "source", "upstream" or "gateway.key". What is written above
// its first line belongs to what comes before.
func Remove(file, array string, index int) error {
	return edit(file, func(text string) (string, error) {
		lines := strings.SplitAfter(text, "\n")
		begin, n := -1, 0
		for i, line := range lines {
			header := headerOf(line)
			switch {
			case begin >= 0 && strings.HasPrefix(strings.TrimLeft(header, "["), array+"."):
				// a table within the one that goes, as [source.keep]
			case begin >= 0 && header != "":
				return strings.Join(append(lines[:begin:begin], lines[i:]...), ""), nil
			case header == "[["+array+"]]":
				if n == index {
					begin = i
				}
				n++
			}
		}
		if begin < 0 {
			return "", fmt.Errorf("no line [[%s]] for number %d: it is written in another form", array, index+1)
		}
		return strings.Join(lines[:begin], ""), nil
	})
}

// headerOf is the header of a table that a line is, as "[[source]]"; "" for another line.
func headerOf(line string) string {
	line = strings.TrimSpace(line)
	if !strings.HasPrefix(line, "[") {
		return ""
	}
	line, _, _ = strings.Cut(line, "#")
	if line = strings.TrimSpace(line); !strings.HasSuffix(line, "]") {
		return ""
	}
	return line
}

// edit replaces a file by what change makes of it, if that is a right one, and
// each of the checks agrees.
func edit(file string, change func(text string) (string, error), checks ...func(*User) error) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("editing configuration: %w", err)
	}
	text, err := change(string(old))
	if err != nil {
		return fmt.Errorf("editing %s: %w", file, err)
	}
	// Relative paths begin at the folder of the file: the trial lies there, too.
	trial, err := os.CreateTemp(filepath.Dir(file), ".coffer.toml.trial*")
	if err != nil {
		return fmt.Errorf("editing configuration: %w", err)
	}
	_, err = trial.WriteString(text)
	if err = errors.Join(err, trial.Close()); err == nil {
		var u *User
		u, err = LoadUser(trial.Name())
		for _, check := range checks {
			if err == nil {
				err = check(u)
			}
		}
	}
	var fault *Error
	if errors.As(err, &fault) {
		fault.File = file
	}
	if err := errors.Join(err, os.Remove(trial.Name())); err != nil {
		return err
	}
	info, err := os.Stat(file)
	if err != nil {
		return fmt.Errorf("editing configuration: %w", err)
	}
	return durable.WriteFile(file, []byte(text), info.Mode().Perm())
}
