package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"coffer/backup"
	"coffer/daemon"
	"coffer/internal/config"
	"coffer/keyring"
	"coffer/seal"
	"coffer/upstream"
)

// TestMain lets the tests start this binary as cofferd: it is then built as the
// tests are, with the race detector if they have it.
func TestMain(m *testing.M) {
	if os.Getenv("COFFERD_TEST_IS_PROGRAM") != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// machine is a computer that was set up: a source, a folder upstream, a key.
type machine struct {
	t      *testing.T
	dir    string
	key    seal.Key
	config *config.User
}

const secretKey = "canary-secret-of-the-gateway"

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, dir: t.TempDir(), key: seal.NewKey()}
	m.write("gateway.secret", secretKey+"\n")
	m.config = &config.User{
		StateDir: m.path("state"), CacheDir: m.path("cache"), Control: m.path("control.sock"), Host: "laptop",
		Upstreams: []config.Upstream{{Type: "folder", Path: m.path("upstream")}},
		Sources:   []config.Source{m.source("docs")},
		Gateway:   config.Gateway{Listen: "127.0.0.1:0", Keys: []config.GatewayKey{{AccessKey: "anna", SecretFile: m.path("gateway.secret")}}},
		Metrics:   config.Metrics{Listen: "127.0.0.1:0"},
	}
	m.writeConfig()
	profile := keyring.NewProfile(m.key, "laptop", time.Now(), keyring.Method{Kind: keyring.MethodDigits, Since: time.Now()})
	if err := keyring.Save(m.config.StateDir, profile, m.key); err != nil {
		t.Fatal(err)
	}
	if err := backup.Init(t.Context(), m.repoConfig(profile)); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *machine) path(elem ...string) string {
	return filepath.Join(append([]string{m.dir}, elem...)...)
}

func (m *machine) source(name string) config.Source {
	m.mkdir(name)
	return config.Source{Name: name, Path: m.path(name), Quiet: config.Duration(100 * time.Millisecond), MaxWait: config.Duration(2 * time.Second), Exclude: []string{"*.tmp"}}
}

func (m *machine) mkdir(name string) {
	m.t.Helper()
	if err := os.MkdirAll(m.path(name), 0o700); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) write(name, text string) {
	m.t.Helper()
	if err := os.WriteFile(m.path(name), []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) writeConfig() {
	m.t.Helper()
	if err := config.WriteUser(m.path("coffer.toml"), m.config); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) repoConfig(p keyring.Profile) backup.Config {
	m.t.Helper()
	b, err := upstream.NewFolder(m.path("upstream"))
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { b.Close() })
	return backup.Config{Bucket: b, Keys: m.key.Keys(p.Store)}
}

// repo opens the repository as another machine with the key would.
func (m *machine) repo() *backup.Repo {
	m.t.Helper()
	ring, err := keyring.Load(m.config.StateDir)
	if err != nil {
		m.t.Fatal(err)
	}
	r, err := backup.Open(m.t.Context(), m.repoConfig(ring.Profile()))
	if err != nil {
		m.t.Fatal(err)
	}
	return r
}

// process is cofferd, running.
type process struct {
	*daemon.Client
	m    *machine
	cmd  *exec.Cmd
	logs chan map[string]any // lines of the log, as far as somebody waits for them
	mu   sync.Mutex
	text bytes.Buffer // all of standard error
	done chan struct{}
}

