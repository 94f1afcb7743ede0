package config

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/pelletier/go-toml/v2"

	"coffer/internal/calendar"
	"coffer/internal/durable"
)

// User is coffer.toml: what one user's daemon and command share.
type User struct {
	StateDir string `toml:"state_dir,omitempty"` // journal, local key, gateway index; default $STATE_DIRECTORY, else $XDG_STATE_HOME/coffer (~/.local/state/coffer)
	CacheDir string `toml:"cache_dir,omitempty"` // may be deleted at any time; default $CACHE_DIRECTORY, else $XDG_CACHE_HOME/coffer (~/.cache/coffer)
	Control  string `toml:"control,omitempty"`   // unix socket of the daemon; default /run/coffer-sock/USER/control.sock if it is there (coffer@.socket), else $RUNTIME_DIRECTORY/control.sock, else $XDG_RUNTIME_DIR/coffer/control.sock, else control.sock in state_dir
	Host     string `toml:"host,omitempty"`      // name of this machine in snapshots; default the host name

	Upstreams []Upstream `toml:"upstream,omitempty"` // where the backups go: several are mirrors, which hold the same objects; reads prefer the first
	Sources   []Source   `toml:"source,omitempty"`   // what is backed up; none is allowed, for a machine that only restores or only runs the gateway
	Limits    []Limit    `toml:"limit,omitempty"`    // how fast bytes go to and from S3 upstreams, all together, by time of day; default as fast as they can
	Gateway   Gateway    `toml:"gateway,omitzero"`

	Maintenance Maintenance `toml:"maintenance,omitzero"`
	Notify      Notify      `toml:"notify,omitzero"`
	Power       Power       `toml:"power,omitzero"`
	Web         Web         `toml:"web,omitzero"`
	Vault       VaultClient `toml:"vault,omitzero"`
	Log         Log         `toml:"log,omitzero"`
	Metrics     Metrics     `toml:"metrics,omitzero"`
}

// Source is a watched directory (or a file).
type Source struct {
	Name          string   `toml:"name"`                     // unique; letters, digits, "-", "_", "."
	Path          string   `toml:"path"`                     // directory or file
	Exclude       []string `toml:"exclude,omitempty"`        // patterns as in .gitignore, from the source's path; excluded trees are not watched either
	ExcludeLarger Size     `toml:"exclude_larger,omitempty"` // files above this size are left out; default 0: none
	ExcludeCaches bool     `toml:"exclude_caches,omitempty"` // leave out what directories marked by CACHEDIR.TAG hold
	OneFileSystem bool     `toml:"one_file_system,omitempty"`
	Tags          []string `toml:"tags,omitempty"`      // put on each snapshot
	ScanOnly      bool     `toml:"scan_only,omitempty"` // do not watch: for trees above the watch limit, network and FUSE filesystems
	Quiet         Duration `toml:"quiet,omitempty"`     // back up when nothing changed for so long; default 5s
	MaxWait       Duration `toml:"max_wait,omitempty"`  // but no later than this after the first change; default 5m, at least quiet
	Scan          Duration `toml:"scan,omitempty"`      // full scan this often, give or take a tenth; default 1h, at least 1m
	Schedule      []string `toml:"schedule,omitempty"`  // back up at these times only, as "02:30" or "Mon..Fri 20:15"; default: on changes and by scan
	Overdue       Interval `toml:"overdue,omitempty"`   // a problem when nothing was saved for so long; default 3d
	PingFile      string   `toml:"ping_file,omitempty"` // file, 0600, with the address of a dead man's switch: pinged with /start, as it is, and with /fail

	AllowUnmounted bool `toml:"allow_unmounted,omitempty"` // also when the directory is empty, or no mount point any more, and was not so before

	Keep Keep `toml:"keep,omitzero"` // which snapshots are kept; default all
}

