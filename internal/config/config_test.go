package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// minimal is the least that LoadUser takes.
const minimal = `
[[upstream]]
type = "folder"
path = "/srv/backup"
`

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "coffer.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// plainEnvironment takes away what a service manager or a desktop sets.
func plainEnvironment(t *testing.T) {
	t.Helper()
	for _, v := range []string{"STATE_DIRECTORY", "CACHE_DIRECTORY", "RUNTIME_DIRECTORY", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "COFFER_CONFIG"} {
		t.Setenv(v, "")
	}
	t.Setenv("HOME", "/home/anna")
}

// TestDefaults: what the file leaves out decides where keys and journals lie;
// another place after an upgrade would look like a lost key.
func TestDefaults(t *testing.T) {
	plainEnvironment(t)
	u, err := LoadUser(write(t, minimal+`
[[source]]
name = "docs"
path = "~/Documents"
`))
	if err != nil {
		t.Fatal(err)
	}
	host, _ := os.Hostname()
	want := &User{
		StateDir: "/home/anna/.local/state/coffer", CacheDir: "/home/anna/.cache/coffer",
		Control: "/home/anna/.local/state/coffer/control.sock", Host: host,
		Upstreams: []Upstream{{Name: "folder", Type: "folder", Path: "/srv/backup"}},
		Sources: []Source{{Name: "docs", Path: "/home/anna/Documents", Quiet: Duration(5 * time.Second),
			MaxWait: Duration(5 * time.Minute), Scan: Duration(time.Hour), Overdue: Interval(3 * day)}},
		Gateway: Gateway{Names: "sealed", ETag: "md5", Region: "us-east-1"},
		Maintenance: Maintenance{Forget: Interval(day), Prune: Interval(week), Check: Interval(week), Read: Interval(week),
			ReadAll: Duration(26 * week), Drill: Interval(week)},
		Notify: Notify{After: Duration(10 * time.Minute), Remind: Interval(3 * day)},
		Power:  Power{Battery: new(20), Metered: new(true)},
		Log:    Log{Level: "info", Format: "auto"},
	}
	if !reflect.DeepEqual(u, want) {
		t.Errorf("got  %+v\nwant %+v", u, want)
	}
}

