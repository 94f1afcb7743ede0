package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"syscall"

	"coffer/backup"
	"coffer/daemon"
	"coffer/internal/config"
)

// unit is the service that this process is, as "coffer@anna.service", and whether
// a manager of its user runs it; "" outside of one.
func unit(cgroup string) (name string, ofUser bool) {
	for line := range strings.Lines(cgroup) {
		_, group, _ := strings.Cut(strings.TrimSpace(line), ":")
		_, group, _ = strings.Cut(group, ":")
		if last := path.Base(group); strings.HasSuffix(last, ".service") && !strings.HasPrefix(last, "user@") {
			return last, strings.Contains(group, "/user@")
		}
	}
	return "", false
}

// explain adds what to do to an error that the sandbox of the unit is the reason
// of: only what it lists can be written to.
func explain(err error, c *config.User) error {
	if !errors.Is(err, syscall.EROFS) {
		return err
	}
	var folders []string
	for _, u := range c.Upstreams {
		if u.Type == "folder" {
			folders = append(folders, u.Path)
		}
	}
	hint := "the file system is mounted read-only"
	if edit := dropIn(folders...); edit != "" {
		hint = "the unit may only write where it says: " + edit
	}
	return &daemon.Trouble{Err: err, Hint: hint, Lasting: true}
}

// dropIn says how the unit of this process is given folders to write to; "" outside
// of one.
func dropIn(folders ...string) string {
	cgroup, _ := os.ReadFile("/proc/self/cgroup") // none: no unit
	name, ofUser := unit(string(cgroup))
	if name == "" {
		return ""
	}
	edit := "sudo systemctl edit " + name
	if ofUser {
		edit = "systemctl --user edit " + name
	}
	return fmt.Sprintf("%s, add the lines \"[Service]\" and \"ReadWritePaths=%s\", and restart it", edit, strings.Join(folders, " "))
}

// repoInUnit is a repository whose errors are explained.
type repoInUnit struct {
	*backup.Repo
	c *config.User
}

// Backup implements [daemon.Repo].
func (r *repoInUnit) Backup(ctx context.Context, o backup.BackupOptions) (*backup.Snapshot, backup.Report, error) {
	s, report, err := r.Repo.Backup(ctx, o)
	return s, report, explain(err, r.c)
}

// unusable is the end of a daemon whose upstreams cannot be opened.
func unusable(err error, c *config.User) error {
	end := &exitError{err, exitConfig, ""}
	var trouble *daemon.Trouble
	if errors.As(explain(err, c), &trouble) {
		end.hint = trouble.Hint
	}
	return end
}