// Gateway is the local S3 endpoint.
type Gateway struct {
	Listen     string       `toml:"listen,omitempty"`      // host:port; "" and no socket from systemd: no gateway
	TLSCert    string       `toml:"tls_cert,omitempty"`    // PEM file, certificate first, then intermediates; read again when it changes; "": no TLS
	TLSKey     string       `toml:"tls_key,omitempty"`     // PEM file of its private key, 0600
	AllowPlain bool         `toml:"allow_plain,omitempty"` // plain HTTP on an address that is not loopback: all content is readable on the network
	Names      string       `toml:"names,omitempty"`       // "sealed" (default) or "clear": what object names are upstream
	ETag       string       `toml:"etag,omitempty"`        // "md5" (default) or "opaque"
	Region     string       `toml:"region,omitempty"`      // that clients sign for; default "us-east-1"
	Public     bool         `toml:"public,omitempty"`      // bucket policies, ACLs and websites can let in those who sign nothing
	Keys       []GatewayKey `toml:"key,omitempty"`         // none lets nobody in
}

// GatewayKey lets an S3 program in.
type GatewayKey struct {
	AccessKey  string   `toml:"access_key"`        // 3 to 128 letters, digits, "-", "_", "."; public
	SecretFile string   `toml:"secret_file"`       // file, 0600, that holds the secret key, 8 characters or more
	Buckets    []string `toml:"buckets,omitempty"` // which it may use, "*" at the end stands for anything; default all
	Rights     string   `toml:"rights,omitempty"`  // "read" or "write" (default: reads and writes)
}

// VaultClient says which vault holds the backup key behind a password.
type VaultClient struct {
	Fleet     string   `toml:"fleet,omitempty"`      // file: the fleet's signed manifest; "" means no vault
	Roots     []string `toml:"roots,omitempty"`      // fleet root keys to trust, Ed25519, 64 hex digits each
	Account   string   `toml:"account,omitempty"`    // the name this vault knows the user by
	TokenFile string   `toml:"token_file,omitempty"` // authorisation of the account, where the vault asks for one
}

// LoadUser reads coffer.toml, fills in the defaults and checks every value.
func LoadUser(file string) (*User, error) {
	u := new(User)
	d, err := decode(file, u)
	if err != nil {
		return nil, err
	}
	u.complete(d)
	if d.err != nil {
		return nil, d.err
	}
	return u, nil
}

// LoadNotify reads who is told of problems, [notify] with host and [log], from a
// coffer.toml that may be wrong elsewhere, or that holds nothing else: the user
// it returns is good for telling only.
func LoadNotify(file string) (*User, error) {
	u := new(User)
	d, err := decode(file, u)
	if err != nil {
		return nil, err
	}
	u.completeHost()
	u.Notify.complete(d)
	u.Log.complete(d)
	if d.err != nil {
		return nil, d.err
	}
	return u, nil
}