func TestDefaultsInUnit(t *testing.T) {
	plainEnvironment(t)
	t.Setenv("STATE_DIRECTORY", "/var/lib/coffer/anna:/var/lib/second")
	t.Setenv("CACHE_DIRECTORY", "/var/cache/coffer/anna")
	t.Setenv("RUNTIME_DIRECTORY", "/run/coffer/anna")
	u, err := LoadUser(write(t, minimal))
	if err != nil {
		t.Fatal(err)
	}
	got := []string{u.StateDir, u.CacheDir, u.Control}
	want := []string{"/var/lib/coffer/anna", "/var/cache/coffer/anna", "/run/coffer/anna/control.sock"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestUserFile(t *testing.T) {
	plainEnvironment(t)
	if got, want := UserFile(), "/home/anna/.config/coffer/coffer.toml"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	t.Setenv("XDG_CONFIG_HOME", "/etc/anna")
	if got, want := UserFile(), "/etc/anna/coffer/coffer.toml"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	t.Setenv("COFFER_CONFIG", "/tmp/x.toml")
	if got, want := UserFile(), "/tmp/x.toml"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestFaults: each fault names the line, the field and what is wrong, or the
// user searches a file that looks right to him.
func TestFaults(t *testing.T) {
	plainEnvironment(t)
	for _, tt := range []struct{ name, text, want string }{
		{"syntax", "state_dir = \n", ":1:13: "},
		{"unknown key", minimal + "quite = '5s'\n", ":5:1: upstream.quite: unknown key"},
		{"unknown table", minimal + "[gatway]\nlisten = ''\n", ":5:2: gatway: unknown key"},
		{"wrong type", "state_dir = 3\n" + minimal, ":1:13: state_dir: "},
		{"no upstream", "state_dir = '/s'\n", ": upstream: missing"},
		{"type", "[[upstream]]\nname = 'a'\ntype = 'ftp'\n", `:3:1: upstream[0].type: "ftp" is not one of folder, s3`},
		{"missing path", "[[upstream]]\ntype = 'folder'\n", ":1:3: upstream[0].path: missing"},
		{"second upstream of one name", minimal + "[[upstream]]\ntype = 'folder'\npath = '/b'\n", `:5:3: upstream[1].name: "folder" is there twice`},
		{"second of its name", minimal + "[[source]]\nname = 'a'\npath = '/a'\n[[source]]\nname = 'a'\npath = '/b'\n", `:9:1: source[1].name: "a" is there twice`},
		{"endpoint", "[[upstream]]\ntype = 's3'\nbucket = 'b'\nendpoint = 'https://me:hunter2@x'\n", ":4:1: upstream[0].endpoint: holds a user or a password"},
		{"no endpoint", "[[upstream]]\ntype = 's3'\nbucket = 'b'\nendpoint = 'me:hunter2@x'\n", ":4:1: upstream[0].endpoint: not a http"},
		{"half a key", "[[upstream]]\ntype = 's3'\nendpoint = 'https://x'\nbucket = 'b'\naccess_key_file = '/k'\n", ":5:1: upstream[0].access_key_file: "},
		{"duration", minimal + "[[source]]\nname = 'a'\npath = '/a'\nquiet = '5 s'\n", `:8:9: source.quiet: "5 s" is not a duration`},
		{"negative", minimal + "[[source]]\nname = 'a'\npath = '/a'\nquiet = '-5s'\n", "is not a duration"},
		{"size", minimal + "[[source]]\nname = 'a'\npath = '/a'\nexclude_larger = '5XB'\n", "is not a size"},
		{"scan", minimal + "[[source]]\nname = 'a'\npath = '/a'\nscan = '1s'\n", ":8:1: source[0].scan: 1s is too often"},
		{"wait", minimal + "[[source]]\nname = 'a'\npath = '/a'\nquiet = '1h'\nmax_wait = '1m'\n", ":9:1: source[0].max_wait: 1m0s is less"},
		{"other home", minimal + "[[source]]\nname = 'a'\npath = '~bob/a'\n", ":7:1: source[0].path: "},
		{"name", minimal + "[[source]]\nname = 'a b'\npath = '/a'\n", ":6:1: source[0].name: "},
		{"listen", minimal + "[gateway]\nlisten = ':9000'\n", ":6:1: gateway.listen: "},
		{"port", minimal + "[gateway]\nlisten = 'localhost:http'\n", "the port is not a number"},
		{"plain", minimal + "[gateway]\nlisten = '0.0.0.0:9000'\nkey = [{access_key = 'ab', secret_file = '/s'}]\n", ":6:1: gateway.listen: \"0.0.0.0:9000\" can be reached"},
		{"plain name", minimal + "[gateway]\nlisten = 'laptop.example:9000'\nkey = [{access_key = 'ab', secret_file = '/s'}]\n", "allow_plain"},
		{"half a certificate", minimal + "[gateway]\ntls_cert = '/c'\n", ":6:1: gateway.tls_cert: tls_cert and tls_key belong together"},
		{"inline", minimal + "[gateway]\nkey = [{access_key = 'ab', secret_file = '/s', rights = 'all'}]\n", ":6:48: gateway.key[0].rights: "},
		{"roots", minimal + "[vault]\nfleet = '/f'\naccount = 'anna'\nroots = ['12']\n", ":8:1: vault.roots: "},
		{"no account", minimal + "[vault]\nfleet = '/f'\n", ":5:2: vault.account: missing"},
		{"control", "control = '/" + strings.Repeat("c", 110) + "'\n" + minimal, ":1:1: control: "},
		{"level", minimal + "[log]\nlevel = 'loud'\n", ":6:1: log.level: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := write(t, tt.text)
			u, err := LoadUser(file)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %+v, %v, want an *Error", u, err)
			}
			got, found := strings.CutPrefix(err.Error(), file)
			if !found || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if strings.Contains(got, "hunter2") {
				t.Errorf("%q shows a password", got)
			}
		})
	}
}

func TestFileFaults(t *testing.T) {
	if _, err := LoadUser(filepath.Join(t.TempDir(), "none.toml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want %v", err, os.ErrNotExist)
	}
	large := write(t, "# "+strings.Repeat("x", maxFileSize))
	var e *Error
	if _, err := LoadUser(large); !errors.As(err, &e) {
		t.Errorf("got %v, want an *Error", err)
	}
}

// TestWriteUser: what setup writes is what the daemon reads.
func TestWriteUser(t *testing.T) {
	plainEnvironment(t)
	u := &User{
		StateDir:  "/s",
		Upstreams: []Upstream{{Type: "s3", Endpoint: "https://s3.example", Bucket: "b", PathStyle: true}},
		Sources:   []Source{{Name: "docs", Path: "/docs", Exclude: []string{"*.o", `a"b`}, ExcludeLarger: 16 << 20, Quiet: Duration(90 * time.Second)}},
		Gateway:   Gateway{Listen: "127.0.0.1:9421", Keys: []GatewayKey{{AccessKey: "AK", SecretFile: "/k", Buckets: []string{"x"}}}},
		Vault:     VaultClient{Fleet: "/f", Roots: []string{strings.Repeat("ab", 32)}, Account: "anna"},
	}
	file := filepath.Join(t.TempDir(), "new", "coffer.toml")
	if err := WriteUser(file, u); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "cache_dir") {
		t.Errorf("a default was written:\n%s", text)
	}
	got, err := LoadUser(file)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if err := u.Complete("/"); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, u) {
		t.Errorf("got  %+v\nwant %+v\n%s", got, u, text)
	}
}

