package coffer_test

import (
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"coffer"
)

// mayImport is the import graph of docs/ARCHITECTURE.md. What is not here, no
// package may import; internal/... is open to all and imports nothing of ours,
// internal/chaos, internal/demo and internal/e2e aside, which drive the built programs.
var mayImport = map[string][]string{
	".":                {},
	"seal":             {},
	"upstream":         {},
	"upstream/faulty":  {"upstream"},
	"ppss":             {},
	"raftstore":        {},
	"hsm":              {},
	"vault":            {"ppss"},
	"keyring":          {"seal", "upstream", "vault"},
	"backup":           {"backup/chunk", "backup/ignore", "backup/local", "backup/pack", "backup/report", "backup/restic", "backup/restore", "backup/scan", "backup/store", "backup/table", "backup/tree", "seal", "upstream"},
	"backup/chunk":     {},
	"backup/ignore":    {},
	"backup/local":     {"backup/chunk", "backup/pack", "backup/tree"},
	"backup/pack":      {"backup/chunk"},
	"backup/posix":     {"backup/tree"},
	"backup/report":    {},
	"backup/restic":    {},
	"backup/restore":   {"backup/chunk", "backup/ignore", "backup/pack", "backup/posix", "backup/report", "backup/store", "backup/table", "backup/tree", "upstream"},
	"backup/scan":      {"backup/chunk", "backup/ignore", "backup/local", "backup/posix", "backup/report", "backup/store", "backup/tree", "seal", "upstream"},
	"backup/store":     {"backup/chunk", "backup/pack", "backup/table", "backup/tree", "seal", "upstream"},
	"backup/table":     {"backup/chunk", "backup/pack"},
	"backup/tree":      {"backup/chunk"},
	"proxy":            {"seal", "upstream"},
	"daemon":           {"backup"},
	"daemon/notify":    {"daemon"},
	"daemon/power":     {},
	"daemon/upkeep":    {"backup", "daemon"},
	"daemon/web":       {"backup", "daemon"},
	"cmd/coffer":       {".", "backup", "daemon", "keyring", "proxy", "seal", "upstream", "vault"},
	"cmd/cofferd":      {".", "backup", "daemon", "daemon/notify", "daemon/power", "daemon/upkeep", "daemon/web", "keyring", "proxy", "seal", "upstream", "vault"},
	"cmd/coffer-vault": {".", "hsm", "raftstore", "vault"},
}

// homes keeps each heavy module behind the packages named; a trailing slash
// opens the folder.
var homes = map[string][]string{
	"github.com/minio/minio-go":         {"upstream"},
	"github.com/godbus":                 {"daemon/notify", "daemon/power"},
	"github.com/wneessen/go-mail":       {"daemon/notify"},
	"github.com/fsnotify":               {"daemon"},
	"github.com/hashicorp/":             {"raftstore"},
	"github.com/cockroachdb/pebble":     {"raftstore", "daemon", "proxy"},
	"github.com/miekg/pkcs11":           {"hsm"},
	"github.com/pelletier/go-toml":      {"internal/config"},
	"github.com/spf13/cobra":            {"cmd/"},
	"github.com/vbauerster/mpb":         {"cmd/"},
	"github.com/klauspost/compress":     {"backup/", "bench/"},
	"github.com/zeebo/blake3":           {"backup/"},
	"github.com/cloudflare/circl":       {"ppss"},
	"filippo.io/nistec":                 {"ppss", "hsm", "vault"},
	"github.com/hanwen/go-fuse":         {"cmd/coffer", "backup"},
	"github.com/ccojocar/zxcvbn-go":     {"keyring"},
	"github.com/dustin/go-humanize":     {"internal/human"},
	"codeberg.org/go-pdf/fpdf":          {"keyring"},
	"rsc.io/qr":                         {"keyring"},
	"github.com/go-jose":                {"vault"},
	"github.com/coreos/go-systemd":      {"cmd/", "internal/telemetry", "daemon"},
	"github.com/prometheus/":            {"internal/telemetry", "upstream", "backup", "proxy", "daemon", "daemon/web", "vault", "raftstore", "hsm", "cmd/"},
	"github.com/chromedp":               {"none"},
	"github.com/rogpeppe/go-internal":   {"none"},
	"pgregory.net/rapid":                {"none"},
	"github.com/anishathalye/porcupine": {"none"},
	"github.com/invopop/jsonschema":     {"none"},
	"github.com/google/jsonschema-go":   {"none"},
	"golang.org/x/net":                  {"cmd/"},
	"testing":                           {"internal/"}, // not in the product: it registers flags
}

