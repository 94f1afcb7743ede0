package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const edited = `# my backups
[[upstream]]
type = 'folder' # a disk
path = 'store'

[gateway]
listen = '127.0.0.1:9421'
[[gateway.key]]
access_key = 'one'
secret_file = 'one.key'

[[source]] # the letters
name = 'letters'
path = 'letters'
exclude = [
  'a',
]
[[source]]
name = 'photos'
path = 'photos'

[log]
level = 'debug'
`

// Adding and removing leave every other line as the user wrote it.
func TestEdit(t *testing.T) {
	file := filepath.Join(t.TempDir(), "coffer.toml")
	if err := os.WriteFile(file, []byte(edited), 0o640); err != nil {
		t.Fatal(err)
	}
	load := func() *User {
		t.Helper()
		u, err := LoadUser(file)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	err := Add(file, &User{Sources: []Source{{Name: "music", Path: "/m u\"s'ic"}}, Upstreams: []Upstream{{Name: "usb", Type: "folder", Path: "/usb"}},
		Gateway: Gateway{Keys: []GatewayKey{{AccessKey: "two", SecretFile: "/two", Buckets: []string{"b"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(file)
	if err != nil || !strings.HasPrefix(string(raw), edited) {
		t.Fatalf("got %s, %v", raw, err)
	}
	u := load()
	if len(u.Sources) != 3 || u.Sources[2].Path != "/m u\"s'ic" || len(u.Upstreams) != 2 || len(u.Gateway.Keys) != 2 || u.Gateway.Keys[1].AccessKey != "two" || u.Gateway.Listen == "" {
		t.Errorf("got %+v", u)
	}
	for _, r := range []struct {
		array string
		index int
	}{{"source", 2}, {"upstream", 1}, {"gateway.key", 1}} {
		if err := Remove(file, r.array, r.index); err != nil {
			t.Fatal(err)
		}
	}
	if raw, err = os.ReadFile(file); err != nil || strings.TrimSpace(string(raw)) != strings.TrimSpace(edited) {
		t.Errorf("got %s, %v", raw, err)
	}
	if err := Remove(file, "source", 0); err != nil {
		t.Fatal(err)
	}
	if u := load(); len(u.Sources) != 1 || u.Sources[0].Name != "photos" || u.Log.Level != "debug" {
		t.Errorf("got %+v", u)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// A source goes with the tables within it: what stays must not get its rules.
func TestRemoveInner(t *testing.T) {
	file := filepath.Join(t.TempDir(), "coffer.toml")
	const first = "[[upstream]]\ntype = 'folder'\npath = '/b'\n[[source]]\nname = 'a'\npath = '/a'\n"
	if err := os.WriteFile(file, []byte(first+"[[source]]\nname = 'b'\npath = '/b'\n[source.keep]\nlast = 1\n[maintenance]\nprune = 'never'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Remove(file, "source", 1); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(file); err != nil || string(raw) != first+"[maintenance]\nprune = 'never'\n" {
		t.Errorf("got %s, %v", raw, err)
	}
}

// What would be wrong leaves the file as it was.
func TestEditRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "coffer.toml")
	if err := os.WriteFile(file, []byte(edited), 0o600); err != nil {
		t.Fatal(err)
	}
	var fault *Error
	if err := Add(file, &User{Sources: []Source{{Name: "photos", Path: "/x"}}}); !errors.As(err, &fault) || fault.File != file || fault.Field != "source[2].name" {
		t.Errorf("a second photos: %v", err)
	}
	if err := Remove(file, "upstream", 0); !errors.As(err, &fault) || fault.Field != "upstream" {
		t.Errorf("the only upstream: %v", err)
	}
	if err := Remove(file, "source", 7); err == nil {
		t.Error("a source that is not there")
	}
	if raw, err := os.ReadFile(file); err != nil || string(raw) != edited {
		t.Errorf("got %s, %v", raw, err)
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != 1 {
		t.Errorf("files left over: %v, %v", all, err)
	}
	if err := Add(filepath.Join(dir, "none"), &User{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// Every value says where it comes from.
func TestSettings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "coffer.toml")
	if err := os.WriteFile(file, []byte(edited), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := Settings(file)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]Setting)
	for _, s := range all {
		got[s.Field] = s
	}
	for field, origin := range map[string]string{
		"upstream[0].type": file + ":3", "upstream[0].name": "default", "gateway.key[0].access_key": file + ":9", "source[1].name": file + ":19",
		"source[0].exclude": file + ":15", "source[0].scan": "default", "log.level": file + ":23", "log.format": "default", "state_dir": "default",
	} {
		if got[field].Origin != origin {
			t.Errorf("%s: %+v, want from %s", field, got[field], origin)
		}
	}
	if got["source[1].name"].Value != "photos" {
		t.Errorf("got %+v", got["source[1].name"])
	}
	if _, err := Settings(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// Patterns are replaced where they are written, in whatever form, and nothing else is.
func TestSetExclude(t *testing.T) {
	const head = "[[upstream]]\ntype = 'folder'\npath = '/b'\n"
	for _, c := range []struct{ before, after, err string }{
		{"[[source]]\nname = 'a'\npath = '/a'\n", "[[source]]\nname = 'a'\npath = '/a'\nexclude = ['*.o', \"it's\"]\n", ""},
		{"[[source]]\nname = 'a'\npath = '/a'\n\n[source.keep]\nlast = 1\n", "[[source]]\nname = 'a'\npath = '/a'\nexclude = ['*.o', \"it's\"]\n\n[source.keep]\nlast = 1\n", ""},
		{"[[source]] # x\nexclude = [ # why\n  'a]', # one ]\n  \"b\\\"]\",\n] # end\nname = 'a'\npath = '/a'", "[[source]] # x\nexclude = ['*.o', \"it's\"]\nname = 'a'\npath = '/a'", ""},
		{"[[source]]\nname = 'a'\npath = '/a'\nexclude_larger = '1GB'\n'exclude'=['x']\n[log]\nlevel = 'info'\n", "[[source]]\nname = 'a'\npath = '/a'\nexclude_larger = '1GB'\nexclude = ['*.o', \"it's\"]\n[log]\nlevel = 'info'\n", ""},
		{"source = [{name = 'a', path = '/a'}]\n", "", "another form"},
		{"[[source]]\nname = 'a'\npath = '/a'\nexclude = [\"\"\"x\"]\ny\"\"\"]\n", "", "coffer.toml"},
	} {
		file := filepath.Join(t.TempDir(), "coffer.toml")
		before := c.before + "\n" + head
		if strings.HasPrefix(c.before, "source") {
			before = c.before + head
		}
		if err := os.WriteFile(file, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
		err := SetExclude(file, 0, []string{"*.o", "it's"})
		got, _ := os.ReadFile(file)
		switch {
		case c.err != "":
			if err == nil || !strings.Contains(err.Error(), c.err) || string(got) != before {
				t.Errorf("%s\nwant an error with %q, got %v and\n%s", c.before, c.err, err, got)
			}
			continue
		case err != nil || strings.TrimRight(string(got), "\n") != strings.TrimRight(c.after+"\n"+head, "\n"):
			t.Errorf("%s\ngot %v and\n%s\nwant\n%s", c.before, err, got, c.after)
			continue
		}
		if err := SetExclude(file, 0, nil); err != nil {
			t.Error(err)
		}
		if u, err := LoadUser(file); err != nil || len(u.Sources[0].Exclude) != 0 {
			t.Errorf("taken away: %v", err)
		}
	}
	file := write(t, head)
	for _, p := range [][]string{{""}, {"a\nb"}, {"a"}} {
		if err := SetExclude(file, 0, p); err == nil {
			t.Errorf("%q of no source is taken", p)
		}
	}
}