func TestVault(t *testing.T) {
	plainEnvironment(t)
	const text = `
dir = "node1"
listen = "127.0.0.1:8470"
raft_listen = "127.0.0.1:8471"
[hsm]
module = "/usr/lib/softhsm/libsofthsm2.so"
token_label = "coffer"
pin_file = "pin"
`
	file := write(t, text)
	v, err := LoadVault(file)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(filepath.Dir(file), "node1")
	want := &Vault{Dir: dir, Listen: "127.0.0.1:8470", RaftListen: "127.0.0.1:8471", Advertise: "127.0.0.1:8470", RaftAdvertise: "127.0.0.1:8471",
		Name: "node1", Manifest: filepath.Join(dir, "fleet.cbor"),
		HSM:  HSM{Module: "/usr/lib/softhsm/libsofthsm2.so", TokenLabel: "coffer", PINFile: filepath.Join(filepath.Dir(file), "pin"), RunDir: filepath.Join(dir, "run")},
		Auth: Auth{Mode: "token", KeyFile: filepath.Join(dir, "token.key")}, Log: Log{Level: "info", Format: "auto"}}
	if !reflect.DeepEqual(v, want) {
		t.Errorf("got  %+v\nwant %+v", v, want)
	}
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", "", ": dir: missing"},
		{"pin", strings.Replace(text, "pin_file = \"pin\"\n", "", 1), ":5:2: hsm.pin_file: "},
		{"label", strings.Replace(text, `"coffer"`, `"`+strings.Repeat("c", 33)+`"`, 1), ":7:1: hsm.token_label: "},
		{"jwt", text + "[auth]\nmode = 'jwt'\n", ":9:2: auth.issuer: missing"},
		{"mode", text + "[auth]\nmode = 'none'\n", ":10:1: auth.mode: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := LoadVault(write(t, tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestDurationAndSize(t *testing.T) {
	for text, want := range map[string]time.Duration{"5s": 5 * time.Second, "1h30m": 90 * time.Minute, "2d": 48 * time.Hour, "1w": 7 * 24 * time.Hour, "0": 0} {
		var d Duration
		if err := d.UnmarshalText([]byte(text)); err != nil || time.Duration(d) != want {
			t.Errorf("%q: got %v, %v, want %v", text, d, err, want)
		}
	}
	for text, want := range map[string]Size{"512": 512, "16MiB": 16 << 20, "2GB": 2e9, "1 KiB": 1024, "7B": 7, "0": 0} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%q: got %v, %v, want %v", text, s, err, want)
		}
		again := Size(-1)
		if err := again.UnmarshalText([]byte(s.String())); err != nil || again != s {
			t.Errorf("%v: read again as %v, %v", s, again, err)
		}
	}
	for _, text := range []string{"", "d", "1.5d", "99999999999d", "-1w", "5"} {
		if err := new(Duration).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("duration %q was taken", text)
		}
	}
	for _, text := range []string{"", "MiB", "1.5GiB", "-1", "9000000TiB", "1e3"} {
		if err := new(Size).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("size %q was taken", text)
		}
	}
}

