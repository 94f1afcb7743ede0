package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// SetExclude replaces the exclude patterns of the source with the index, from 0,
// in a coffer.toml, and leaves every other line as it is.
func SetExclude(file string, index int, patterns []string) error {
	for _, p := range patterns {
		if strings.TrimSpace(p) == "" || strings.ContainsAny(p, "\n\r\x00") {
			return fmt.Errorf("%q is no pattern", p)
		}
	}
	before, err := LoadUser(file)
	if err != nil {
		return err
	}
	if index < 0 || index >= len(before.Sources) {
		return fmt.Errorf("editing %s: no source with number %d", file, index+1)
	}
	before.Sources[index].Exclude = patterns
	return editTo(file, before, func(text string) (string, error) { return setExclude(text, index, patterns) })
}

// editTo is edit for a change that must come to want, and nothing else.
func editTo(file string, want *User, change func(string) (string, error)) error {
	return edit(file, change, func(got *User) error {
		for i := range got.Sources { // none and an empty list are the same
			if len(got.Sources[i].Exclude) == 0 && i < len(want.Sources) && len(want.Sources[i].Exclude) == 0 {
				got.Sources[i].Exclude = want.Sources[i].Exclude
			}
		}
		if !reflect.DeepEqual(got, want) {
			return errors.New("the table is written in a form that is left to an editor")
		}
		return nil
	})
}

func setExclude(text string, index int, patterns []string) (string, error) {
	lines := strings.SplitAfter(text, "\n")
	begin, end := tableLines(lines, "source", index)
	if begin < 0 {
		return "", fmt.Errorf("no line [[source]] for number %d: it is written in another form", index+1)
	}
	var b strings.Builder
	if len(patterns) > 0 {
		enc, err := toml.Marshal(struct {
			Exclude []string `toml:"exclude"`
		}{patterns})
		if err != nil {
			return "", err
		}
		b.Write(enc)
	}
	body := strings.Join(lines[begin:end], "")
	from, to := exclusion(body)
	if from < 0 { // at the end of what is written of the table
		kept := strings.TrimRight(body, "\n")
		rest := strings.TrimPrefix(body[len(kept):], "\n")
		if kept != "" {
			kept += "\n"
		}
		body, from, to = kept+rest, len(kept), len(kept)
	}
	return strings.Join(lines[:begin], "") + body[:from] + b.String() + body[to:] + strings.Join(lines[end:], ""), nil
}

// tableLines finds the lines of a table of an array, without its header and
// without the tables within it; begin is -1 if it is not there.
func tableLines(lines []string, array string, index int) (begin, end int) {
	begin = -1
	for i, line := range lines {
		header := headerOf(line)
		switch {
		case header == "":
		case begin >= 0:
			return begin, i
		case header == "[["+array+"]]":
			if index == 0 {
				begin = i + 1
			}
			index--
		}
	}
	return begin, len(lines)
}

// exclusion finds the key "exclude" and its array, up to the end of its last
// line; from is -1 if it is not there.
func exclusion(body string) (from, to int) {
	at := 0
	for line := range strings.SplitAfterSeq(body, "\n") {
		key, value, found := strings.Cut(line, "=")
		if key = strings.TrimSpace(key); found && slices.Contains([]string{"exclude", `"exclude"`, "'exclude'"}, key) {
			n := arrayEnd(body[at+len(line)-len(value):])
			if n < 0 {
				return -1, -1
			}
			to = at + len(line) - len(value) + n
			if i := strings.IndexByte(body[to:], '\n'); i >= 0 {
				return at, to + i + 1
			}
			return at, len(body)
		}
		at += len(line)
	}
	return -1, -1
}

// arrayEnd is behind the bracket that closes an array of strings; -1 if none does.
func arrayEnd(text string) int {
	var quote byte
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quote == '"' && c == '\\':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '#':
			if n := strings.IndexByte(text[i:], '\n'); n >= 0 {
				i += n
			}
		case c == ']':
			return i + 1
		}
	}
	return -1
}
