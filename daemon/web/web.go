// Package web is the local page of the daemon: what is saved, what runs, and
// every snapshot to look into and to take files from.
//
// It is served on loopback for one user, from the binary, without a build step:
// HTML from templates, one style sheet, one small script that keeps an open page
// up to date. Every view works without the script; only signing in by link and
// passkeys need it.
//
// Loopback is no border: other users of the machine can reach the port, and so
// can every web page that the user has open. What holds them off:
//
//	Host               only the names that [Config.Addr] gives, else 421: no DNS rebinding
//	Sec-Fetch-Site     a request that another origin began is refused, except a plain visit
//	Origin             the same for browsers that do not send it (net/http.CrossOriginProtection)
//	session            a cookie, HttpOnly and SameSite=Strict, got for a one-time token that
//	                   the control socket hands to the owner alone
//	Content-Security…  no inline script or style, nothing from elsewhere, no frames, Trusted Types
//	files of snapshots attachments with "sandbox", never a page of this origin
//
// No secret is in any URL but the one-time token, and that in the fragment, which
// browsers do not send. Names of files are logged at debug only.
package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"coffer/backup"
	"coffer/daemon"
)

// Daemon is what the page shows and steers; *daemon.Daemon is one.
type Daemon interface {
	Status() daemon.Status
	// Subscribe gives the events after the one numbered after that are kept,
	// at once, and then each new one until cancel is called.
	Subscribe(after uint64) (events <-chan daemon.Event, cancel func())
	// Backup asks for a backup of the sources, all for none, and waits for the
	// end or for ctx; the backup goes on when ctx ends.
	Backup(ctx context.Context, sources []string, fn func(daemon.Event)) ([]daemon.Event, error)
	Pause(length time.Duration) // 0: until Resume
	Resume()
	Lock() // forgets the backup key
}

// Repo is where the snapshots are; *backup.Repo is one.
type Repo interface {
	Snapshots(ctx context.Context) ([]*backup.Snapshot, error)
	Stat(ctx context.Context, s *backup.Snapshot, name string) (backup.Entry, error)
	List(ctx context.Context, s *backup.Snapshot, name string, fn func(backup.Entry) error) error
	Walk(ctx context.Context, s *backup.Snapshot, name string, fn func(path string, e backup.Entry) error) error
	ReadFile(ctx context.Context, s *backup.Snapshot, name string, off, n int64) (io.ReadCloser, error)
	Diff(ctx context.Context, from, to *backup.Snapshot, name string, fn func(backup.Change) error) error
	Restore(ctx context.Context, o backup.RestoreOptions) (backup.Report, error)
	RestoreNew(ctx context.Context, o backup.RestoreOptions) (backup.Report, error)
}

// Target is a place that the backups go to.
type Target struct {
	Name    string
	Kind    string // "folder" or "s3"
	Address string // as people know it; no secret
	// Check asks the place for something small. nil: its health is not shown.
	Check func(context.Context) error
}

// Method is one way in which the owner keeps the backup key.
type Method struct {
	Kind  string // "digits" or "password"
	Since time.Time
	Fleet string // of a password: the vault
}

// Gateway describes the S3 endpoint; without a URL there is none.
type Gateway struct {
	URL, Region, Names, ETag string
	Keys                     []GatewayKey

	// Buckets lists what there is, of at most limit; nil: it is not shown.
	Buckets func(ctx context.Context, limit int) ([]GatewayBucket, error)
}

// GatewayBucket is one bucket of the gateway.
type GatewayBucket struct {
	Name       string
	Created    time.Time
	Versioning string // "", "Enabled" or "Suspended"
	Lock       bool   // objects are locked against deletion
}

// GatewayKey is an access key, without its secret.
type GatewayKey struct {
	ID      string
	Buckets []string // none: all
	Rights  string   // "read" or "write"
}

// Config is what a page needs.
type Config struct {
	Daemon Daemon // required
	// Open gives the repository; required. Its error is daemon.ErrLocked while
	// the key is not there.
	Open func(context.Context) (Repo, error)
	Addr string // required: where it is served, as 127.0.0.1:9921

	Targets []Target
	Methods []Method // what protects the backup, oldest first
	Gateway Gateway

	Folders  Folders                                  // nil: nothing is restored from the page
	Excludes Excludes                                 // nil: they are not shown
	Vault    func(context.Context) (Vault, error)     // nil: the key is in no vault
	Passkeys Passkeys                                 // nil: there can be none
	Doctor   func(context.Context) ([]Finding, error) // nil: there is none

	Overdue time.Duration // a source not saved for so long is overdue; 0: 24h

	Log *zap.Logger // nil logs nothing
}

// Web is the page. It is an http.Handler.
type Web struct {
	c        Config
	log      *zap.Logger
	hosts    map[string]bool
	loginURL string // without the token
	handler  http.Handler
	access   *access
	health   *health
	vault    lately[Vault]
	restores *restores
	streams  chan struct{} // one element for each live page
	stop     chan struct{}
	stopOnce sync.Once

	diagnosis diagnosis

	// What Snapshots said lately: a page costs several looks at it.
	snapMu sync.Mutex
	snaps  []*backup.Snapshot
	snapAt time.Time
}

// The names of this machine that the page answers to. The first is the one of
// login links: it is not shared with whatever else listens on 127.0.0.1, so
// that no other program is sent the cookie.
var hostNames = []string{"coffer.localhost", "localhost", "127.0.0.1", "[::1]"}

