package scan

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// Absolute makes paths absolute and clean. Of several, symlinks above them are
// resolved: the walk to them does not follow any.
func Absolute(paths []string) ([]string, error) {
	if len(paths) == 0 {
		return nil, errors.New("no path to back up")
	}
	out := make([]string, 0, len(paths))
	for _, p := range paths {
		abs, err := filepath.Abs(p)
		if err != nil {
			return nil, fmt.Errorf("path %q: %w", p, err)
		}
		if len(paths) > 1 && abs != "/" {
			dir, err := filepath.EvalSymlinks(filepath.Dir(abs))
			if err == nil {
				abs = filepath.Join(dir, filepath.Base(abs))
			}
		}
		out = append(out, strings.TrimSuffix(abs, "\x00"))
	}
	return out, nil
}

// join puts a name below an absolute path.
func join(dir, name string) string {
	if dir == "/" {
		return dir + name
	}
	return dir + "/" + name
}

// splitPath returns the names in a path.
func splitPath(p string) []string {
	return strings.FieldsFunc(p, func(c rune) bool { return c == '/' })
}
