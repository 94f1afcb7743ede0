package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"

	"coffer/backup"
	"coffer/daemon"
	"coffer/internal/config"
	"coffer/keyring"
	"coffer/seal"
	"coffer/upstream"
	"coffer/vault"
)

// session is coffer on a terminal, with somebody who reads and types.
type session struct {
	t    *testing.T
	cmd  *exec.Cmd
	term *os.File
	mu   sync.Mutex
	out  bytes.Buffer
	seen int
	done chan struct{}
}

func startSession(t *testing.T, home string, args ...string) *session {
	t.Helper()
	cmd := exec.Command("coffer", args...)
	cmd.Dir = home
	cmd.Env = append(os.Environ(), "GORACE="+quickExit, "HOME="+home, "COFFER_CONFIG="+filepath.Join(home, "coffer.toml"), "XDG_RUNTIME_DIR="+home,
		"COFFER_TEST_VAULT="+filepath.Join(home, "vault.json"), "XDG_STATE_HOME=", "XDG_CACHE_HOME=", "TERM=xterm", "NO_COLOR=")
	f, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	s := &session{t: t, cmd: cmd, term: f, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		b := make([]byte, 4096)
		for {
			n, err := f.Read(b)
			s.mu.Lock()
			s.out.Write(b[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { _ = f.Close() })
	return s
}

// expect waits for text that matches, after what was expected before, and
// returns its submatches.
func (s *session) expect(pattern string) []string {
	s.t.Helper()
	re := regexp.MustCompile(pattern)
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		s.mu.Lock()
		rest := s.out.String()[s.seen:]
		if m := re.FindStringSubmatchIndex(rest); m != nil {
			var all []string
			for i := 0; i < len(m); i += 2 {
				all = append(all, rest[m[i]:m[i+1]])
			}
			s.seen += m[1]
			s.mu.Unlock()
			return all
		}
		s.mu.Unlock()
	}
	s.t.Fatalf("no %q in:\n%s", pattern, s.text())
	return nil
}

func (s *session) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.String()
}

func (s *session) send(line string) {
	s.t.Helper()
	if _, err := s.term.WriteString(line); err != nil {
		s.t.Fatal(err)
	}
}

// exit waits for the end and compares the status.
func (s *session) exit(want int) {
	s.t.Helper()
	<-s.done
	err := s.cmd.Wait()
	var e *exec.ExitError
	if err != nil && !errors.As(err, &e) {
		s.t.Fatal(err)
	}
	if got := s.cmd.ProcessState.ExitCode(); got != want {
		s.t.Fatalf("exit status %d, want %d:\n%s", got, want, s.text())
	}
}

// Who sets up on a terminal must type two groups of the digits back; a wrong one
// shows them again, and after three times nothing is set up.
func TestSetupShowsDigits(t *testing.T) {
	home := t.TempDir()
	show := regexp.MustCompile(`(?:[0-9a-f]{4}[ \r\n]+){15}[0-9a-f]{4}`)
	answer := func(s *session, wrong bool) {
		for range 2 {
			m := s.expect(`type group (\d+) of 16: `)
			shown := show.FindAllString(s.text(), -1)
			groups := strings.Fields(shown[len(shown)-1])
			var n int
			if _, err := fmt.Sscan(m[1], &n); err != nil {
				t.Fatal(err)
			}
			if wrong {
				s.send("zzzz\n")
			} else {
				s.send(strings.ToUpper(groups[n-1]) + "\n")
			}
		}
	}
	s := startSession(t, home, "setup")
	s.expect(`Where shall the backups lie`)
	s.send("folder:" + filepath.Join(home, "store") + "\n")
	for range 3 {
		answer(s, true)
	}
	s.expect("the digits were not confirmed; nothing was set up")
	s.exit(exitFailed)
	if _, err := os.Stat(filepath.Join(home, "coffer.toml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a configuration was written: %v", err)
	}
	s = startSession(t, home, "setup", "--upstream", "folder:store")
	answer(s, true)
	s.expect("not what is written above")
	answer(s, false)
	s.expect("This machine is set up")
	s.exit(exitOK)
}

// Passwords are typed twice, are not shown, and a guess on a terminal says how
// many are left.
func TestPasswordOnTerminal(t *testing.T) {
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, "fleet.cbor"), []byte("a fleet"), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := []string{"--upstream", "folder:store", "--vault-fleet", "fleet.cbor", "--vault-root", strings.Repeat("01", 32), "--account", "anna"}
	const password = "correct-horse-and-a-stapler"
	s := startSession(t, home, append([]string{"setup"}, flags...)...)
	for _, step := range []struct{ prompt, typed string }{
		{"New password: ", "password123"}, {"too easy to guess", ""},
		{"New password: ", password}, {"Again: ", password + "x"}, {"not the same", ""},
		{"New password: ", password}, {"Again: ", password},
	} {
		s.expect(step.prompt)
		if step.typed != "" {
			s.send(step.typed + "\n")
		}
	}
	s.expect("destroys it")
	s.expect("This machine is set up")
	s.exit(exitOK)
	if strings.Contains(s.text(), password) {
		t.Error("the password was shown")
	}
	for _, name := range []string{"coffer.toml", ".local"} {
		if err := os.RemoveAll(filepath.Join(home, name)); err != nil {
			t.Fatal(err)
		}
	}
	s = startSession(t, home, append([]string{"recover"}, flags...)...)
	s.expect("Attempts left: 3 of 3")
	s.expect("Password: ")
	s.send("violet\n")
	s.expect("Wrong password. 2 attempts left.")
	s.expect("Password: ")
	s.send(password + "\n")
	s.expect("This machine is set up")
	s.exit(exitOK)
}

