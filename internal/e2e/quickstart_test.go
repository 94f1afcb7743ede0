package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// What the quick start tells a newcomer to type works, all of it, in that order.
func TestQuickStart(t *testing.T) {
	text, err := os.ReadFile("../../docs/QUICKSTART.md")
	if err != nil {
		t.Fatal(err)
	}
	script := "set -euo pipefail\n"
	blocks := strings.Split(string(text), "```sh\n")[1:]
	for _, b := range blocks {
		commands, _, ok := strings.Cut(b, "```")
		if !ok {
			t.Fatalf("a block of commands does not end:\n%s", b)
		}
		script += commands
	}
	if len(blocks) < 6 {
		t.Fatalf("only %d blocks of commands in the quick start", len(blocks))
	}
	_, port, _ := strings.Cut(freeAddress(t), ":")
	script = strings.ReplaceAll(script, "9421", port) // that one may be in use here

	m := newMachine(t)
	m.write("Documents/report.pdf", "%PDF-1.7 and so on")
	cmd := exec.CommandContext(t.Context(), "bash", "-c", script)
	cmd.Dir = m.home
	cmd.Env = []string{"HOME=" + m.home, "PATH=" + filepath.Dir(program(t, "coffer")) + ":" + os.Getenv("PATH"), "LANG=C.UTF-8", "XDG_RUNTIME_DIR=" + m.path("run")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	out, err := cmd.CombinedOutput()
	if cmd.Process != nil {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // a daemon that a failure left
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if n := strings.Count(string(out), "Dear Anna,"); n != 2 {
		t.Errorf("the letter was shown %d times, want twice:\n%s", n, out)
	}
	if !strings.Contains(string(out), "18 2026/report.pdf") {
		t.Errorf("aws does not list the object:\n%s", out)
	}
}
