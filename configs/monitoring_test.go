package configs_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The alerts fire when they should, by Prometheus's own judgement, and the
// dashboards ask what Prometheus understands.
func TestMonitoring(t *testing.T) {
	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command("promtool", args...)
		cmd.Dir = "monitoring"
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	run("check", "rules", "coffer.rules.yml", "coffer-vault.rules.yml")
	run("test", "rules", "coffer.test.yml")

	boards, err := filepath.Glob("monitoring/*.dashboard.json")
	if err != nil || len(boards) != 2 {
		t.Fatalf("%d dashboards, %v", len(boards), err)
	}
	rules := "groups:\n- name: boards\n  rules:\n"
	for _, file := range boards {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var board struct {
			Panels []struct {
				Title   string
				Targets []struct{ Expr string }
			}
		}
		if err := json.Unmarshal(text, &board); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, p := range board.Panels {
			if len(p.Targets) == 0 {
				t.Errorf("%s: %s shows nothing", file, p.Title)
			}
			for _, target := range p.Targets {
				rules += fmt.Sprintf("  - record: board\n    labels: {n: \"%d\"}\n    expr: %q\n", len(rules), strings.ReplaceAll(target.Expr, "$__rate_interval", "5m"))
			}
		}
	}
	asked := filepath.Join(t.TempDir(), "boards.yml")
	if err := os.WriteFile(asked, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	run("check", "rules", asked)
}
