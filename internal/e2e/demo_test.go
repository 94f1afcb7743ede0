package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"coffer/internal/testminio"
)

// The README's first promise: the demo ends with its one line, over a folder and
// over MinIO.
func TestDemo(t *testing.T) {
	program(t, "coffer") // builds all three
	minio, err := testminio.Program()
	if err != nil {
		t.Fatal(err)
	}
	ok := regexp.MustCompile(`(?m)^demo: ok: [0-9]{4,} files, [0-9]+ bytes identical; second account destroyed after 10 guesses$`)
	for name, args := range map[string][]string{"folder": nil, "minio": {"-minio", minio}} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, "GOCACHE="+goEnv(t, "GOCACHE"), "GOMODCACHE="+goEnv(t, "GOMODCACHE"), "TMPDIR="+t.TempDir())
			root, err := filepath.Abs("../..")
			if err != nil {
				t.Fatal(err)
			}
			m.home = root // where go run finds the module
			out := m.must("go", append([]string{"run", "./internal/demo", "-bin", binDir}, args...)...)
			if !ok.MatchString(out) {
				t.Errorf("the demo did not end with its line:\n%s", out)
			}
		})
	}
}

// goEnv asks the go command for one of its settings.
func goEnv(t testing.TB, name string) string {
	t.Helper()
	m := &machine{t: t, env: os.Environ()}
	out := m.must("go", "env", name)
	return out[:len(out)-1]
}
