package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	infer "github.com/invopop/jsonschema"
	"github.com/spf13/cobra"

	"coffer/backup"
	"coffer/daemon"
	"coffer/seal"
)

var update = flag.Bool("update", false, "write docs/json anew")

// answers are what the commands print with --json; a stream of them is one a line.
var answers = map[string]any{
	"backup": []saved{}, "bugreport": report{}, "check": checked{}, "config check": configChecked{}, "config show": configShown{},
	"copy": copied{}, "diff": backup.Change{}, "doctor": []finding{}, "find": found{}, "forget": backup.ForgetReport{},
	"import restic": backup.BringReport{}, "key show": keyShown{}, "ls": listed{}, "mount": mounted{}, "off": switchedOff{}, "password change": passwordChanged{}, "password verify": passwordVerified{},
	"passkey list": []passkeyShown{}, "pause": daemon.Status{}, "prune": backup.PruneReport{}, "recover": setUp{}, "recovery sheet": sheetMade{}, "recovery verify": digitsVerified{},
	"rekey": rekeyed{}, "repair": backup.RepairReport{}, "restore": restored{}, "resume": daemon.Status{}, "s3 env": s3Access{}, "s3 key add": s3KeyAdded{},
	"s3 key list": []s3Key{}, "setup": setUp{}, "snapshots": []*backup.Snapshot{}, "source add": excluded{}, "source excludes": excluded{}, "source list": []sourcePath{}, "stats": statistics{},
	"status": status{}, "tag": []backup.Tagged{}, "target list": []target{}, "target test": []tested{}, "version": versionShown{}, "web": pageLink{},
	"maintain": []daemon.TaskStatus{}, "notify": []daemon.Delivery{}, "config reload": daemon.Configured{},
	"error": failure{},
}

// silent are the commands that have nothing to print in JSON.
var silent = map[string]bool{
	"cat": true, "man": true, "passkey remove": true, "s3 key remove": true, "source remove": true, "target add": true, "target remove": true,
}

// schemaOf makes the schema of an answer from its type and the comments there.
func schemaOf(t *testing.T, name string, answer any, comments map[string]string) []byte {
	t.Helper()
	r := infer.Reflector{Anonymous: true, AllowAdditionalProperties: true, CommentMap: comments, Mapper: func(t reflect.Type) *infer.Schema {
		switch t {
		case reflect.TypeFor[time.Duration]():
			return &infer.Schema{Type: "integer", Description: "nanoseconds"}
		case reflect.TypeFor[seal.StoreID]():
			return &infer.Schema{Type: "string", Pattern: "^[0-9a-f]{32}$"}
		}
		return nil
	}}
	s := r.Reflect(answer)
	s.ID, s.Title = "", `what "coffer `+name+` --json" prints`
	if name == "error" {
		s.Title = "what every command writes to standard error with --json when it fails"
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(text, '\n')
}

func schemaFile(dir, name string) string {
	return filepath.Join(dir, strings.ReplaceAll(name, " ", "-")+".json")
}

// Each command that prints JSON has a schema in docs/json, and it is that of its type.
func TestSchemas(t *testing.T) {
	t.Chdir("../..")
	const dir = "docs/json"
	var comments infer.Reflector
	for _, pkg := range []string{"cmd/coffer", "backup", "daemon", "keyring", "proxy", "internal/config"} {
		if err := comments.AddGoComments("coffer", pkg); err != nil {
			t.Fatal(err)
		}
	}
	for name, answer := range answers {
		want := schemaOf(t, name, answer, comments.CommentMap)
		if *update {
			if err := os.WriteFile(schemaFile(dir, name), want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(schemaFile(dir, name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not the schema of %T (%v): go test ./cmd/coffer -run TestSchemas -update", schemaFile(dir, name), answer, err)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) != len(answers) {
		t.Errorf("%s has %d schemas, want %d (%v)", dir, len(files), len(answers), err)
	}
	a := &app{system: theSystem()}
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		name := strings.TrimPrefix(c.CommandPath(), "coffer ")
		if !c.HasSubCommands() && answers[name] == nil && !silent[name] {
			t.Errorf("coffer %s has no schema of what it prints with --json", name)
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(a.root())
}

// checkedRun is run, and holds what is printed with --json to its schema.
func checkedRun(args []string, s system) int {
	schemas := os.Getenv("COFFER_TEST_SCHEMAS")
	if schemas == "" || !bytes.Contains([]byte(strings.Join(args, "\x00")+"\x00"), []byte("--json\x00")) {
		return run(args, s)
	}
	var out, errs bytes.Buffer
	s.out, s.err = io.MultiWriter(s.out, &out), io.MultiWriter(s.err, &errs)
	code := run(args, s)
	a := &app{system: s}
	cmd, _, err := a.root().Find(args)
	if err != nil {
		return code
	}
	err = conforms(schemas, strings.TrimPrefix(cmd.CommandPath(), "coffer "), out.Bytes())
	if lines := strings.Split(strings.TrimSpace(errs.String()), "\n"); code != exitOK && err == nil {
		err = conforms(schemas, "error", []byte(lines[len(lines)-1]))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "not what docs/json says:", err)
		return 99
	}
	return code
}

// conforms holds a stream of JSON values to the schema of a command.
func conforms(dir, name string, stream []byte) error {
	values := json.NewDecoder(bytes.NewReader(stream))
	text, err := os.ReadFile(schemaFile(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		if values.More() {
			return fmt.Errorf("%s prints JSON and has no schema", name)
		}
		return nil
	}
	if err != nil {
		return err
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	resolved, err := s.Resolve(nil)
	if err != nil {
		return err
	}
	for {
		var v any
		if err := values.Decode(&v); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := resolved.Validate(v); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
}

// The check can fail: an answer with another shape is refused.
func TestSchemasRefuse(t *testing.T) {
	for name, text := range map[string]string{
		"version": `{"version": 1}`, "setup": `{}`, "s3 key list": `[{"access_key": "a"}]`, "error": `{"error": "x"}`, "cat": `1`, "ls": `{"path": 3}`,
	} {
		if err := conforms("../../docs/json", name, []byte(text)); err == nil {
			t.Errorf("%s may print %s", name, text)
		}
	}
	if err := conforms("../../docs/json", "version", []byte(`{"version": "1"}`)); err != nil {
		t.Error(err)
	}
}
