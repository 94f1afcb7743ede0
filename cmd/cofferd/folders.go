package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"coffer/backup"
	"coffer/daemon"
	"coffer/internal/config"
)

// folders says where the page may restore to. It is a [web.Folders].
type folders struct {
	c *config.User
}

// own is the folder for what is restored where no other can be written to. The
// daemon may write there under each of its units.
func (f folders) own() string { return filepath.Join(f.c.StateDir, "restored") }

// Suggest gives a new folder beside the source, else in the home directory, else
// in the state folder.
func (f folders) Suggest(s *backup.Snapshot) (dir, note string) {
	name := "restored-" + strings.Map(func(c rune) rune {
		if c == '/' || c < ' ' {
			return '-'
		}
		return c
	}, cmp.Or(s.Source, "files")) + "-" + time.Now().Format("20060102-150405")
	var beside []string
	if len(s.Paths) == 1 && s.Host == f.c.Host {
		beside = append(beside, filepath.Dir(s.Paths[0]))
	}
	if home, err := os.UserHomeDir(); err == nil {
		beside = append(beside, home)
	}
	var why error
	for _, at := range beside {
		dir := filepath.Join(at, name)
		if _, err := os.Stat(at); err != nil {
			continue
		}
		err := f.Check(dir)
		if err == nil {
			return dir, ""
		}
		why = cmp.Or(why, err)
	}
	if errors.Is(why, syscall.EROFS) {
		note = "The daemon may write to few places only: this is one of its own. Move from there what you need."
	}
	return filepath.Join(f.own(), name), note
}

// Check refuses a folder that coffer keeps for itself, and one that this process
// cannot write to.
func (f folders) Check(dir string) error {
	if !filepath.IsAbs(dir) || filepath.Clean(dir) != strings.TrimSuffix(dir, "/") || strings.ContainsRune(dir, 0) {
		return errors.New("a folder is written from the root on, as /home/anna/restored, without \"..\"")
	}
	at, real, err := existing(dir)
	if err != nil {
		return fmt.Errorf("%s cannot be looked at: %w", dir, err)
	}
	for _, own := range private(f.c) {
		if covers(own, real) && !covers(f.own(), real) {
			return fmt.Errorf("%s is for the files of coffer itself: choose a folder elsewhere", own)
		}
	}
	if info, err := os.Stat(at); err != nil || !info.IsDir() {
		return fmt.Errorf("%s is not a folder", at)
	}
	switch err := unix.Access(at, unix.W_OK|unix.X_OK); {
	case errors.Is(err, syscall.EROFS):
		return f.forbidden(dir, err)
	case err != nil:
		who := "its user"
		if me, err := user.Current(); err == nil {
			who = me.Username
		}
		return fmt.Errorf("the daemon runs as %s, who may not write to %s", who, at)
	}
	return nil
}

// forbidden explains that the unit of the daemon does not let it write.
func (f folders) forbidden(dir string, err error) error {
	hint := "Choose a folder below " + f.own()
	if edit := dropIn(dir); edit != "" {
		hint += ", or make this one and let the daemon write there: " + edit
	}
	return &daemon.Trouble{Err: fmt.Errorf("the daemon may not write to %s: %w", dir, err), Hint: hint + ". Or restore in a terminal, by the command below."}
}

// existing gives the nearest folder above dir that is there, and dir with its
// symlinks followed as far as it is there.
func existing(dir string) (at, real string, err error) {
	rest := ""
	for at = filepath.Clean(dir); ; at = filepath.Dir(at) {
		real, err = filepath.EvalSymlinks(at)
		if err == nil {
			return at, filepath.Join(real, rest), nil
		}
		if !errors.Is(err, os.ErrNotExist) || at == "/" {
			return "", "", err
		}
		rest = filepath.Join(filepath.Base(at), rest)
	}
}

// covers says whether path is dir, or in it.
func covers(dir, path string) bool {
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}
