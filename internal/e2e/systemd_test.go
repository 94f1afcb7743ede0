package e2e

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const unitDir = "../../systemd"

// TestUnitScores: a line that falls out of a unit opens a door that nobody sees.
func TestUnitScores(t *testing.T) {
	for unit, most := range map[string]float64{
		"system/coffer@.service":              1.3,
		"system/coffer-vault@.service":        1.0,
		"system/coffer-notify@.service":       1.3,
		"system/coffer-notify-all.service":    1.6,
		"system/coffer-vault-notify@.service": 1.3,
		"system/coffer-verify@.service":       0.5,
		"system/coffer-all.service":           1.6, // it may read every file: that is what it is for
		"user/coffer.service":                 2.7, // scored as if root ran it
	} {
		out, err := exec.CommandContext(t.Context(), "systemd-analyze", "security", "--offline=true", "--no-pager", filepath.Join(unitDir, unit)).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", unit, err, out)
			continue
		}
		m := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindSubmatch(out)
		if m == nil {
			t.Errorf("%s: no score in\n%s", unit, out)
			continue
		}
		if score, err := strconv.ParseFloat(string(m[1]), 64); err != nil || score > most {
			t.Errorf("%s: score %s (%v), at most %v", unit, m[1], err, most)
		}
	}
}

// booted is a machine with a systemd of its own; see testdata/boot.sh.
type booted struct {
	t   *testing.T
	pid int // of its systemd, as this machine sees it

	fleetRoot string // public root key of its fleet, in hexadecimal
}

// boot starts one with the programs and units of the repository installed, and
// ends it with the test.
func boot(t *testing.T) *booted {
	t.Helper()
	install := t.TempDir()
	for _, name := range []string{"coffer", "cofferd", "coffer-vault"} {
		copyFile(t, program(t, name), filepath.Join(install, "usr/bin", name), 0o755)
	}
	for from, to := range map[string]string{"system": "usr/lib/systemd/system", "user": "usr/lib/systemd/user", "sysusers.d": "usr/lib/sysusers.d", "tmpfiles.d": "usr/lib/tmpfiles.d"} {
		files, err := os.ReadDir(filepath.Join(unitDir, from))
		if err != nil || len(files) == 0 {
			t.Fatalf("no units in %s: %v", from, err)
		}
		for _, f := range files {
			copyFile(t, filepath.Join(unitDir, from, f.Name()), filepath.Join(install, to, f.Name()), 0o644)
		}
	}
	b := bootWith(t, install)
	b.must("systemd-sysusers")
	b.must("systemd-tmpfiles", "--create", "/usr/lib/tmpfiles.d/coffer.conf")
	return b
}

// bootWith starts one with what is in install over its root.
func bootWith(t *testing.T, install string) *booted {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "coffer-boot-") // overlayfs wants no overlay beneath
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("coffer-test-%d", os.Getpid())
	cmd := exec.Command("bash", "testdata/boot.sh", name, dir, install)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	b := &booted{t: t}
	t.Cleanup(func() {
		if b.pid != 0 {
			b.try("systemctl", "--no-block", "poweroff")
		}
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Error("the booted systemd did not power off")
			_ = cmd.Process.Kill() // unshare takes its systemd with it
			<-ended
		}
		removeGroups(t, name)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "systemd boots", time.Minute, func() bool {
		select {
		case <-ended:
			t.Fatalf("boot.sh ended:\n%s", &out)
		default:
		}
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
		pid, err := strconv.Atoi(strings.TrimSpace(string(children)))
		if err != nil {
			return false
		}
		if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); strings.TrimSpace(string(comm)) != "systemd" {
			return false
		}
		b.pid = pid
		state, _ := b.try("systemctl", "is-system-running")
		return strings.HasPrefix(state, "running") || strings.HasPrefix(state, "degraded")
	})
	return b
}

