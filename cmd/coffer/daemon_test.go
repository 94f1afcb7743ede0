package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"coffer/backup"
	"coffer/daemon"
	"coffer/internal/config"
	"coffer/seal"
)

// fakeRepo saves nothing, and fails for the source "bad".
type fakeRepo struct{}

func (fakeRepo) Backup(_ context.Context, o backup.BackupOptions) (*backup.Snapshot, backup.Report, error) {
	o.Progress(backup.Progress{Phase: "store", Files: 1})
	if o.Source == "bad" {
		return nil, backup.Report{}, errors.New("no such luck")
	}
	return &backup.Snapshot{ID: "abcdef0123456789"}, backup.Report{Statistics: backup.Statistics{Files: 7}}, nil
}

// fakeKey is the daemon's keyring.
type fakeKey struct {
	mu  sync.Mutex
	key *[32]byte
}

func (f *fakeKey) Unlock(_ context.Context, key [32]byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.key = &key
	return nil
}

func (f *fakeKey) Lock() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.key = nil
}

func (f *fakeKey) Locked() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.key == nil
}

// rig is a machine that is set up, in this process, with or without a daemon.
type rig struct {
	t        *testing.T
	dir      string
	out, err bytes.Buffer
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir := t.TempDir()
	for name, value := range map[string]string{"HOME": dir, "COFFER_CONFIG": filepath.Join(dir, "c.toml"), "XDG_RUNTIME_DIR": dir,
		"XDG_STATE_HOME": "", "XDG_CACHE_HOME": "", "CREDENTIALS_DIRECTORY": ""} {
		t.Setenv(name, value)
	}
	r := &rig{t: t, dir: dir}
	for _, name := range []string{"good", "bad"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r.run(exitOK, "setup", "--upstream", "folder:"+filepath.Join(dir, "store"), "--digits-file", filepath.Join(dir, "digits"),
		"--source", "good="+filepath.Join(dir, "good"), "--source", "bad="+filepath.Join(dir, "bad"))
	return r
}

// run executes a command in this process, which must end with the status.
func (r *rig) run(want int, args ...string) {
	r.t.Helper()
	r.out.Reset()
	r.err.Reset()
	in, err := os.Open(os.DevNull)
	if err != nil {
		r.t.Fatal(err)
	}
	defer in.Close()
	s := theSystem()
	s.in, s.out, s.err = in, &r.out, &r.err
	if got := run(args, s); got != want {
		r.t.Fatalf("coffer %s: status %d, want %d\n%s%s", strings.Join(args, " "), got, want, &r.out, &r.err)
	}
}

// want looks for patterns in what the last command has printed.
func (r *rig) want(patterns ...string) {
	r.t.Helper()
	for _, p := range patterns {
		if text := r.out.String() + r.err.String(); !regexp.MustCompile(p).MatchString(text) {
			r.t.Errorf("no %s in\n%s", p, text)
		}
	}
}

// daemon runs one on the machine until the test ends.
func (r *rig) daemon(key *fakeKey, change ...func(*daemon.Config)) {
	r.t.Helper()
	u, err := config.LoadUser(filepath.Join(r.dir, "c.toml"))
	if err != nil {
		r.t.Fatal(err)
	}
	var sources []daemon.Source
	for _, s := range u.Sources {
		sources = append(sources, daemon.Source{Name: s.Name, Path: s.Path, ScanOnly: true, Quiet: time.Second, MaxWait: time.Minute, Scan: time.Hour})
	}
	started := make(chan struct{})
	c := daemon.Config{
		Sources: sources, StateDir: u.StateDir, Control: u.Control, Key: key, Started: func() { close(started) },
		Open: func(context.Context) (daemon.Repo, error) {
			if key.Locked() {
				return nil, daemon.ErrLocked
			}
			return fakeRepo{}, nil
		},
	}
	for _, fn := range change {
		fn(&c)
	}
	d, err := daemon.New(c)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	})
	select {
	case <-started:
	case err := <-done:
		done <- err
		r.t.Fatalf("the daemon ended: %v", err)
	}
}

// While a daemon runs, it does the backups, and its answer becomes the command's.
func TestBackupByDaemon(t *testing.T) {
	r := newRig(t)
	key := new(fakeKey)
	r.daemon(key)
	r.run(exitLocked, "backup", "good")
	if !strings.Contains(r.err.String(), `hint: "coffer recover"`) {
		t.Errorf("got %s", &r.err)
	}
	r.run(exitOK, "status")
	if !strings.Contains(r.out.String(), "running since") || !strings.Contains(r.out.String(), ", locked") {
		t.Errorf("got %s", &r.out)
	}
	// "recover" on a machine that is set up hands the key to its daemon.
	r.run(exitOK, "recover", "--digits-file", filepath.Join(r.dir, "digits"))
	if key.Locked() {
		t.Fatal("the daemon is still locked")
	}
	r.run(exitOK, "backup", "good")
	if got := r.out.String(); !strings.Contains(got, "good: snapshot abcdef01, 7 files") {
		t.Errorf("got %s", got)
	}
	r.run(exitFailed, "backup")
	if !strings.Contains(r.err.String(), "error: backing up bad: ") || !strings.Contains(r.err.String(), "no such luck") {
		t.Errorf("got %s", &r.err)
	}
	r.run(exitFailed, "--json", "backup")
	var results []saved
	if err := json.Unmarshal(r.out.Bytes(), &results); err != nil || len(results) != 2 {
		t.Errorf("got %s, %v", &r.out, err)
	}
	r.run(exitOK, "status")
	if got := r.out.String(); !strings.Contains(got, "saved ") || !strings.Contains(got, "no such luck") {
		t.Errorf("got %s", got)
	}
	r.run(exitOK, "--json", "status")
	var s struct {
		Daemon *daemon.Status `json:"daemon"`
	}
	if err := json.Unmarshal(r.out.Bytes(), &s); err != nil || s.Daemon == nil || len(s.Daemon.Sources) != 2 {
		t.Errorf("got %s, %v", &r.out, err)
	}
}

// The secret never leaves by status, errors or JSON.
func TestNothingPrintsTheKey(t *testing.T) {
	r := newRig(t)
	digits, err := os.ReadFile(filepath.Join(r.dir, "digits"))
	if err != nil {
		t.Fatal(err)
	}
	group := strings.Fields(string(digits))
	var all strings.Builder
	for _, c := range []struct {
		code int
		args []string
	}{
		{exitOK, []string{"status"}}, {exitOK, []string{"--json", "status"}}, {exitOK, []string{"snapshots"}}, {exitFailed, []string{"ls"}},
		{exitUsage, []string{"recover", "--upstream", "folder:x"}}, {exitFailed, []string{"setup", "--upstream", "folder:x", "--digits-file", "y"}},
	} {
		r.run(c.code, c.args...)
		all.WriteString(r.out.String() + r.err.String())
	}
	for i := range len(group) - 1 {
		for _, glue := range []string{"", " ", "-"} {
			if strings.Contains(all.String(), group[i]+glue+group[i+1]) {
				t.Errorf("groups %d and %d of the key were printed", i+1, i+2)
			}
		}
	}
	if len(group) != seal.KeySize/2 {
		t.Errorf("%d groups", len(group))
	}
}
