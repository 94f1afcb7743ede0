package config

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"coffer/internal/secret"
)

// maxSocketPath is what sun_path of unix(7) holds, less the zero byte.
const maxSocketPath = 107

// path expands the path in *p; an empty one stays empty.
func (d *document) path(field string, p *string) {
	if *p == "" {
		return
	}
	full, err := Expand(d.dir, *p)
	if err != nil {
		d.fail(field, "%w", err)
		return
	}
	*p = full
}

// Expand makes path absolute: "~" and "~/..." begin at the home directory, a
// relative one at dir. "$CREDENTIALS_DIRECTORY/...", a credential of systemd, stays.
func Expand(dir, path string) (string, error) {
	if strings.HasPrefix(path, secret.Credentials) {
		return path, nil
	}
	if strings.IndexByte(path, 0) >= 0 {
		return "", fmt.Errorf("path holds a zero byte")
	}
	if path == "~" || strings.HasPrefix(path, "~/") {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("expanding %q: %w", path, err)
		}
		return filepath.Join(home, path[1:]), nil
	}
	if strings.HasPrefix(path, "~") {
		return "", fmt.Errorf("%q: only ~/ is expanded, not the home of another user", path)
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	return filepath.Clean(path), nil
}

// UserFile is where coffer.toml is looked for when nobody names it:
// $COFFER_CONFIG, else $XDG_CONFIG_HOME/coffer/coffer.toml, else
// ~/.config/coffer/coffer.toml.
func UserFile() string {
	if file := os.Getenv("COFFER_CONFIG"); file != "" {
		return file
	}
	return filepath.Join(home("XDG_CONFIG_HOME", ".config"), "coffer", "coffer.toml")
}

// serviceDir is the first folder that systemd gave the unit in variable, as
// StateDirectory= does with STATE_DIRECTORY; "" outside of a unit.
func serviceDir(variable string) string {
	first, _, _ := strings.Cut(os.Getenv(variable), ":")
	return first
}

// home is the folder that an XDG variable names, else rest below the home.
func home(variable string, rest ...string) string {
	if dir := os.Getenv(variable); filepath.IsAbs(dir) {
		return dir
	}
	dir, err := os.UserHomeDir()
	if err != nil {
		dir = "/" // no $HOME: a service without one has its folders from systemd
	}
	return filepath.Join(append([]string{dir}, rest...)...)
}

// defaultDir is the folder of a service when systemd gave one, else "coffer"
// in the XDG folder.
func defaultDir(service, xdg string, rest ...string) string {
	if dir := serviceDir(service); dir != "" {
		return dir
	}
	return filepath.Join(home(xdg, rest...), "coffer")
}

// systemSockets has a folder for each user whose daemon is a unit of the system.
const systemSockets = "/run/coffer-sock"

// defaultControl is the control socket for a daemon that keeps state in stateDir.
func defaultControl(stateDir string) string {
	if u, err := user.Current(); err == nil {
		socket := filepath.Join(systemSockets, u.Username, "control.sock")
		if _, err := os.Stat(socket); err == nil {
			return socket
		}
	}
	if dir := serviceDir("RUNTIME_DIRECTORY"); dir != "" {
		return filepath.Join(dir, "control.sock")
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "coffer", "control.sock")
	}
	return filepath.Join(stateDir, "control.sock")
}