// removeGroups removes the cgroups that the booted systemd made.
func removeGroups(t *testing.T, name string) {
	for _, top := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		root := filepath.Join(top, name)
		if _, err := os.Stat(root); err != nil {
			continue
		}
		var dirs []string
		_ = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for i := len(dirs) - 1; i >= 0; i-- {
			if err := os.Remove(dirs[i]); err != nil {
				t.Error(err)
			}
		}
	}
}

func copyFile(t *testing.T, from, to string, perm os.FileMode) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o755)
	}
	if err == nil {
		err = os.WriteFile(to, data, perm)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// try runs a command inside.
func (b *booted) try(args ...string) (out string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"-t", strconv.Itoa(b.pid), "-m", "-p", "-u", "-i", "-n", "-C", "--"}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "SYSTEMD_PAGER=", "TERM=dumb"}
	text, err := cmd.CombinedOutput()
	return string(text), err
}

func (b *booted) must(args ...string) string {
	b.t.Helper()
	out, err := b.try(args...)
	if err != nil {
		journal, _ := b.try("journalctl", "--no-pager", "-n", "60", "-o", "cat")
		b.t.Fatalf("%s: %v\n%s\njournal:\n%s", strings.Join(args, " "), err, out, journal)
	}
	return out
}

// sh runs a shell command as a user.
func (b *booted) sh(user, script string) string {
	b.t.Helper()
	return b.must("runuser", "-u", user, "--", "env", "HOME=/home/"+user, "bash", "-euc", script)
}

// file writes a file of root.
func (b *booted) file(path, text string) {
	b.t.Helper()
	b.must("bash", "-euc", `mkdir -p "$(dirname "$1")" && printf %s "$2" > "$1"`, "-", path, text)
}

// property reads what systemd knows of a unit.
func (b *booted) property(unit, name string) string {
	b.t.Helper()
	return strings.TrimSpace(b.must("systemctl", "show", "--value", "-p", name, unit))
}

// daemonStatus asks cofferd of alice over its socket.
func (b *booted) daemonStatus() map[string]any {
	b.t.Helper()
	out := b.must("curl", "-sS", "--max-time", "30", "--unix-socket", "/run/coffer-sock/alice/control.sock", "http://cofferd/v1/status")
	var st map[string]any
	if err := json.Unmarshal([]byte(out), &st); err != nil {
		b.t.Fatalf("%v: %s", err, out)
	}
	return st
}

