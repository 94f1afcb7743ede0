package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binDir holds the three programs, built once per run of the tests.
var binDir string

var buildOnce = sync.OnceValue(func() error {
	for _, b := range []struct{ cgo, pkgs string }{
		{"CGO_ENABLED=0", "coffer/cmd/coffer coffer/cmd/cofferd"},
		{"CGO_ENABLED=1", "coffer/cmd/coffer-vault"},
	} {
		cmd := exec.Command("go", append([]string{"build", "-o", binDir + "/"}, strings.Fields(b.pkgs)...)...)
		cmd.Env = append(os.Environ(), b.cgo)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building %s: %w\n%s", b.pkgs, err, out)
		}
	}
	return nil
})

func TestMain(m *testing.M) {
	os.Unsetenv("AWS_CA_BUNDLE") // it breaks S3 clients against loopback
	dir, err := os.MkdirTemp("", "coffer-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binDir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// program returns the path of one of the three programs.
func program(t testing.TB, name string) string {
	t.Helper()
	if err := buildOnce(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(binDir, name)
}

// machine is one computer of a test: a home of its own and nothing else of the
// environment.
type machine struct {
	t    testing.TB
	home string
	env  []string
	said bytes.Buffer // all that its commands wrote, by say
}

func newMachine(t testing.TB, env ...string) *machine {
	t.Helper()
	home := t.TempDir()
	env = append([]string{"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8", "HOME=" + home,
		"XDG_RUNTIME_DIR=" + filepath.Join(home, "run"), "COFFER_CONFIG=" + filepath.Join(home, "coffer.toml")}, env...)
	return &machine{t: t, home: home, env: env}
}

// path names a file of the machine.
func (m *machine) path(elem ...string) string {
	return filepath.Join(append([]string{m.home}, elem...)...)
}

// run runs a program to its end; code is its exit status.
func (m *machine) run(name string, args ...string) (stdout, stderr string, code int) {
	m.t.Helper()
	path := name
	switch name {
	case "coffer", "cofferd", "coffer-vault":
		path = program(m.t, name)
	}
	cmd := exec.CommandContext(m.t.Context(), path, args...)
	cmd.Env = m.env
	cmd.Dir = m.home
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		m.t.Fatalf("%s: %v", name, err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

// must runs a program that has to succeed and returns what it printed.
func (m *machine) must(name string, args ...string) string {
	m.t.Helper()
	out, errOut, code := m.run(name, args...)
	if code != 0 {
		m.t.Fatalf("%s %s: exit status %d\n%s%s", name, strings.Join(args, " "), code, out, errOut)
	}
	return out
}

// say runs a program and keeps what it wrote in m.said.
func (m *machine) say(name string, args ...string) (stdout, stderr string, code int) {
	m.t.Helper()
	stdout, stderr, code = m.run(name, args...)
	m.said.WriteString(stdout + stderr)
	return stdout, stderr, code
}

// daemon is a program in the background.
type daemon struct {
	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{}
	log  string
}

// start runs a program in the background until the test ends; it dies with the
// test process, however that ends.
func (m *machine) start(name string, args ...string) *daemon {
	m.t.Helper()
	return m.startAs(name, name, args...)
}

// startAs is start with a name of its own for the log.
func (m *machine) startAs(as, name string, args ...string) *daemon {
	m.t.Helper()
	log := filepath.Join(m.home, as+".log")
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		m.t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(program(m.t, name), args...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = m.env, m.home, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	d := &daemon{t: m.t, cmd: cmd, done: make(chan struct{}), log: log}
	go func() {
		cmd.Wait()
		close(d.done)
	}()
	m.t.Cleanup(func() {
		d.stop()
		if m.t.Failed() {
			text, _ := os.ReadFile(log)
			m.t.Logf("%s:\n%s", as, text[max(0, len(text)-8000):])
		}
	})
	return d
}

// kill ends the program as a crash would.
func (d *daemon) kill() {
	d.cmd.Process.Kill()
	<-d.done
}

// abort has the program crash with all it can tell.
func (d *daemon) abort() {
	d.cmd.Process.Signal(syscall.SIGABRT)
	<-d.done
}

// text is what the program has logged.
func (d *daemon) text() string {
	d.t.Helper()
	text, err := os.ReadFile(d.log)
	if err != nil {
		d.t.Fatal(err)
	}
	return string(text)
}

// stop asks the program to end and makes sure that it does.
func (d *daemon) stop() {
	d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.done:
	case <-time.After(10 * time.Second):
		d.kill()
	}
}

// eventually calls ok until it says true; it fails the test after the limit.
func eventually(t testing.TB, what string, limit time.Duration, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
