package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// monitored fails the test when an alert or a dashboard asks for a metric that the
// programs do not have.
func monitored(t *testing.T, scraped string) {
	t.Helper()
	files, err := filepath.Glob("../../configs/monitoring/*")
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`\bcoffer_[a-z0-9_]+`)
	asked := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range name.FindAllString(string(text), -1) {
			asked++
			if !strings.Contains(scraped, "# TYPE "+strings.TrimSuffix(n, "_bucket")+" ") {
				t.Errorf("%s asks for %s, which no program has", filepath.Base(file), n)
			}
		}
	}
	if asked < 40 {
		t.Errorf("only %d metrics are asked for: the files were not read", asked)
	}
}