// TestSystemd boots a real systemd and has alice's daemon run as its unit: it
// notifies, backs up from inside the sandbox, reloads, comes back after a kill
// and after the watchdog, and takes the key as a credential.
func TestSystemd(t *testing.T) {
	b := boot(t)
	if out := b.must("systemd-analyze", "verify", "--man=no", "coffer@alice.service", "coffer@alice.socket", "coffer-all.service",
		"coffer-vault@n1.service", "coffer-vault@n1.socket", "coffer-notify@alice.service", "coffer-notify-all.service", "coffer-vault-notify@n1.service", "coffer-verify@alice.timer", "coffer.target", "coffer-vault.target", "coffer.slice"); strings.Contains(out, "coffer") {
		t.Errorf("systemd-analyze verify:\n%s", out)
	}
	b.must("useradd", "--create-home", "alice")
	b.must("install", "-d", "-o", "alice", "-m", "700", "/srv/alice")
	b.file("/etc/systemd/system/coffer@alice.service.d/test.conf", "[Service]\nReadWritePaths=/srv/alice\nRestartSec=100ms\nWatchdogSec=2s\nTimeoutAbortSec=1s\nStartLimitBurst=100\n")
	b.must("systemctl", "daemon-reload")

	// Before the setup it says once what is missing.
	if out, err := b.try("systemctl", "start", "coffer@alice.service"); err == nil {
		t.Errorf("started without a configuration: %s", out)
	}
	if got := b.property("coffer@alice.service", "NRestarts") + b.property("coffer@alice.service", "ExecMainStatus"); got != "078" {
		t.Errorf("restarts and exit status %s, want none and 78", got)
	}
	b.sh("alice", `mkdir ~/docs; echo first > ~/docs/file; coffer setup --upstream folder:/srv/alice/store --source docs=$HOME/docs --digits-file ~/digits >/dev/null
		printf '[log]\nlevel = "debug"\n' >> ~/.config/coffer/coffer.toml
		sed -i 's/^path = .*docs.*/&\nquiet = "100ms"/' ~/.config/coffer/coffer.toml`)
	b.must("systemctl", "reset-failed")
	b.must("systemctl", "enable", "--now", "coffer@alice.socket")
	b.must("systemctl", "enable", "--now", "coffer@alice.service") // returns when it has notified
	if got := b.property("coffer@alice.service", "ActiveState") + " " + b.property("coffer@alice.service", "Type"); got != "active notify" {
		t.Errorf("got %s, want active notify", got)
	}
	b.sh("alice", `echo canary-In"halt"-Qz4 > ~/docs/file; coffer backup >/dev/null; coffer restore latest --to ~/back >/dev/null; cmp ~/docs/file ~/back/file`)
	eventually(t, "status text", 10*time.Second, func() bool {
		return strings.HasPrefix(b.property("coffer@alice.service", "StatusText"), "1 source, last saved ")
	})
	if out, err := b.try("runuser", "-u", "nobody", "--", "curl", "-sS", "--unix-socket", "/run/coffer-sock/alice/control.sock", "http://cofferd/v1/status"); err == nil {
		t.Errorf("somebody else was answered: %s", out)
	}

	b.verifies()
	pid := b.property("coffer@alice.service", "MainPID")
	b.must("systemctl", "reload", "coffer@alice.service")
	if got := b.property("coffer@alice.service", "MainPID"); got != pid {
		t.Errorf("process %s after the reload, was %s", got, pid)
	}
	b.restarts()
	b.credential()
	b.tells()
	b.tellsOfAll()
	if out := b.must("journalctl", "--no-pager", "-u", "coffer@alice.service", "-p", "info", "-o", "cat"); !strings.Contains(out, "backup saved") {
		t.Errorf("no backup in the journal:\n%s", out)
	}
	b.canaries()
	b.must("systemctl", "stop", "coffer@alice.socket", "coffer@alice.service")
	if got := b.property("coffer@alice.service", "Result"); got != "success" {
		t.Errorf("stopped with %s", got)
	}
}

// restarts shows that no request is lost over restarts and kills, and that a
// process that is killed, or hangs, is replaced.
func (b *booted) restarts() {
	b.t.Helper()
	asked := make(chan string, 1)
	go func() {
		out, err := b.try("runuser", "-u", "alice", "--", "env", "HOME=/home/alice", "bash", "-uc",
			`n=0; until [ -e /run/enough ]; do coffer --json status >~/answer && grep -q '"pid"' ~/answer || { echo lost after $n; exit 1; }; n=$((n+1)); done; echo $n`)
		asked <- fmt.Sprint(strings.TrimSpace(out), err)
	}()
	for range 5 {
		b.must("systemctl", "restart", "coffer@alice.service")
	}
	for range 3 {
		b.replaced("KILL")
	}
	b.must("touch", "/run/enough")
	out := <-asked
	if n, err := strconv.Atoi(strings.TrimSuffix(out, "<nil>")); err != nil || n < 8 { // each waits while a daemon starts
		b.t.Errorf("requests over 5 restarts and 3 kills: %s", out)
	}
	for signal, result := range map[string]string{"KILL": "signal", "STOP": "watchdog"} {
		b.replaced(signal)
		if out := b.must("journalctl", "--no-pager", "-u", "coffer@alice.service", "-o", "cat"); !strings.Contains(out, "coffer@alice.service: Failed with result '"+result+"'") {
			b.t.Errorf("%s: no result %s in the journal:\n%s", signal, result, out)
		}
		if st := b.daemonStatus(); st["locked"] != false {
			b.t.Errorf("after %s: %v", signal, st)
		}
	}
}