func TestMaintenance(t *testing.T) {
	plainEnvironment(t)
	const source = "[[source]]\nname = 'docs'\npath = '/docs'\n"
	u, err := LoadUser(write(t, minimal+source+"[source.keep]\ndaily = 7\nwithin = '2d'\ntags = ['keep']\n[maintenance]\nprune = 'never'\nread = '1d'\nread_all = '30d'\n"))
	if err != nil {
		t.Fatal(err)
	}
	if k := u.Sources[0].Keep; k.Daily != 7 || time.Duration(k.Within) != 48*time.Hour || len(k.Tags) != 1 {
		t.Errorf("got %+v", k)
	}
	if m := u.Maintenance; m.Prune != never || m.Read != Interval(day) || m.Check != Interval(week) || m.Prune.String() != "never" {
		t.Errorf("got %+v", m)
	}
	for text, want := range map[string]string{
		source + "[source.keep]\ntags = ['a']\n":        ":9:1: source[0].keep.tags: alone",
		source + "[source.keep]\nlast = -1\n":           ":9:1: source[0].keep.last: ",
		"[maintenance]\ncheck = '1m'\n":                 ":6:1: maintenance.check: 1m0s is too often",
		"[maintenance]\ncheck = 'often'\n":              ":6:9: maintenance.check: ",
		"[maintenance]\nread = '1w'\nread_all = '1d'\n": ":7:1: maintenance.read_all: ",
		source + "[source.keep]\ndayly = 7\n":           ":9:1: source.keep.dayly: unknown key",
	} {
		if _, err := LoadUser(write(t, minimal+text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

func TestNotify(t *testing.T) {
	plainEnvironment(t)
	u, err := LoadUser(write(t, minimal+`
[notify]
remind = "never"
[notify.webhook]
url_file = "$CREDENTIALS_DIRECTORY/hook"
[notify.mail]
server = "smtp.example.org:587"
from = "coffer <a@example.org>"
to = ["b@example.org"]
[power]
battery = 0
metered = false
`))
	if err != nil {
		t.Fatal(err)
	}
	if n := u.Notify; n.Remind != never || n.Webhook.URLFile != "$CREDENTIALS_DIRECTORY/hook" || n.Mail.TLS != "starttls" || *u.Power.Battery != 0 || *u.Power.Metered {
		t.Errorf("got %+v, %+v", n, u.Power)
	}
	const source = "[[source]]\nname = 'docs'\npath = '/docs'\n"
	for text, want := range map[string]string{
		"[notify.webhook]\nsecret_file = '/k'\n":                                        ":5:9: notify.webhook.url_file: missing",
		"[notify.mail]\nto = ['b@example.org']\n":                                       ":5:9: notify.mail.server: missing",
		"[notify.mail]\nserver = 's:1'\nfrom = 'a@example.org'\n":                       ":5:9: notify.mail.to: missing",
		"[notify.mail]\nserver = 's:1'\nfrom = 'a@example.org'\nto = ['b@c.d', 'b']\n":  ":8:1: notify.mail.to: \"b\" is not",
		"[notify.mail]\nserver = 's:1'\nfrom = 'a@b.c'\nto = ['b@c.d']\ntls = 'none'\n": ":9:1: notify.mail.tls: ",
		"[notify.mail]\nserver = 's:1'\nfrom = 'a@b.c'\nto = ['b@c.d']\nuser = 'a'\n":   ":9:1: notify.mail.user: ",
		"[power]\nbattery = 120\n":                                                      ":6:1: power.battery: ",
		source + "schedule = ['noon']\n":                                                ":8:1: source[0].schedule: \"noon\"",
	} {
		if _, err := LoadUser(write(t, minimal+text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

// FuzzUser: no file makes the reader panic, and every fault has its place in it.
func FuzzUser(f *testing.F) {
	f.Add(minimal)
	f.Add("[[source]]\nname = 'a'\nexclude = ['a', {b = 1}]\n[a.b]\n'' = 1\n")
	f.Add("gateway.key = [{access_key = 'a'}]\nupstream = [{}]\n[[upstream]]")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		file := filepath.Join(dir, "coffer.toml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := LoadUser(file)
		var e *Error
		if errors.As(err, &e) && e.Line > strings.Count(text, "\n")+1 {
			t.Errorf("%v: the file has %d lines", err, strings.Count(text, "\n")+1)
		}
	})
}

// Whom to tell is known also where the rest of the file is wrong.
func TestLoadNotify(t *testing.T) {
	file := filepath.Join(t.TempDir(), "coffer.toml")
	for text, want := range map[string]string{
		"host = 'h'\n[notify.webhook]\nurl_file = 'hook'\n": filepath.Join(filepath.Dir(file), "hook"),
		"[notify.mail]\nfrom = 'a@b'\n":                     "notify.mail.server: missing",
		"nonsense = 1\n":                                    "nonsense: unknown key",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		u, err := LoadNotify(file)
		got := fmt.Sprint(err)
		if err == nil {
			got = u.Notify.Webhook.URLFile
		}
		if !strings.HasSuffix(got, want) {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}