func (m *machine) command(args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		m.t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = []string{"COFFERD_TEST_IS_PROGRAM=1", "GORACE=atexit_sleep_ms=10", // under the race detector it is a second
		"PATH=" + os.Getenv("PATH"), "HOME=" + m.dir, "COFFER_CONFIG=" + m.path("coffer.toml")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func (m *machine) start() *process { return m.startCommand(m.command()) }

func (m *machine) startCommand(cmd *exec.Cmd) *process {
	m.t.Helper()
	p := &process{Client: daemon.NewClient(m.config.Control), m: m, cmd: cmd, logs: make(chan map[string]any, 10000), done: make(chan struct{})}
	out, err := cmd.StderrPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.mu.Lock()
			fmt.Fprintln(&p.text, s.Text())
			p.mu.Unlock()
			var line map[string]any
			if json.Unmarshal(s.Bytes(), &line) == nil {
				select {
				case p.logs <- line:
				default:
				}
			}
		}
		cmd.Wait()
	}()
	m.t.Cleanup(func() {
		p.kill()
		if text := p.output(); m.t.Failed() {
			m.t.Logf("cofferd:\n%s", text[max(0, len(text)-6000):])
		} else if strings.Contains(text, "canary") || strings.Contains(text, keyring.Digits(m.key)) {
			m.t.Errorf("the log shows a secret:\n%s", text)
		}
	})
	return p
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

func (p *process) signal(s os.Signal) {
	p.m.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.m.t.Fatal(err)
	}
}

// stop ends it as systemd does and wants a clean exit.
func (p *process) stop() {
	p.m.t.Helper()
	p.signal(syscall.SIGTERM)
	<-p.done
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		p.m.t.Errorf("exit status %d after SIGTERM\n%s", code, p.output())
	}
}

// logged waits for a message in the log.
func (p *process) logged(message string) map[string]any {
	p.m.t.Helper()
	limit := time.After(30 * time.Second)
	for {
		select {
		case line := <-p.logs:
			if line["message"] == message {
				return line
			}
		case <-p.done:
			p.m.t.Fatalf("it ended before %q:\n%s", message, p.output())
		case <-limit:
			p.m.t.Fatalf("no %q in the log:\n%s", message, p.output())
		}
	}
}

// until waits for a state of the daemon.
func (p *process) until(what string, ok func(daemon.Status) bool) daemon.Status {
	p.m.t.Helper()
	end := time.Now().Add(60 * time.Second)
	for {
		st, err := p.Status(p.m.t.Context())
		if err == nil && ok(st) {
			return st
		}
		select {
		case <-p.done:
			p.m.t.Fatalf("it ended before %s:\n%s", what, p.output())
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(end) {
			p.m.t.Fatalf("no %s: %+v, %v\n%s", what, st, err, p.output())
		}
	}
}

// saved waits until all that was changed before the call is upstream.
func (p *process) saved(since time.Time) daemon.Status {
	p.m.t.Helper()
	return p.until("backup", func(st daemon.Status) bool {
		for _, s := range st.Sources {
			if s.State != "idle" || !s.PendingSince.IsZero() || s.LastSaved.Before(since) {
				return false
			}
		}
		return len(st.Sources) > 0
	})
}

// tree describes what is below dir: kinds, modes, times and contents.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		text := fmt.Sprint(info.Mode(), " ", info.ModTime().UnixNano())
		if info.Mode().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += fmt.Sprintf(" %d %x", len(b), b[:min(len(b), 64)])
		}
		all[rel] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// restored restores the newest snapshot of a source and compares it with the source.
func (m *machine) restored(source string) {
	m.t.Helper()
	r := m.repo()
	s, err := r.Find(m.t.Context(), "latest", source)
	if err != nil {
		m.t.Fatal(err)
	}
	to := filepath.Join(m.t.TempDir(), "out") // a folder that is there keeps its attributes
	if _, err := r.Restore(m.t.Context(), backup.RestoreOptions{Snapshot: s, To: to, Verify: true}); err != nil {
		m.t.Fatal(err)
	}
	want, got := tree(m.t, m.path(source)), tree(m.t, to)
	for name := range want {
		if strings.HasSuffix(name, ".tmp") {
			delete(want, name)
		}
	}
	for name := range want {
		if got[name] != want[name] {
			m.t.Errorf("%s/%s: restored as %q, want %q", source, name, got[name], want[name])
		}
	}
	if len(got) != len(want) {
		m.t.Errorf("%s: %d entries restored, want %d", source, len(got), len(want))
	}
}

