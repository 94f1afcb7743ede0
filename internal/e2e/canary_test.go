package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// canary is one marked thing and where it may be found at most.
type canary struct {
	what    string
	needles []string
	names   bool     // a name: at log level debug, and on the machine itself, it may be seen
	log     bool     // nodes keep it in Raft's log, as each checks it for itself
	files   []string // suffixes of the files of the machine that hold it by design
}

// written are the ways in which a secret could be written by accident.
func written(secret []byte) []string {
	return []string{string(secret), hex.EncodeToString(secret), strings.ToUpper(hex.EncodeToString(secret)),
		base64.StdEncoding.EncodeToString(secret)[:len(secret)*4/3], base64.URLEncoding.EncodeToString(secret)[:len(secret)*4/3]}
}

// TestCanary walks through everything that coffer does with marked secrets, and
// then looks for them in all that others could read: logs, metrics, reports,
// what commands say, process lists, cores, the vault's disks and the storage.
func TestCanary(t *testing.T) {
	for i, up := range upstreams {
		level := []string{"info", "debug"}[i]
		t.Run(up.name+"/"+level, func(t *testing.T) { canaryTour(t, up.open, level) })
	}
}

func canaryTour(t *testing.T, open func(testing.TB) (string, string, []string), level string) {
	flag, stored, env := open(t)
	v := startFleet(t, level)
	watch := watchProcesses(t)
	const (
		password = "canary-Passwort-Zw7kq"
		wrong    = "canary-falsches-Xx3fp"
		name     = "canaryname"
		content  = "canary content: the milk is in the fridge"
	)
	m := newMachine(t, append(env, "GOTRACEBACK=crash")...)
	m.write("password", password+"\n")
	m.write("wrong", wrong+"\n")
	m.write("token", v.token(name))
	m.write("files/"+name+"-dir/"+name+".txt", strings.Repeat(content+"\n", 3000))
	vaultFlags := []string{"--vault-fleet", v.manifest, "--vault-root", v.root, "--account", name, "--vault-token-file", m.path("token")}
	metrics := freeAddress(t)
	m.say("coffer", append([]string{"setup", "--upstream", flag, "--source", "files=" + m.path("files"), "--quiet-time", "200ms",
		"--password-file", m.path("password"), "--digits-file", m.path("digits"), "--gateway", freeAddress(t)}, vaultFlags...)...)
	m.append("coffer.toml", fmt.Sprintf("\n[log]\nlevel = %q\n\n[metrics]\nlisten = %q\n\n[web]\nlisten = %q\n", level, metrics, freeAddress(t)))
	d := m.start("cofferd", "--config", m.path("coffer.toml"))
	eventually(t, "a snapshot", time.Minute, func() bool {
		out, _, _ := m.run("coffer", "snapshots", "--json")
		return strings.Contains(out, `"id"`)
	})

	s3 := &machine{t: t, home: t.TempDir(), env: []string{"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8"}}
	var secret string
	for line := range strings.Lines(m.must("coffer", "s3", "env")) {
		s3.env = append(s3.env, strings.TrimSpace(strings.TrimPrefix(line, "export ")))
		if _, value, ok := strings.Cut(strings.TrimSpace(line), "AWS_SECRET_ACCESS_KEY="); ok {
			secret = strings.Trim(value, `"'`)
		}
	}
	s3.write("object", content)
	s3.must("aws", s3.endpoint("s3", "mb", "s3://"+name)...)
	s3.must("aws", s3.endpoint("s3", "cp", "--no-progress", "--metadata", "owner="+name, "object", "s3://"+name+"/"+name+"/a")...)
	s3.must("aws", s3.endpoint("s3", "cp", "--no-progress", "s3://"+name+"/"+name+"/a", "back")...)
	s3.run("aws", s3.endpoint("s3", "cp", "--no-progress", "s3://"+name+"/"+name+"/none", "none")...)

	link := m.must("coffer", "web", "--print")
	_, login, _ := strings.Cut(strings.TrimSpace(link), "#")
	passkey := []byte("canary: 32 bytes of a passkey ..")
	visit(t, link, name, passkey, newestSnapshot(m), m.path("by-page"))
	m.say("coffer", "password", "verify", "--password-file", m.path("wrong"))
	m.say("coffer", "password", "verify", "--password-file", m.path("password"))
	m.say("coffer", "status")
	m.say("coffer", "doctor")
	reports := m.must("coffer", "bugreport") + m.must("coffer", "bugreport", "--json")

	other := newMachine(t, env...)
	recover := append([]string{"recover", "--upstream", flag, "--password-file"}, m.path("wrong"))
	if _, _, code := other.say("coffer", append(recover, vaultFlags...)...); code != 12 {
		t.Errorf("recover with a wrong password: exit status %d, want 12", code)
	}
	recover[len(recover)-1] = m.path("password")
	vaultFlags[1] = v.node // what a recovery sheet says instead of the fleet file
	if _, errOut, code := other.say("coffer", append(recover, vaultFlags...)...); code != 0 {
		t.Fatalf("recover: exit status %d\n%s", code, errOut)
	}
	other.say("coffer", "restore", "latest", "--to", other.path("out"))
	if got, err := os.ReadFile(other.path("out", name+"-dir", name+".txt")); err != nil || !strings.HasPrefix(string(got), content) {
		t.Fatalf("the tour restored nothing: %v", err)
	}

	scraped := scrape(t, "http://"+metrics+"/metrics")
	for _, at := range v.metrics {
		scraped += scrape(t, "http://"+at+"/metrics")
	}
	monitored(t, scraped)
	d.abort()
	for _, node := range v.nodes {
		node.abort()
	}
	lists := watch()

	digits, err := os.ReadFile(m.path("digits"))
	if err != nil {
		t.Fatal(err)
	}
	hexKey := strings.ToLower(strings.NewReplacer(" ", "", "-", "", "\n", "").Replace(string(digits)))
	key, err := hex.DecodeString(hexKey)
	if err != nil || len(key) != 32 || len(secret) < 8 || login == "" {
		t.Fatalf("the tour has no key, no gateway secret or no login token: %v", err)
	}
	token, _ := os.ReadFile(m.path("token"))
	state := ".local/state/coffer/"
	canaries := []canary{
		{what: "the password", needles: written([]byte(password)), files: []string{"/password"}},
		{what: "a wrong password", needles: written([]byte(wrong)), files: []string{"/wrong"}},
		{what: "the backup key", needles: append(written(key), strings.TrimSpace(string(digits)), string(digits[:20])), files: []string{"/digits", state + "backup.key"}},
		{what: "the account's token", needles: []string{strings.TrimSpace(string(token))[:40]}, files: []string{"/token"}, log: true},
		{what: "the gateway's secret", needles: written([]byte(secret)), files: []string{state + "gateway-secret.key"}},
		{what: "the page's login token", needles: []string{login}},
		{what: "a passkey's secret", needles: written(passkey)},
		{what: "a content", needles: []string{content, "the milk is in"}, files: []string{"/" + name + ".txt"}},
		{what: "a name", needles: written([]byte(name))[:3], names: true},
	}
	for _, c := range canaries {
		logs := map[string]string{"cofferd.log": d.text(), "the metrics": scraped, "bugreport": reports}
		for _, node := range v.nodes {
			logs[filepath.Base(node.log)] = node.text()
		}
		if c.names && level == "debug" {
			delete(logs, "cofferd.log")
		}
		if !c.names {
			logs["what the commands said"] = m.said.String() + other.said.String()
			logs["the process lists"] = lists
		}
		for where, text := range logs {
			if n := found([]byte(text), c.needles); n != "" {
				t.Errorf("%s is in %s: %q", c.what, where, around(text, n))
			}
		}
		lookThrough(t, c, stored)
		lookThrough(t, c, v.dir)
		if !c.names {
			lookThrough(t, c, m.home)
		}
	}
	if !strings.Contains(lists, "cofferd") || !strings.Contains(scraped, "coffer_") {
		t.Error("the process lists or the metrics were not read")
	}
}

