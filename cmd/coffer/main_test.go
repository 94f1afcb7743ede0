package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"coffer/vault"
)

// TestMain makes "coffer" a program that scripts and tests can run. Its vault is
// one in a file.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"coffer": func() {
			s := theSystem()
			s.vault = func(c vault.ClientConfig) (vaultClient, error) { return openFileVault(c) }
			s.newer, s.manifest = newerFile, func(vault.ClientConfig) (*vault.Manifest, error) { return new(fileVault).Manifest(), nil }
			os.Exit(checkedRun(os.Args[1:], s))
		},
	})
}

// quickExit keeps a program under the race detector from sleeping a second before
// it ends: there are hundreds of them.
const quickExit = "atexit_sleep_ms=10"

func TestScripts(t *testing.T) {
	schemas, err := filepath.Abs("../../docs/json")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("COFFER_TEST_SCHEMAS", schemas)
			e.Setenv("GORACE", quickExit)
			e.Setenv("RESTIC", filepath.Join(schemas, "../../.cache/bin/restic")) // make tools
			for name, value := range map[string]string{
				"HOME": "$WORK/home", "COFFER_CONFIG": "$WORK/home/coffer.toml", "XDG_RUNTIME_DIR": "$WORK/run", "TZ": "UTC",
				"COFFER_TEST_VAULT": "$WORK/vault.json", "NO_COLOR": "1",
			} {
				e.Setenv(name, os.Expand(value, e.Getenv))
			}
			return os.MkdirAll(filepath.Join(e.WorkDir, "home"), 0o700)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"status": exitStatus,
			"mode":   fileMode,
		},
	})
}

// exitStatus runs a command that must end with the status: "status 12 coffer recover".
func exitStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N command...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	var exit interface{ ExitCode() int }
	if errors.As(err, &exit) {
		n, jerr := json.Marshal(exit.ExitCode())
		ts.Check(jerr)
		got = string(n)
	} else {
		ts.Check(err)
	}
	if got != args[0] {
		ts.Fatalf("exit status %s, want %s", got, args[0])
	}
}

// fileMode compares permissions: "mode 600 file".
func fileMode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode OCTAL file")
	}
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if want := args[0]; fs.FileMode(parseOctal(want)) != info.Mode().Perm() {
		ts.Fatalf("%s has mode %o, want %s", args[1], info.Mode().Perm(), want)
	}
}

func parseOctal(s string) (n uint32) {
	for _, c := range s {
		n = n*8 + uint32(c-'0')
	}
	return n
}

// fileVault keeps one account in the file $COFFER_TEST_VAULT, and does what its
// field Fault says.
type fileVault struct {
	file     string
	Password string
	Key      string
	Left     int
	Fault    string // "down", "soon", "denied", "liar"
}

func openFileVault(c vault.ClientConfig) (*fileVault, error) {
	if len(c.Manifest) == 0 || c.Account == "" || len(c.Roots.Keys) == 0 {
		return nil, errors.New("the command did not hand on what a vault needs")
	}
	v := &fileVault{file: os.Getenv("COFFER_TEST_VAULT")}
	raw, err := os.ReadFile(v.file)
	if errors.Is(err, fs.ErrNotExist) {
		return v, nil
	}
	if err != nil {
		return nil, err
	}
	return v, json.Unmarshal(raw, v)
}

func (v *fileVault) save() error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(v.file, raw, 0o600)
}

func (v *fileVault) fault() error {
	switch v.Fault {
	case "down":
		return vault.ErrUnavailable
	case "soon":
		return &vault.TooSoon{Left: v.Left, RetryAfter: time.Minute}
	case "denied":
		return vault.ErrDenied
	case "liar":
		return vault.ErrInconsistent
	}
	return nil
}

func (v *fileVault) Register(_ context.Context, password string, key [32]byte, _ ...string) (vault.Registration, error) {
	if err := v.fault(); err != nil {
		return vault.Registration{}, err
	}
	if v.Key != "" && v.Left == 0 {
		return vault.Registration{}, vault.ErrDestroyed
	}
	v.Password, v.Key, v.Left = password, hex.EncodeToString(key[:]), 3
	return vault.Registration{Left: v.Left}, v.save()
}

func (v *fileVault) RegisterAgain(_ context.Context, password string, key [32]byte) (vault.Registration, error) {
	v.Password, v.Key, v.Left = password, hex.EncodeToString(key[:]), 3
	return vault.Registration{Left: v.Left}, v.save()
}

func (v *fileVault) Recover(_ context.Context, password string) ([32]byte, error) {
	if err := v.fault(); err != nil {
		return [32]byte{}, err
	}
	if v.Key == "" {
		return [32]byte{}, vault.ErrNotRegistered
	}
	if v.Left == 0 {
		return [32]byte{}, vault.ErrDestroyed
	}
	if password != v.Password {
		v.Left--
		return [32]byte{}, errors.Join(&vault.WrongPassword{Left: v.Left}, v.save())
	}
	raw, err := hex.DecodeString(v.Key)
	if err != nil {
		return [32]byte{}, err
	}
	v.Left = 3
	return [32]byte(raw), v.save()
}

func (v *fileVault) Status(context.Context) (vault.Status, error) {
	if v.Fault == "down" {
		return vault.Status{}, vault.ErrUnavailable
	}
	return vault.Status{Registered: v.Key != "", Destroyed: v.Key != "" && v.Left == 0, Left: v.Left, Budget: 3,
		Nodes: []vault.NodeStatus{{ID: "n1", Holds: true}, {ID: "n2", Err: vault.ErrUnavailable}}}, nil
}

func (v *fileVault) Manifest() *vault.Manifest { return &vault.Manifest{Name: "home"} }

func (v *fileVault) Close() {}