// TestBackup is the life of a daemon: what is written is pushed within moments,
// what was excluded and the daemon's own files are not, and all comes back.
func TestBackup(t *testing.T) {
	m := newMachine(t)
	m.write("docs/before", "written before the daemon started")
	start := time.Now()
	p := m.start()
	p.saved(start)
	m.restored("docs")

	m.mkdir("docs/new/tree/of/directories")
	m.write("docs/new/tree/of/directories/file", "made at once")
	m.write("docs/before", "changed")
	m.write("docs/ignored.tmp", "x")
	p.until("change", func(st daemon.Status) bool {
		return !st.Sources[0].PendingSince.IsZero() || st.Sources[0].LastSaved.After(start)
	})
	if _, err := p.Backup(t.Context(), nil, nil); err != nil {
		t.Fatal(err)
	}
	m.restored("docs")

	before := time.Now()
	m.write("docs/new/tree/of/directories/file", "in a directory that was made later")
	p.saved(before)
	m.restored("docs")

	// Nothing changes now, so nothing may happen: a daemon that woke itself up
	// by its own reading or writing would go on for ever.
	st := p.saved(before)
	time.Sleep(500 * time.Millisecond)
	again, err := p.Status(t.Context())
	if err != nil || again.Sources[0].LastAttempt != st.Sources[0].LastAttempt {
		t.Errorf("it runs without a change: %+v, %v", again, err)
	}
	if st.Sources[0].Watch.Mode != "watching" || st.Sources[0].Watch.Directories != 5 {
		t.Errorf("watch: %+v", st.Sources[0].Watch)
	}
	p.stop()
	if _, err := p.Status(t.Context()); !errors.Is(err, daemon.ErrNotRunning) {
		t.Errorf("got %v, want %v", err, daemon.ErrNotRunning)
	}
}

// TestKill: a daemon that is killed in the middle of a backup saves everything
// after its next start, and leaves no damage.
func TestKill(t *testing.T) {
	m := newMachine(t)
	p := m.start()
	p.saved(time.Time{})
	for round := range 4 {
		for i := range 8 {
			b := make([]byte, 4<<20)
			rand.Read(b)
			m.write(fmt.Sprintf("docs/big-%d-%d", round, i), string(b))
		}
		p.until("running backup", func(st daemon.Status) bool { return st.Sources[0].State == "running" })
		time.Sleep(time.Duration(round) * 40 * time.Millisecond)
		p.kill()
		start := time.Now()
		p = m.start()
		p.saved(start)
	}
	m.restored("docs")
	report, err := m.repo().Check(t.Context(), backup.CheckOptions{ReadData: true})
	if err != nil || len(report.Problems) != 0 {
		t.Errorf("check: %+v, %v", report.Problems, err)
	}
	p.stop()
}

// TestHome: a source that holds the state, the cache and the upstream of its own
// daemon is saved without them, and does not keep the daemon busy.
func TestHome(t *testing.T) {
	m := newMachine(t)
	s := m.source("docs")
	s.Name, s.Path = "home", m.dir
	m.config.Sources = []config.Source{s}
	m.config.Metrics.Listen = ""
	m.writeConfig()
	m.write("docs/file", "x")
	p := m.start()
	st := p.saved(time.Time{})
	time.Sleep(500 * time.Millisecond)
	again, err := p.Status(t.Context())
	if err != nil || again.Sources[0].LastAttempt != st.Sources[0].LastAttempt {
		t.Errorf("it runs without a change: %+v, %v", again.Sources[0], err)
	}
	r := m.repo()
	snapshot, err := r.Find(t.Context(), "latest", "home")
	if err != nil {
		t.Fatal(err)
	}
	found := false
	err = r.Walk(t.Context(), snapshot, "/", func(path string, _ backup.Entry) error {
		found = found || strings.HasSuffix(path, "docs/file")
		for _, private := range []string{"state", "cache", "upstream"} {
			if strings.Contains(path, "/"+private+"/") || strings.HasSuffix(path, "/"+private) {
				t.Errorf("%s is in the snapshot", path)
			}
		}
		return nil
	})
	if err != nil || !found {
		t.Errorf("the file was found: %v, %v", found, err)
	}
	p.stop()
}