// newestSnapshot is the id of a machine's newest snapshot.
func newestSnapshot(m *machine) string {
	m.t.Helper()
	var all []struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal([]byte(m.must("coffer", "snapshots", "--json")), &all); err != nil || len(all) == 0 {
		m.t.Fatalf("no snapshot: %v", err)
	}
	return all[len(all)-1].ID
}

// found returns the needle that text holds, "" when it holds none.
func found(text []byte, needles []string) string {
	for _, n := range needles {
		if bytes.Contains(text, []byte(n)) {
			return n
		}
	}
	return ""
}

// around shows where a needle lies.
func around(text, needle string) string {
	at := strings.Index(text, needle)
	return text[max(0, at-120):min(len(text), at+len(needle)+60)]
}

// lookThrough looks for a canary in the names and contents of all files below dir.
func lookThrough(t *testing.T, c canary, dir string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if n := found([]byte(d.Name()), c.needles); n != "" {
			t.Errorf("%s is the name of %s", c.what, path)
		}
		if c.log && strings.Contains(path, "/raft/log/") {
			return nil
		}
		if !d.Type().IsRegular() || slices.ContainsFunc(c.files, func(s string) bool { return strings.HasSuffix(path, s) }) {
			return nil
		}
		files++
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if n := found(data, c.needles); n != "" {
			t.Errorf("%s is in %s", c.what, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files == 0 {
		t.Errorf("nothing lies in %s", dir)
	}
}

// watchProcesses collects the command lines of all processes until its result is
// called.
func watchProcesses(t *testing.T) (stop func() string) {
	ctx, cancel := context.WithCancel(t.Context())
	seen := make(map[string]bool)
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
			for _, line := range lines {
				if text, err := os.ReadFile(line); err == nil && len(text) > 0 {
					seen[strings.ReplaceAll(string(text), "\x00", " ")] = true
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	return func() string {
		cancel()
		done.Wait()
		var all strings.Builder
		for line := range seen {
			fmt.Fprintln(&all, line)
		}
		return all.String()
	}
}

func scrape(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", url, resp.Status, err)
	}
	return string(text)
}

// A program that crashes leaves no core, also where the machine would write one.
func TestNoCore(t *testing.T) {
	control := exec.Command("sh", "-c", "ulimit -c unlimited && kill -ABRT $$")
	control.Dir = t.TempDir()
	control.Run()
	if !control.ProcessState.Sys().(syscall.WaitStatus).CoreDump() {
		t.Fatal("this machine writes no cores at all: nothing can be shown here (ulimit -H -c must not be 0)")
	}
	m := newMachine(t)
	m.must("coffer", "setup", "--upstream", "folder:"+t.TempDir(), "--digits-file", m.path("digits"), "--source", "files="+m.path())
	cmd := exec.Command("sh", "-c", `ulimit -c unlimited && exec "$0" "$@"`, program(t, "cofferd"), "--config", m.path("coffer.toml"))
	cmd.Env, cmd.Dir = append(m.env, "GOTRACEBACK=crash"), m.home
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	eventually(t, "the daemon answers", 30*time.Second, func() bool {
		out, _, _ := m.run("coffer", "status", "--json")
		return strings.Contains(out, `"uptime"`) || strings.Contains(out, `"started"`)
	})
	cmd.Process.Signal(syscall.SIGABRT)
	cmd.Wait()
	switch ws := cmd.ProcessState.Sys().(syscall.WaitStatus); {
	case !ws.Signaled() || ws.Signal() != syscall.SIGABRT:
		t.Errorf("the daemon did not end by the signal: %v", cmd.ProcessState)
	case ws.CoreDump():
		t.Error("cofferd left a core, which holds the backup key")
	}
}