const maxStreams = 32

// New checks c. It starts nothing.
func New(c Config) (*Web, error) {
	if c.Daemon == nil || c.Open == nil {
		return nil, errors.New("web: Daemon and Open are required")
	}
	host, port, err := net.SplitHostPort(c.Addr)
	if err != nil {
		return nil, fmt.Errorf("web: address: %w", err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("web: %s is not a loopback address", c.Addr)
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	if c.Overdue <= 0 {
		c.Overdue = 24 * time.Hour
	}
	w := &Web{
		c: c, log: c.Log, hosts: make(map[string]bool), access: newAccess("coffer-" + port),
		health: newHealth(c.Targets), vault: lately[Vault]{ask: c.Vault}, restores: newRestores(c.Log), streams: make(chan struct{}, maxStreams), stop: make(chan struct{}),
	}
	for _, name := range hostNames {
		w.hosts[net.JoinHostPort(trimBrackets(name), port)] = true
		if port == "80" {
			w.hosts[name] = true
		}
	}
	w.loginURL = "http://" + net.JoinHostPort(hostNames[0], port) + "/login#"
	w.handler = w.guard(w.routes())
	return w, nil
}

func trimBrackets(host string) string {
	if host[0] == '[' {
		return host[1 : len(host)-1]
	}
	return host
}

// ServeHTTP answers one request.
func (w *Web) ServeHTTP(rw http.ResponseWriter, r *http.Request) { w.handler.ServeHTTP(rw, r) }

// Stop ends the live streams, which otherwise never do, and a restore under way:
// call it when the server is to end.
func (w *Web) Stop() {
	w.stopOnce.Do(func() { close(w.stop) })
	w.restores.close()
}

// NewLoginURL makes a link that signs in once, within some minutes. It is for
// the owner's eyes only.
func (w *Web) NewLoginURL() string { return w.loginURL + w.access.newToken(time.Now()) }

func (w *Web) routes() http.Handler {
	inner := http.NewServeMux()
	inner.HandleFunc("GET /{$}", w.overview)
	inner.HandleFunc("GET /sources", w.sources)
	inner.HandleFunc("GET /sources/{name}/excludes", w.excludes)
	inner.HandleFunc("POST /sources/{name}/excludes", w.changeExcludes)
	inner.HandleFunc("GET /snapshots", w.snapshots)
	inner.HandleFunc("GET /snapshots/{id}", w.browse)
	inner.HandleFunc("GET /snapshots/{id}/search", w.search)
	inner.HandleFunc("GET /snapshots/{id}/image", w.image)
	inner.HandleFunc("GET /snapshots/{id}/file", w.downloadFile)
	inner.HandleFunc("GET /snapshots/{id}/folder", w.downloadFolder)
	inner.HandleFunc("GET /snapshots/{id}/changes", w.diff)
	inner.HandleFunc("GET /snapshots/{id}/restore", w.restoreForm)
	inner.HandleFunc("POST /snapshots/{id}/restore", w.restore)
	inner.HandleFunc("GET /restores/{n}", w.restoring)
	inner.HandleFunc("GET /restores/{n}/state", w.restoreState)
	inner.HandleFunc("POST /restores/{n}/stop", w.stopRestore)
	inner.HandleFunc("GET /charts", w.charts)
	inner.HandleFunc("GET /protection", w.protection)
	inner.HandleFunc("GET /doctor", w.doctor)
	inner.HandleFunc("GET /gateway", w.gateway)
	inner.HandleFunc("GET /activity", w.activity)
	inner.HandleFunc("GET /events", w.events)
	inner.HandleFunc("POST /backup", w.backupNow)
	inner.HandleFunc("POST /pause", w.pause)
	inner.HandleFunc("POST /resume", w.resume)
	inner.HandleFunc("POST /lock", w.lock)
	inner.HandleFunc("POST /unlock", w.unlock)
	inner.HandleFunc("POST /passkeys", w.addPasskey)
	inner.HandleFunc("POST /passkeys/{id}/remove", w.removePasskey)
	inner.HandleFunc("POST /doctor", w.examine)
	inner.HandleFunc("POST /logout", w.logout)
	inner.HandleFunc("/", func(rw http.ResponseWriter, r *http.Request) {
		w.fail(rw, r, http.StatusNotFound, "There is no such page.")
	})
	outer := http.NewServeMux()
	outer.HandleFunc("GET /login", func(rw http.ResponseWriter, r *http.Request) { w.loginPage(rw, r, http.StatusOK, "") })
	outer.HandleFunc("POST /login", w.login)
	outer.Handle("GET /assets/{name}", http.HandlerFunc(w.asset))
	outer.Handle("/", w.signedIn(inner))
	return outer
}

// snapshotsAge is how old a list of snapshots may be.
const snapshotsAge = 5 * time.Second

// list gives the repository and its snapshots, oldest first. Those that can be
// read are there beside an error that others cannot.
func (w *Web) list(ctx context.Context) (Repo, []*backup.Snapshot, error) {
	repo, err := w.c.Open(ctx)
	if err != nil {
		return nil, nil, err // also when there is a list: the key may be gone
	}
	w.snapMu.Lock()
	defer w.snapMu.Unlock()
	if time.Since(w.snapAt) < snapshotsAge {
		return repo, w.snaps, nil
	}
	all, err := repo.Snapshots(ctx)
	if err == nil {
		w.snaps, w.snapAt = all, time.Now()
	}
	return repo, all, err
}