// TestLocked: without the key the daemon runs, says so, and begins when the key
// comes over the control socket; a wrong key is refused.
func TestLocked(t *testing.T) {
	m := newMachine(t)
	if err := os.Remove(m.path("state", "backup.key")); err != nil {
		t.Fatal(err)
	}
	m.write("docs/file", "x")
	p := m.start()
	s3 := "http://" + p.logged("gateway")["listen"].(string)
	st := p.until("answer", func(daemon.Status) bool { return true })
	if !st.Locked {
		t.Errorf("got %+v", st)
	}
	if _, err := p.Backup(t.Context(), nil, nil); !errors.Is(err, daemon.ErrLocked) {
		t.Errorf("got %v, want %v", err, daemon.ErrLocked)
	}
	if _, err := p.Unlock(t.Context(), seal.NewKey().Bytes()); err == nil {
		t.Error("a wrong key was taken")
	}
	if _, err := p.Unlock(t.Context(), m.key.Bytes()); err != nil {
		t.Fatal(err)
	}
	p.saved(time.Time{})
	resp, err := http.Get(s3)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("gateway without a signature: %s", resp.Status)
	}
	// Locked and unlocked again: the metrics of the repository are made anew.
	if st, err := p.Lock(t.Context()); err != nil || !st.Locked {
		t.Errorf("got %+v, %v", st, err)
	}
	if _, err := p.Unlock(t.Context(), m.key.Bytes()); err != nil {
		t.Fatal(err)
	}
	if last, err := p.Backup(t.Context(), nil, nil); err != nil || last[0].Kind != daemon.Saved {
		t.Errorf("got %+v, %v", last, err)
	}
	p.stop()
}

