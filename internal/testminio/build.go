package testminio

import (
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
)

const module = "github.com/minio/minio"

// Program returns the path of the MinIO server, .cache/bin/minio beneath the root
// of the repository, built first if it is not there in the version of
// tools/go.mod. The first build takes minutes.
func Program() (string, error) {
	root, err := findRoot()
	if err != nil {
		return "", err
	}
	mod, err := os.ReadFile(filepath.Join(root, "tools", "go.mod"))
	if err != nil {
		return "", err
	}
	want := regexp.MustCompile(`(?m)^\s*` + regexp.QuoteMeta(module) + `\s+(v\S+)`).FindSubmatch(mod)
	if want == nil {
		return "", fmt.Errorf("tools/go.mod does not require %s", module)
	}
	bin := filepath.Join(root, ".cache", "bin")
	program := filepath.Join(bin, "minio")
	if hasVersion(program, string(want[1])) {
		return program, nil
	}
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(filepath.Join(bin, "minio.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close() // unlocks
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	if hasVersion(program, string(want[1])) {
		return program, nil // built while we waited
	}
	temp := program + ".new"
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", temp, module)
	cmd.Dir = filepath.Join(root, "tools")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w: %s", module, err, out)
	}
	return program, os.Rename(temp, program)
}

func hasVersion(program, version string) bool {
	info, err := buildinfo.ReadFile(program)
	return err == nil && info.Main.Path == module && info.Main.Version == version
}

// findRoot looks for the repository above the working directory, which for a
// test is its package's.
func findRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "tools", "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no tools/go.mod above the working directory")
		}
		dir = filepath.Dir(dir)
	}
}