// The size rules of the house: a longer file holds two concepts, a longer
// function two steps.
const (
	maxFileLines = 500
	maxFuncLines = 70
)

// TestTree holds every Go file to the import graph, to gofmt, to a package
// comment and to the size rules. It reads the files itself: "go test" caches its
// result, and would not see a change if it ran "go list" or gofmt instead.
func TestTree(t *testing.T) {
	documented := make(map[string]bool)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && (d.Name()[0] == '.' || d.Name() == "testdata" || path == "tools") {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".go" {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if out, err := format.Source(src); err != nil || string(out) != string(src) {
			t.Errorf("%s: not formatted (%v)", path, err)
		}
		if strings.HasSuffix(path, "_test.go") {
			return nil
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, src, parser.ParseComments)
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(filepath.Dir(path))
		documented[pkg] = documented[pkg] || f.Doc != nil
		checkImports(t, pkg, path, f.Imports)
		checkSizes(t, fset, path, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(documented) < 2 {
		t.Fatalf("only %d packages seen: the walk stopped matching", len(documented))
	}
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("%s: no package comment", pkg)
		}
	}
}

func checkImports(t *testing.T, pkg, path string, imports []*ast.ImportSpec) {
	inner := strings.HasPrefix(pkg, "internal/")
	driver := pkg == "internal/chaos" || pkg == "internal/e2e" || pkg == "internal/demo" || strings.HasPrefix(pkg, "bench")
	allowed, known := mayImport[pkg]
	if !known && !inner && !driver {
		t.Errorf("%s: %s has no row in mayImport", path, pkg)
	}
	for _, spec := range imports {
		to, _ := strconv.Unquote(spec.Path.Value)
		for mod, home := range homes {
			if strings.HasPrefix(to, mod) && !slices.ContainsFunc(home, func(h string) bool {
				return pkg == h || strings.HasSuffix(h, "/") && strings.HasPrefix(pkg, h)
			}) && !driver {
				t.Errorf("%s: only %v may import %s", path, home, to)
			}
		}
		own, ours := strings.CutPrefix(to, "coffer/")
		if to == "coffer" {
			own, ours = ".", true
		}
		if ours && !strings.HasPrefix(own, "internal/") && !slices.Contains(allowed, own) && !driver {
			t.Errorf("%s: %s must not import %s", path, pkg, to)
		}
	}
}

func checkSizes(t *testing.T, fset *token.FileSet, path string, f *ast.File) {
	if n := fset.Position(f.FileEnd).Line; n > maxFileLines {
		t.Errorf("%s: %d lines, at most %d", path, n, maxFileLines)
	}
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		if n := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1; n > maxFuncLines {
			t.Errorf("%s: %s has %d lines, at most %d", path, fn.Name.Name, n, maxFuncLines)
		}
	}
}

// TestNoSkips keeps every test honest: what cannot run must fail, not vanish.
func TestNoSkips(t *testing.T) {
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") || path == "coffer_test.go" {
			return err
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for i, line := range strings.Split(string(src), "\n") {
			if strings.Contains(line, ".Skip(") || strings.Contains(line, ".SkipNow(") || strings.Contains(line, ".Skipf(") {
				t.Errorf("%s:%d: a test must not skip itself", path, i+1)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestVersion(t *testing.T) {
	if coffer.Version() == "" {
		t.Error("Version is empty")
	}
}