// TestMetrics: the metrics have the names that alerts are written for.
func TestMetrics(t *testing.T) {
	m := newMachine(t)
	m.write("docs/file", "x")
	p := m.start()
	url := "http://" + p.logged("metrics")["listen"].(string)
	p.saved(time.Time{})
	get := func(path string) (int, string) {
		resp, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	_, text := get("/metrics")
	for _, want := range []string{
		`coffer_backup_runs_total{result="ok",source="docs"} 1`, `coffer_backup_last_success_timestamp_seconds{source="docs"}`,
		`coffer_backup_uploaded_bytes_total`, `coffer_watch_directories{source="docs"} 1`, `coffer_locked 0`,
		`coffer_build_info{`, `coffer_config_last_reload_success 1`, `coffer_backup_lag_seconds{source="docs"} 0`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	if code, text := get("/readyz"); code != 200 {
		t.Errorf("readyz: %d %s", code, text)
	}
	if _, err := p.Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	if code, _ := get("/readyz"); code != 503 {
		t.Errorf("readyz while locked: %d", code)
	}
	if code, _ := get("/livez"); code != 200 {
		t.Errorf("livez while locked: %d", code)
	}
	p.stop()
}

// TestReload: SIGHUP takes new sources without a restart, and a file with a
// fault changes nothing.
func TestReload(t *testing.T) {
	m := newMachine(t)
	p := m.start()
	pid := p.saved(time.Time{}).PID
	m.config.Sources = append(m.config.Sources, m.source("pics"))
	m.write("pics/file", "x")
	m.writeConfig()
	p.signal(syscall.SIGHUP)
	p.logged("configuration reloaded")
	st := p.until("two sources", func(st daemon.Status) bool { return len(st.Sources) == 2 && !st.Sources[1].LastSaved.IsZero() })
	if st.PID != pid {
		t.Errorf("process %d, was %d", st.PID, pid)
	}
	m.restored("pics")
	m.write("coffer.toml", "sorce = 1\n")
	p.signal(syscall.SIGHUP)
	if line := p.logged("configuration was not reloaded"); !strings.Contains(fmt.Sprint(line["error"]), "coffer.toml:1:1: sorce: unknown key") {
		t.Errorf("got %v", line)
	}
	if st, err := p.Status(t.Context()); err != nil || len(st.Sources) != 2 {
		t.Errorf("got %+v, %v", st, err)
	}
	m.config.Gateway.Names = "clear"
	m.writeConfig()
	p.signal(syscall.SIGHUP)
	if line := p.logged("some of what has changed needs a restart"); fmt.Sprint(line["settings"]) != "[gateway]" {
		t.Errorf("got %v", line)
	}
	p.stop()
}

// TestActivation: sockets that systemd opened are served, and stay when the
// daemon ends.
func TestActivation(t *testing.T) {
	m := newMachine(t)
	control, err := net.ListenUnix("unix", &net.UnixAddr{Name: m.config.Control, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	control.SetUnlinkOnClose(false)
	s3, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer s3.Close()
	m.config.Gateway.Listen = "127.0.0.1:1" // would fail
	m.writeConfig()
	for range 2 {
		self := m.command()
		cmd := exec.Command("sh", "-c", "LISTEN_PID=$$ exec "+self.Path)
		cmd.Env = append(self.Env, "LISTEN_FDS=2", "LISTEN_FDNAMES=control:s3")
		cmd.SysProcAttr = self.SysProcAttr
		for _, l := range []interface{ File() (*os.File, error) }{control, s3.(*net.TCPListener)} {
			f, err := l.File()
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		}
		p := m.startCommand(cmd)
		p.saved(time.Time{})
		resp, err := http.Get("http://" + s3.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		p.stop()
		if _, err := os.Stat(m.config.Control); err != nil {
			t.Errorf("the socket of systemd was removed: %v", err)
		}
	}
}

// TestExit: what went wrong is said in words and in the exit status.
func TestExit(t *testing.T) {
	m := newMachine(t)
	p := m.start()
	p.until("answer", func(daemon.Status) bool { return true })
	other := *m.config
	other.Gateway.Listen, other.Metrics.Listen = "", ""
	if err := config.WriteUser(m.path("second.toml"), &other); err != nil {
		t.Fatal(err)
	}
	other.StateDir = m.path("elsewhere")
	if err := config.WriteUser(m.path("elsewhere.toml"), &other); err != nil {
		t.Fatal(err)
	}
	public := *m.config
	public.Gateway.Keys = []config.GatewayKey{{AccessKey: "anna", SecretFile: m.path("public")}}
	m.write("public", secretKey)
	if err := os.Chmod(m.path("public"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := config.WriteUser(m.path("public.toml"), &public); err != nil {
		t.Fatal(err)
	}
	m.write("broken.toml", "[[source]]\nname = 3\n")
	for _, tt := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"--config", m.path("none.toml")}, 78, "cofferd: hint: "},
		{[]string{"--config", m.path("broken.toml")}, 78, "broken.toml:2:8: "},
		{[]string{"--config", m.path("elsewhere.toml")}, 78, `cofferd: hint: "coffer setup"`},
		{[]string{"--config", m.path("public.toml")}, 78, "lets others read it"},
		{[]string{"--config", m.path("second.toml")}, 75, "is running already"},
		{[]string{"--speed"}, 2, "cofferd: hint: "},
		{[]string{"extra"}, 2, `unexpected argument "extra"`},
		{[]string{"--version"}, 0, ""},
		{[]string{"--help"}, 0, "-config"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		cmd := m.command(tt.args...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
		err := cmd.Run()
		stop()
		if got := cmd.ProcessState.ExitCode(); got != tt.status || !strings.Contains(stderr.String(), tt.want) {
			t.Errorf("%v: exit status %d (%v), want %d with %q:\n%s", tt.args, got, err, tt.status, tt.want, stderr.String())
		}
	}
	p.stop()
}
