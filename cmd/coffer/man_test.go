package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every page is right by mandoc's judgement, and every command that a user sees has one.
func TestManual(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir) // must not become part of a page
	r := &rig{t: t, dir: dir}
	r.run(exitOK, "man", filepath.Join(dir, "man1"))
	pages, err := filepath.Glob(filepath.Join(dir, "man1", "*.1"))
	if err != nil || len(pages) < 40 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	byHand, err := filepath.Glob("../../man/*.[58]")
	if err != nil || len(byHand) != 4 {
		t.Fatalf("pages by hand: %v, %v", byHand, err)
	}
	lint := exec.Command("mandoc", append([]string{"-Tlint", "-W", "warning"}, append(pages, byHand...)...)...)
	if out, err := lint.CombinedOutput(); err != nil {
		t.Errorf("mandoc (Debian package mandoc): %v\n%s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(dir, "man1", "coffer-recovery-sheet.1"))
	if err != nil || !strings.Contains(string(text), ".It Fl o , Fl -output Ar string\n") || strings.Contains(string(text), dir) {
		t.Errorf("got %s, %v", text, err)
	}
	r.run(exitUsage, "man")
}

// The pages of the configurations explain every key that the example files have.
func TestManualHasEveryKey(t *testing.T) {
	key := regexp.MustCompile(`(?m)^#?([a-z_]+) = `)
	for _, name := range []string{"coffer.toml", "coffer-vault.toml"} {
		page, err := os.ReadFile(filepath.Join("../../man", name+".5"))
		if err != nil {
			t.Fatal(err)
		}
		example, err := os.ReadFile(filepath.Join("../../configs", name))
		if err != nil {
			t.Fatal(err)
		}
		keys := key.FindAllStringSubmatch(string(example), -1)
		if len(keys) < 15 {
			t.Errorf("%s: only %d keys found", name, len(keys))
		}
		for _, k := range keys {
			if !regexp.MustCompile(`(?m)^\.It Cm (.* , )?` + k[1] + `( ,.*)?$`).Match(page) {
				t.Errorf("%s.5 does not explain %s", name, k[1])
			}
		}
	}
}

// The shells take the completions, and are offered commands and flags by them.
func TestCompletion(t *testing.T) {
	dir := t.TempDir()
	r := &rig{t: t, dir: dir}
	check := map[string][]string{
		"bash": {"bash", "-c", `source "$1" && complete -p coffer`, "-"},
		"zsh":  {"zsh", "-n"},
		"fish": {"fish", "--no-config", "-n"},
	}
	for shell, cmd := range check {
		r.run(exitOK, "completion", shell)
		file := filepath.Join(dir, shell)
		if err := os.WriteFile(file, r.out.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(cmd[0], append(cmd[1:], file)...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", shell, err, out)
		}
	}
	for _, tt := range []struct {
		typed []string
		want  string
	}{{[]string{"sou"}, "source\t"}, {[]string{"source", "re"}, "remove\t"}, {[]string{"forget", "--keep-d"}, "--keep-daily\t"}, {[]string{"s3", "key", ""}, "list\t"}} {
		r.run(exitOK, append([]string{"__complete"}, tt.typed...)...)
		if !strings.Contains(r.out.String(), tt.want) {
			t.Errorf("%q: no %q in %s", tt.typed, tt.want, &r.out)
		}
	}
	// fish really asks the program and gets an answer.
	fish := exec.Command("fish", "--no-config", "-c", `source "$argv[1]"; complete -C "coffer passw"`, filepath.Join(dir, "fish"))
	if out, err := fish.CombinedOutput(); err != nil || !strings.Contains(string(out), "password") {
		t.Errorf("fish: %v\n%s", err, out)
	}
}