// An interrupt while a password is asked for gives the terminal its echo back.
func TestInterruptedPrompt(t *testing.T) {
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, "fleet.cbor"), []byte("a fleet"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startSession(t, home, "setup", "--upstream", "folder:store", "--vault-fleet", "fleet.cbor", "--vault-root", strings.Repeat("01", 32), "--account", "anna")
	s.expect("New password: ")
	s.send("\x03") // control-C
	s.expect("interrupted")
	s.exit(exitInterrupted)
	if !strings.Contains(s.text(), "\x1b[1;31merror:") {
		t.Error("no colour on a terminal")
	}
}

// Each error that a package returns for callers to branch on has its exit status.
func TestExplain(t *testing.T) {
	for _, tt := range []struct {
		err  error
		code int
	}{
		{nil, 0}, {errors.New("x"), 1}, {usagef("x"), 2}, {errIncomplete, 3}, {keyring.ErrNoStore, 10}, {keyring.ErrLocked, 11}, {daemon.ErrLocked, 11},
		{seal.ErrKey, 12}, {&vault.WrongPassword{Left: 3}, 12}, {&vault.WrongPassword{Left: 3, RetryAfter: time.Minute}, 12}, {&vault.WrongPassword{}, 15},
		{vault.ErrUnavailable, 13}, {&vault.TooSoon{}, 14}, {vault.ErrDestroyed, 15}, {seal.ErrCorrupt, 16}, {backup.ErrCorrupt, 16}, {keyring.ErrProfile, 16},
		{upstream.ErrDamaged, 16}, {vault.ErrInconsistent, 16}, {upstream.ErrUnavailable, 75}, {&config.Error{Err: errors.New("x")}, 78}, {context.Canceled, 130},
		{&keyring.WeakPassword{}, 1}, {daemon.ErrUnknownSource, 2}, {backup.ErrAmbiguous, 2},
	} {
		if code, _ := explain(tt.err); code != tt.code {
			t.Errorf("%v: status %d, want %d", tt.err, code, tt.code)
		}
		if tt.err == nil {
			continue
		}
		wrapped := hint(fmt.Errorf("doing: %w", tt.err), "do that")
		if code, say := explain(wrapped); code != tt.code || say != "do that" {
			t.Errorf("%v, wrapped: status %d, hint %q", tt.err, code, say)
		}
	}
}

