// Package configs_test holds the example files to what the programs read.
package configs_test

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"coffer/internal/config"
)

// TestExamples: a key that the examples lack is a key nobody finds, and one that
// they show without a comment is one nobody understands.
func TestExamples(t *testing.T) {
	for _, tt := range []struct {
		file string
		load func(string) error
		of   reflect.Type
	}{
		{"coffer.toml", func(f string) error { _, err := config.LoadUser(f); return err }, reflect.TypeFor[config.User]()},
		{"coffer-vault.toml", func(f string) error { _, err := config.LoadVault(f); return err }, reflect.TypeFor[config.Vault]()},
	} {
		t.Run(tt.file, func(t *testing.T) {
			if err := tt.load(tt.file); err != nil {
				t.Errorf("as it is: %v", err)
			}
			text, err := os.ReadFile(tt.file)
			if err != nil {
				t.Fatal(err)
			}
			have := keys(t, string(text))
			want := make(map[string]bool)
			fields(tt.of, "", want)
			for k := range want {
				if !have[k] {
					t.Errorf("%s is not in the file", k)
				}
			}
			for k := range have {
				if !want[k] {
					t.Errorf("%s is no key", k)
				}
			}
		})
	}
}

// TestExampleDefaults: a default shown in a comment must be one that is taken.
func TestExampleDefaults(t *testing.T) {
	text, err := os.ReadFile("coffer.toml")
	if err != nil {
		t.Fatal(err)
	}
	all := regexp.MustCompile(`(?m)^#([a-z_]+ = )`).ReplaceAllString(string(text), "$1")
	file := filepath.Join(t.TempDir(), "coffer.toml")
	if err := os.WriteFile(file, []byte(all), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.LoadUser(file); err != nil {
		t.Error(err)
	}
}

var (
	header = regexp.MustCompile(`^\[+([a-z_.]+)\]+$`)
	key    = regexp.MustCompile(`^#?([a-z_]+) = `)
)

// keys lists the keys of the file as "table.key", and complains of one without
// a comment above it.
func keys(t *testing.T, text string) map[string]bool {
	t.Helper()
	found := make(map[string]bool)
	table, above := "", ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if m := header.FindStringSubmatch(line); m != nil {
			table = m[1] + "."
		} else if m := key.FindStringSubmatch(line); m != nil {
			found[table+m[1]] = true
			if !strings.HasPrefix(above, "# ") {
				t.Errorf("%s%s has no comment", table, m[1])
			}
		}
		above = line
	}
	return found
}

// fields lists the keys of a configuration struct the same way.
func fields(of reflect.Type, table string, into map[string]bool) {
	for i := range of.NumField() {
		f := of.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
		inner := f.Type
		if inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct {
			fields(inner, table+name+".", into)
			continue
		}
		into[table+name] = true
	}
}
