// Package config reads the files of the user (coffer.toml, for coffer and
// cofferd) and of a vault node (coffer-vault.toml).
//
// The files are TOML and read strictly: an unknown key, a value of the wrong
// type or out of its range is an [*Error] that names file, line, column and
// field. A secret is never in these files: they name the file that holds it.
//
// A path may begin with "~/" (the home directory); one that is relative starts
// at the folder of the file it is written in. What the file leaves out has the
// default that its field documents, so that a loaded [User] or [Vault] is whole.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// maxFileSize bounds what is read: a configuration is a few pages.
const maxFileSize = 1 << 20

// Error says where in which file what is wrong.
type Error struct {
	File   string // as it was asked for
	Line   int    // from 1; 0 when the fault has no place, as a missing key
	Column int    // from 1, in bytes
	Field  string // as "source[1].path"; "" when the file is not TOML at all
	Err    error
}

// Error prints "file:line:column: field: what is wrong", without what is unknown.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
	}
	b.WriteString(": ")
	if e.Field != "" {
		b.WriteString(e.Field + ": ")
	}
	b.WriteString(e.Err.Error())
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// document is one file while it is read and checked.
type document struct {
	file      string               // for errors
	dir       string               // relative paths start here
	positions map[string]textPlace // by field, as [Error.Field] spells it
	err       error                // the first fault found
}

// decode reads file into v, which already holds the defaults.
func decode(file string, v any) (*document, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	if len(data) > maxFileSize {
		return nil, &Error{File: file, Err: fmt.Errorf("larger than %d bytes", maxFileSize)}
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	d := &document{file: file, dir: filepath.Dir(abs)}
	dec := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return nil, d.decodeError(err)
	}
	if d.positions, err = positions(data); err != nil {
		return nil, &Error{File: file, Err: err}
	}
	return d, nil
}

// decodeError puts the first fault that the TOML decoder found into an [*Error].
func (d *document) decodeError(err error) error {
	var missing *toml.StrictMissingError
	if errors.As(err, &missing) && len(missing.Errors) > 0 {
		first := &missing.Errors[0]
		line, column := first.Position()
		return &Error{d.file, line, column, strings.Join(first.Key(), "."), errors.New("unknown key")}
	}
	var de *toml.DecodeError
	if errors.As(err, &de) {
		line, column := de.Position()
		what := strings.TrimPrefix(de.Error(), "toml: ")
		return &Error{d.file, line, column, strings.Join(de.Key(), "."), errors.New(what)}
	}
	return &Error{File: d.file, Err: err}
}

// fail notes the first fault; field finds the line.
func (d *document) fail(field, format string, args ...any) {
	if d.err != nil {
		return
	}
	p := d.positions[field]
	if p.line == 0 { // a missing key: the table it belongs in
		if i := strings.LastIndexByte(field, '.'); i > 0 {
			p = d.positions[field[:i]]
		}
	}
	d.err = &Error{d.file, p.line, p.column, field, fmt.Errorf(format, args...)}
}
