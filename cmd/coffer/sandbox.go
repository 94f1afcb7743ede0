package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"

	"coffer/internal/config"
)

// sandbox looks whether the unit of the daemon, where there is one, may write to
// the folders upstream: it may to none that it does not name.
func (p *patient) sandbox(ctx context.Context, u *config.User) {
	name := "USER"
	if me, err := user.Current(); err == nil {
		name = me.Username
	}
	for _, of := range [][]string{{"--user", "coffer.service"}, {"coffer@" + name + ".service"}} {
		props := unitProperties(ctx, of)
		if props["ProtectSystem"] != "strict" || props["ActiveState"] == "inactive" && props["UnitFileState"] != "enabled" {
			continue // not there, not used, or changed by somebody who knows
		}
		edit := "sudo systemctl edit " + of[0]
		if len(of) > 1 {
			edit = "systemctl --user edit " + of[1]
		}
		for _, up := range u.Upstreams {
			if up.Type != "folder" || covered(up.Path, strings.Fields(props["ReadWritePaths"])) {
				continue
			}
			p.fail("sandbox", fmt.Errorf("%s may not write to %s", of[len(of)-1], up.Path),
				fmt.Sprintf("%s, add the lines \"[Service]\" and \"ReadWritePaths=%s\", and restart it", edit, up.Path))
		}
	}
}

// unitProperties asks systemd about a unit; nothing where there is no systemd.
func unitProperties(ctx context.Context, of []string) map[string]string {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	args := append([]string{"show", "-p", "ActiveState,UnitFileState,ProtectSystem,ReadWritePaths"}, of...)
	out, err := exec.CommandContext(ctx, "systemctl", args...).Output()
	props := make(map[string]string)
	if err != nil && errors.Is(err, exec.ErrNotFound) {
		return props
	}
	for line := range strings.Lines(string(out)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		props[k] = v
	}
	return props
}

// covered says whether path is one of the paths, or in one. A "-" before a path
// means that it need not be there.
func covered(path string, paths []string) bool {
	for _, p := range paths {
		rel, err := filepath.Rel(strings.TrimLeft(p, "-+"), path)
		if err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
			return true
		}
	}
	return false
}
