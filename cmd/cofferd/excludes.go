package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"coffer/backup"
	"coffer/daemon"
	"coffer/internal/config"
)

// excludes are the patterns of the sources as the configuration has them. It is
// a [web.Excludes].
type excludes struct {
	file   string // the configuration
	daemon *daemon.Daemon
}

// find reads the configuration, which may have changed since the daemon began.
func (e excludes) find(source string) (config.Source, int, error) {
	u, err := config.LoadUser(e.file)
	if err != nil {
		return config.Source{}, 0, err
	}
	i := slices.IndexFunc(u.Sources, func(s config.Source) bool { return s.Name == source })
	if i < 0 {
		return config.Source{}, 0, fmt.Errorf("%w: %q", daemon.ErrUnknownSource, source)
	}
	return u.Sources[i], i, nil
}

// Patterns is that of [web.Excludes].
func (e excludes) Patterns(source string) ([]string, error) {
	s, _, err := e.find(source)
	return s.Exclude, err
}

// Look is that of [web.Excludes].
func (e excludes) Look(ctx context.Context, source string, patterns []string) (backup.LeftOut, error) {
	return e.daemon.LeftOut(ctx, source, patterns)
}

// Save is that of [web.Excludes].
func (e excludes) Save(source string, patterns []string) error {
	s, i, err := e.find(source)
	if err != nil {
		return err
	}
	if err := unix.Access(filepath.Dir(e.file), unix.W_OK); errors.Is(err, syscall.EROFS) {
		return &daemon.Trouble{Err: fmt.Errorf("the daemon may not write its configuration: %w", err), Hint: "In a terminal: " + command(source, s.Exclude, patterns)}
	}
	if err := config.SetExclude(e.file, i, patterns); err != nil {
		return err
	}
	if _, err := e.daemon.ReloadConfig(); err != nil {
		return fmt.Errorf("the configuration is written, but not in force: %w", err)
	}
	return nil
}

// command is what does the same in a terminal.
func command(source string, before, after []string) string {
	var b strings.Builder
	b.WriteString("coffer source excludes " + source)
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
	for _, p := range before {
		if !slices.Contains(after, p) {
			b.WriteString(" --remove " + quote(p))
		}
	}
	for _, p := range after {
		if !slices.Contains(before, p) {
			b.WriteString(" --add " + quote(p))
		}
	}
	return b.String()
}