// WriteUser writes u durably, readable by its owner only. The defaults are left
// to u: what is empty there is left out. An existing file is replaced.
func WriteUser(file string, u *User) error {
	var b bytes.Buffer
	b.WriteString("# coffer: see coffer.toml(5); every key is explained in the example coffer.toml\n\n")
	enc := toml.NewEncoder(&b)
	if err := enc.Encode(u); err != nil {
		return fmt.Errorf("writing configuration %s: %w", file, err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("writing configuration %s: %w", file, err)
	}
	if err := durable.WriteFile(file, b.Bytes(), 0o600); err != nil {
		return fmt.Errorf("writing configuration %s: %w", file, err)
	}
	return nil
}

// Complete fills in the defaults of a User made by a program, as LoadUser does,
// and checks it. Relative paths start at dir.
func (u *User) Complete(dir string) error {
	d := &document{file: "configuration", dir: dir}
	u.complete(d)
	return d.err
}

func (u *User) complete(d *document) {
	orElse(&u.StateDir, defaultDir("STATE_DIRECTORY", "XDG_STATE_HOME", ".local", "state"))
	orElse(&u.CacheDir, defaultDir("CACHE_DIRECTORY", "XDG_CACHE_HOME", ".cache"))
	d.path("state_dir", &u.StateDir)
	d.path("cache_dir", &u.CacheDir)
	orElse(&u.Control, defaultControl(u.StateDir))
	d.path("control", &u.Control)
	if len(u.Control) > maxSocketPath {
		d.fail("control", "%q is longer than the %d bytes that a socket's path may have", u.Control, maxSocketPath)
	}
	u.completeHost()
	if len(u.Upstreams) == 0 {
		d.fail("upstream", "missing: at least one [[upstream]] says where the backups go")
	}
	names := make(map[string]bool)
	for i := range u.Upstreams {
		u.Upstreams[i].complete(d, fmt.Sprintf("upstream[%d].", i), names)
	}
	clear(names)
	for i := range u.Sources {
		u.Sources[i].complete(d, fmt.Sprintf("source[%d].", i), names)
	}
	u.Maintenance.complete(d)
	u.Notify.complete(d)
	u.Power.complete(d)
	for i := range u.Limits {
		u.Limits[i].complete(d, fmt.Sprintf("limit[%d].", i))
	}
	u.Gateway.complete(d)
	d.loopback("web.listen", u.Web.Listen)
	u.Vault.complete(d)
	u.Log.complete(d)
	u.Metrics.complete(d)
}

func (u *User) completeHost() {
	if u.Host == "" {
		u.Host, _ = os.Hostname()
		orElse(&u.Host, "localhost")
	}
}

func (s *Source) complete(d *document, at string, names map[string]bool) {
	d.unique(at+"name", s.Name, names)
	d.required(at+"path", s.Path)
	d.path(at+"path", &s.Path)
	orElse(&s.Quiet, Duration(5*time.Second))
	orElse(&s.MaxWait, max(s.Quiet, Duration(5*time.Minute)))
	orElse(&s.Scan, Duration(time.Hour))
	if s.MaxWait < s.Quiet {
		d.fail(at+"max_wait", "%v is less than quiet, %v", s.MaxWait, s.Quiet)
	}
	if s.Scan < Duration(time.Minute) {
		d.fail(at+"scan", "%v is too often: at least 1m", s.Scan)
	}
	if _, err := calendar.Parse(s.Schedule); err != nil {
		d.fail(at+"schedule", "%w", err)
	}
	orElse(&s.Overdue, Interval(3*day))
	d.path(at+"ping_file", &s.PingFile)
	s.Keep.complete(d, at+"keep.")
}

func (g *Gateway) complete(d *document) {
	orElse(&g.Names, "sealed")
	orElse(&g.ETag, "md5")
	orElse(&g.Region, "us-east-1")
	d.address("gateway.listen", g.Listen)
	d.path("gateway.tls_cert", &g.TLSCert)
	d.path("gateway.tls_key", &g.TLSKey)
	if (g.TLSCert == "") != (g.TLSKey == "") {
		d.fail("gateway.tls_cert", "tls_cert and tls_key belong together")
	}
	if g.Listen != "" && g.TLSCert == "" && !g.AllowPlain && !isLoopback(g.Listen) {
		d.fail("gateway.listen", "%q can be reached from other machines: that needs tls_cert and tls_key, or allow_plain = true", g.Listen)
	}
	d.oneOf("gateway.names", g.Names, "sealed", "clear")
	d.oneOf("gateway.etag", g.ETag, "md5", "opaque")
	seen := make(map[string]bool)
	for i := range g.Keys {
		k, at := &g.Keys[i], fmt.Sprintf("gateway.key[%d].", i)
		orElse(&k.Rights, "write")
		d.unique(at+"access_key", k.AccessKey, seen)
		d.required(at+"secret_file", k.SecretFile)
		d.path(at+"secret_file", &k.SecretFile)
		d.oneOf(at+"rights", k.Rights, "read", "write")
	}
}

func (v *VaultClient) complete(d *document) {
	d.path("vault.fleet", &v.Fleet)
	d.path("vault.token_file", &v.TokenFile)
	d.keys("vault.roots", v.Roots)
	if v.Fleet != "" {
		d.required("vault.account", v.Account)
		if len(v.Roots) == 0 {
			d.fail("vault.roots", "missing: which fleet root keys to trust")
		}
	}
}
