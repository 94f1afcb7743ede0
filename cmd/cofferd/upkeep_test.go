package main

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"coffer/daemon"
	"coffer/internal/config"
)

// hook is a server that a daemon tells of problems.
func hook(t *testing.T) (url string, got <-chan string) {
	t.Helper()
	told := make(chan string, 100)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		told <- r.URL.Path + " " + string(body)
	}))
	t.Cleanup(s.Close)
	return s.URL, told
}

func hear(t *testing.T, told <-chan string, want string) {
	t.Helper()
	select {
	case got := <-told:
		if !strings.Contains(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
	case <-time.After(60 * time.Second):
		t.Fatalf("not told: %s", want)
	}
}

// TestUpkeep: the tasks work on a real repository, and damage is told, without a
// name, to the webhook; a dead man's switch hears of each source.
func TestUpkeep(t *testing.T) {
	m := newMachine(t)
	url, told := hook(t)
	pings, pinged := hook(t)
	m.write("hook.url", url+"/canary")
	m.write("ping.url", pings+"/canary")
	m.config.Sources[0].Keep = config.Keep{Last: 1}
	m.config.Sources[0].PingFile = m.path("ping.url")
	m.config.Notify = config.Notify{After: config.Duration(time.Nanosecond), Webhook: config.NotifyWebhook{URLFile: m.path("hook.url")}}
	m.writeConfig()
	m.write("docs/letter", "dear")
	p := m.start()
	p.saved(time.Time{})
	hear(t, pinged, "/canary/start ")
	hear(t, pinged, "/canary ")
	m.write("docs/letter", "dear reader")
	if _, err := p.Backup(t.Context(), nil, nil); err != nil {
		t.Fatal(err)
	}
	for _, task := range []struct{ name, want string }{
		{"forget", "snapshots: 1 removed, 1 stay"}, {"check", "all there: snapshots 1, "}, {"read", "part 1 of 26"},
		{"drill", "files restored: 1 (11 B), of them 1 the same"}, {"prune", "marked"},
	} {
		st, err := p.RunTask(t.Context(), task.name)
		if err != nil || st.Error != "" || !strings.Contains(st.Result, task.want) {
			t.Errorf("%s: %+v, %v, want %q", task.name, st, err, task.want)
		}
	}
	if _, err := p.RunTask(t.Context(), "cehck"); !errors.Is(err, daemon.ErrUnknownTask) {
		t.Errorf("got %v, want %v", err, daemon.ErrUnknownTask)
	}
	if all, err := p.TestNotify(t.Context()); err != nil || len(all) != 1 || all[0].Error != "" {
		t.Errorf("%+v, %v", all, err)
	}
	hear(t, told, `/canary {"event":"test"`)
	if err := os.RemoveAll(m.path("upstream/repo/packs")); err != nil {
		t.Fatal(err)
	}
	st, err := p.RunTask(t.Context(), "check")
	if err != nil || !st.Lasting || !strings.Contains(st.Hint, "coffer repair") {
		t.Errorf("%+v, %v", st, err)
	}
	select {
	case got := <-told:
		var message struct {
			Event    string `json:"event"`
			Problems []struct {
				Kind string `json:"kind"`
			} `json:"problems"`
		}
		_, body, _ := strings.Cut(got, " ")
		if err := json.Unmarshal([]byte(body), &message); err != nil || message.Event != "problem" || len(message.Problems) != 1 || message.Problems[0].Kind != "task" {
			t.Errorf("%s: %v", got, err)
		}
		if strings.Contains(got, "docs") || strings.Contains(got, "laptop") || strings.Contains(got, "letter") {
			t.Errorf("a name is in %s", got)
		}
	case <-time.After(60 * time.Second):
		t.Fatal("nobody was told")
	}
	p.stop()
}

// TestReloadLive: the log level, tasks and who is told change at once; a file with
// a fault is in the status until it is mended.
func TestReloadLive(t *testing.T) {
	m := newMachine(t)
	p := m.start()
	p.saved(time.Time{})
	m.config.Log.Level = "debug"
	m.config.Maintenance.Check = -1
	m.config.Sources[0].Keep.Daily = 3
	m.writeConfig()
	now, err := p.ReloadConfig(t.Context())
	if err != nil || now.Error != "" || len(now.Restart) != 0 {
		t.Errorf("%+v, %v", now, err)
	}
	every := make(map[string]time.Duration)
	st := p.until("the tasks change", func(st daemon.Status) bool { return len(st.Tasks) == 5 })
	for _, task := range st.Tasks {
		every[task.Name] = task.Every
	}
	if every["check"] != 0 || every["forget"] != 24*time.Hour || every["drill"] != 7*24*time.Hour {
		t.Errorf("got %v", every)
	}
	m.write("coffer.toml", "sorce = 1\n")
	p.signal(syscall.SIGHUP)
	st = p.until("the fault", func(st daemon.Status) bool { return st.Config.Error != "" })
	if !strings.Contains(st.Config.Error, "coffer.toml:1:1: sorce") || st.Config.Loaded.Before(now.Loaded) || len(st.Problems) != 1 || st.Problems[0].Kind != "config" {
		t.Errorf("got %+v, %+v", st.Config, st.Problems)
	}
	m.writeConfig()
	if now, err = p.ReloadConfig(t.Context()); err != nil || now.Error != "" {
		t.Errorf("%+v, %v", now, err)
	}
	p.until("mended", func(st daemon.Status) bool { return len(st.Problems) == 0 })
	p.stop()
}

// TestTell: for OnFailure= of the unit: who is told hears that the daemon is dead.
func TestTell(t *testing.T) {
	m := newMachine(t)
	url, told := hook(t)
	m.write("hook.url", url)
	m.config.Notify.Webhook.URLFile = m.path("hook.url")
	m.writeConfig()
	if out, err := m.command("--tell", "coffer@anna.service").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	hear(t, told, "the backup daemon has failed and does not run: nothing is backed up")
}