func TestParseUpstream(t *testing.T) {
	for _, tt := range []struct {
		flag string
		want config.Upstream
	}{
		{"folder:/mnt/x/../y", config.Upstream{Name: "folder", Type: "folder", Path: "/mnt/y"}},
		{"folder:/a:b", config.Upstream{Name: "folder", Type: "folder", Path: "/a:b"}},
		{"s3:https://s3.example.org/b", config.Upstream{Name: "s3", Type: "s3", Endpoint: "https://s3.example.org", Bucket: "b", PathStyle: true}},
		{"s3:http://127.0.0.1:9000/b/p/q/", config.Upstream{Name: "s3", Type: "s3", Endpoint: "http://127.0.0.1:9000", Bucket: "b", Prefix: "p/q/", PathStyle: true}},
		{"s3:https://s3.eu-central-1.amazonaws.com/b", config.Upstream{Name: "s3", Type: "s3", Endpoint: "https://s3.eu-central-1.amazonaws.com", Bucket: "b"}},
	} {
		got, err := parseUpstream(tt.flag)
		if err != nil || got != tt.want {
			t.Errorf("%s: got %+v, %v", tt.flag, got, err)
		}
		if again, err := parseUpstream(upstreamName(got)); err != nil || again != got {
			t.Errorf("%s: its name is %s, %v", tt.flag, upstreamName(got), err)
		}
	}
}

func TestNames(t *testing.T) {
	for path, want := range map[string]string{"/home/anna": "anna", "/x/My Docs": "My-Docs", "/": "", "/x/.config": "config"} {
		if got := sourceName(path); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
	if got := printable("a\x1b[31mb\u009bc\nd"); strings.ContainsAny(got, "\x1b\u009b") {
		t.Errorf("a file's name moves the cursor: %q", got)
	}
}

// The folders that a backup writes to are never in it.
func TestBackupOptionsLeaveOutOwnFolders(t *testing.T) {
	u := &config.User{StateDir: "/home/a/.local/state/coffer", CacheDir: "/var/cache", Host: "h", Upstreams: []config.Upstream{{Path: "/home/a/my [store]"}}}
	o := backupOptions(u, config.Source{Name: "home", Path: "/home/a", Exclude: []string{"*.tmp"}})
	want := []string{"*.tmp", "/.local/state/coffer", `/my\ \[store]`}
	if strings.Join(o.Exclude, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q, want %q", o.Exclude, want)
	}
}

// A run that could not read some files says which, and ends with 3.
func TestReportBackups(t *testing.T) {
	var out, errs bytes.Buffer
	a := &app{system: system{out: &out, err: &errs}}
	report := backup.Report{Failed: []backup.FileError{{Path: "/a\x1b", Err: "permission denied"}}, Warnings: []backup.FileError{{Path: "/b", Err: "changed"}}}
	err := a.reportBackups([]saved{{Source: "docs", Snapshot: "0123456789", Report: &report}})
	if code := a.finish(err); code != exitIncomplete {
		t.Errorf("status %d", code)
	}
	if !strings.Contains(errs.String(), "coffer: error: /a\uFFFD: permission denied\ncoffer: warning: /b: changed\n") || !strings.Contains(out.String(), "docs: snapshot 01234567") {
		t.Errorf("got %s%s", &errs, &out)
	}
	err = a.reportBackups([]saved{{Source: "docs", Error: "storage is full"}, {Source: "b", Report: &report}})
	if code := a.finish(err); code != exitFailed || !strings.Contains(errs.String(), "storage is full") {
		t.Errorf("status %d: %s", code, &errs)
	}
}

// Where nobody watches, progress is a line a minute.
func TestMeter(t *testing.T) {
	var errs bytes.Buffer
	a := &app{system: system{err: &errs}}
	m := a.meter("docs")
	m.update(backup.Progress{Phase: "store", Files: 1})
	if errs.Len() != 0 {
		t.Errorf("told at once: %s", &errs)
	}
	m.last = m.last.Add(-lineEvery)
	m.update(backup.Progress{Phase: "store", Files: 5, AllFiles: 10, Bytes: 500, AllBytes: 1000, Counted: true, Started: time.Now().Add(-time.Minute)})
	m.stop()
	if got := errs.String(); !strings.Contains(got, "coffer: docs: store, 5 of 10 files, 500 B of 1.0 kB, about 1m0s left") {
		t.Errorf("got %q", got)
	}
	a.json = true
	m = a.meter("docs")
	m.last = m.last.Add(-time.Hour)
	m.update(backup.Progress{})
	if strings.Count(errs.String(), "\n") != 1 {
		t.Error("a line with --json")
	}
}