// replaced sends the daemon a signal that ends it, and waits for the next one.
func (b *booted) replaced(signal string) {
	b.t.Helper()
	pid := b.property("coffer@alice.service", "MainPID")
	b.must("kill", "-"+signal, pid)
	eventually(b.t, "a new process after "+signal, 20*time.Second, func() bool {
		now := b.property("coffer@alice.service", "MainPID")
		return now != "0" && now != pid && b.property("coffer@alice.service", "ActiveState") == "active"
	})
}

// verifies has the unit of the timer ask for a check and a restore, inside its
// sandbox and the daemon's.
func (b *booted) verifies() {
	b.t.Helper()
	b.must("systemctl", "enable", "--now", "coffer-verify@alice.timer")
	b.must("systemctl", "start", "coffer-verify@alice.service") // returns when it has ended well
	out := b.sh("alice", "coffer maintain")
	for _, want := range []string{"all there: ", "read back, part 1 of 26; ", "files restored: 1 (18 B), of them 1 the same as on this machine"} {
		if !strings.Contains(out, want) {
			b.t.Errorf("no %q in\n%s", want, out)
		}
	}
	b.must("systemctl", "disable", "--now", "coffer-verify@alice.timer")
}

// tells has a daemon that cannot start tell so by webhook, and by what the unit
// may write to.
func (b *booted) tells() {
	b.t.Helper()
	b.hook()
	b.sh("alice", `echo http://127.0.0.1:8099/can"ary" > ~/hook.url; chmod 600 ~/hook.url
		printf '[notify.webhook]\nurl_file = "/home/alice/hook.url"\n' >> ~/.config/coffer/coffer.toml
		sed -i 's|^path = .*/srv/alice/store.*|path = "/srv/elsewhere/store"|' ~/.config/coffer/coffer.toml`)
	b.must("install", "-d", "-o", "alice", "-m", "700", "/srv/elsewhere")
	b.must("cp", "-a", "/srv/alice/store", "/srv/elsewhere/store")
	if out, err := b.try("systemctl", "restart", "coffer@alice.service"); err == nil {
		b.t.Errorf("started though its upstream is read-only: %s", out)
	}
	out := b.must("journalctl", "--no-pager", "-u", "coffer@alice.service", "-o", "cat", "-n", "20")
	if want := `sudo systemctl edit coffer@alice.service, add the lines "[Service]" and "ReadWritePaths=/srv/elsewhere/store"`; !strings.Contains(out, want) {
		b.t.Errorf("no %s in\n%s", want, out)
	}
	eventually(b.t, "the webhook hears of it", 30*time.Second, func() bool {
		told, _ := b.try("cat", "/srv/told")
		return strings.Contains(told, "the backup daemon has failed and does not run") && !strings.Contains(told, "alice")
	})
	// What the message says helps.
	b.file("/etc/systemd/system/coffer@alice.service.d/upstream.conf", "[Service]\nReadWritePaths=/srv/elsewhere\n")
	b.must("systemctl", "daemon-reload")
	b.must("systemctl", "reset-failed", "coffer@alice.service")
	b.must("systemctl", "start", "coffer@alice.service")
}

// hook starts a webhook that writes what it is told to /srv/told.
func (b *booted) hook() {
	b.t.Helper()
	b.file("/srv/hook.py", `import http.server
class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        open("/srv/told", "ab").write(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200); self.end_headers()
http.server.HTTPServer(("127.0.0.1", 8099), Hook).serve_forever()
`)
	b.must("systemd-run", "--unit=hook", "python3", "/srv/hook.py")
}

// hears waits until the webhook was told text.
func (b *booted) hears(text string) {
	b.t.Helper()
	eventually(b.t, "the webhook hears: "+text, 30*time.Second, func() bool {
		told, _ := b.try("cat", "/srv/told")
		return strings.Contains(told, text)
	})
}

// tellsOfAll has the daemon of the whole machine fail for its configuration, and
// whom that names hear of it all the same.
func (b *booted) tellsOfAll() {
	b.t.Helper()
	b.file("/etc/coffer/hook.url", "http://127.0.0.1:8099/canary\n")
	b.must("chmod", "600", "/etc/coffer/hook.url")
	b.file("/etc/coffer/coffer.toml", "host = \"the-server\"\n[notify]\ndetails = true\nwebhook.url_file = \"hook.url\"\n")
	b.must("chmod", "600", "/etc/coffer/coffer.toml")
	if out, err := b.try("systemctl", "start", "coffer-all.service"); err == nil {
		b.t.Errorf("started without an upstream: %s", out)
	}
	b.hears("a problem with the backups on the-server")
}

// canaries looks for what is secret in the whole journal, which has heard the
// daemon at level debug and the watchdog's dump of its stacks, and on the disk.
func (b *booted) canaries() {
	b.t.Helper()
	digits := b.must("cat", "/home/alice/digits")
	key, err := hex.DecodeString(strings.ToLower(strings.NewReplacer(" ", "", "-", "", "\n", "").Replace(digits)))
	if err != nil || len(key) != 32 {
		b.t.Fatalf("no key in the digits: %v", err)
	}
	journal := b.must("journalctl", "--no-pager", "-o", "export")
	for _, want := range []string{"backup saved", "SIGABRT", "coffer-notify@alice.service"} {
		if !strings.Contains(journal, want) {
			b.t.Errorf("no %s in the journal: it was not made to talk", want)
		}
	}
	for _, c := range []canary{
		{what: "the backup key", needles: append(written(key), strings.TrimSpace(digits), digits[:20]), files: []string{"/digits"}},
		{what: "a content", needles: []string{"canary-Inhalt"}, files: []string{"/docs/file", "/back/file"}},
		{what: "the webhook's address", needles: []string{"8099/canary"}, files: []string{"/hook.url"}},
	} {
		if n := found([]byte(journal), c.needles); n != "" {
			b.t.Errorf("%s is in the journal: %q", c.what, around(journal, n))
		}
		for _, dir := range []string{"home/alice", "srv/alice", "srv/elsewhere", "var/cache/coffer"} {
			lookThrough(b.t, c, fmt.Sprintf("/proc/%d/root/%s", b.pid, dir))
		}
	}
	pattern := b.must("cat", "/proc/sys/kernel/core_pattern")
	if cores := b.must("find", "/", "/tmp", "/var/tmp", "/var/lib/systemd/coredump", "-maxdepth", "1", "-xdev", "-name", "core*", "-type", "f", "-newer", "/home/alice/digits"); cores != "" {
		b.t.Errorf("with the core pattern %s: cores: %s", pattern, cores)
	}
}

// credential moves the key from the state folder into systemd's hands.
func (b *booted) credential() {
	b.t.Helper()
	b.must("install", "-d", "-m", "700", "/etc/credstore")
	b.must("mv", "/home/alice/.local/state/coffer/backup.key", "/etc/credstore/coffer.alice.key")
	b.must("chown", "root:root", "/etc/credstore/coffer.alice.key")
	b.must("systemctl", "restart", "coffer@alice.service")
	if st := b.daemonStatus(); st["locked"] != false {
		b.t.Errorf("the credential did not arrive: %v", st)
	}
	b.must("rm", "/etc/credstore/coffer.alice.key")
	b.must("systemctl", "restart", "coffer@alice.service")
	if st := b.daemonStatus(); st["locked"] != true {
		b.t.Errorf("without key and credential: %v", st)
	}
}
