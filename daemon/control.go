package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"go.uber.org/zap"

	"coffer/internal/serve"
)

// The control socket speaks HTTP. Bodies and answers are JSON; what goes on for
// a while answers with one JSON object a line.
//
//	GET  /v1/status                    Status
//	GET  /v1/events?after=SEQ          lines of Event, until the client leaves
//	POST /v1/backup  {"sources":[..]}  lines of Event; a final one for each source, then "done"
//	POST /v1/pause   {"for":"2h"}      Status; without "for": until resumed
//	POST /v1/resume                    Status
//	POST /v1/unlock  32 bytes: the key Status
//	POST /v1/lock                      Status
//	POST /v1/task    {"task":"check"}   TaskStatus, once it has ended; 200 also when it failed
//	POST /v1/reload                    Configured: the file was read again
//	POST /v1/notify                    list of Delivery: a test was sent
//	POST /v1/login                     {"url":"..."}: opens the local page, once
//	GET  /livez, /readyz               200, or 503 with the reason
//
// An error is {"error": text, "code": code}, the codes being those of problems.
const (
	maxBody      = 64 << 10
	writeTimeout = 30 * time.Second // of one line
	controlDrain = 5 * time.Second
)

// problems are the errors that a client can tell apart.
var problems = []struct {
	err    error
	code   string
	status int
}{
	{ErrLocked, "locked", http.StatusLocked},
	{ErrUnknownSource, "unknown-source", http.StatusNotFound},
	{ErrNotOwner, "not-owner", http.StatusForbidden},
	{ErrUnknownTask, "unknown-task", http.StatusNotFound},
	{ErrFixed, "fixed", http.StatusConflict},
	{ErrNoPage, "no-page", http.StatusNotFound},
}

// listen opens the control socket; nil when there is to be none.
func (d *Daemon) listen() (net.Listener, error) {
	if d.c.Listener != nil || d.c.Control == "" {
		return d.c.Listener, nil
	}
	path := d.c.Control
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("%w (control socket %s)", ErrRunning, path)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == os.ModeSocket {
		_ = os.Remove(path) // left by a daemon that was killed; Listen says so if it stays
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil { // until here the check of the peer keeps others out
		l.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return l, nil
}

// serveControl answers until ctx ends.
func (d *Daemon) serveControl(ctx context.Context, l net.Listener) error {
	d.log.Info("control socket", zap.Stringer("path", l.Addr()))
	s := &http.Server{
		Handler:           onlyOwner(d.handler(ctx.Done())),
		ConnContext:       withPeer,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	if err := serve.HTTP(ctx, l, s, controlDrain); err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	return nil
}

// handler is the control API; streams end when stop is closed.
func (d *Daemon) handler(stop <-chan struct{}) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { d.answerStatus(w) })
	mux.HandleFunc("GET /v1/events", func(w http.ResponseWriter, r *http.Request) { d.streamEvents(w, r, stop) })
	mux.HandleFunc("POST /v1/backup", func(w http.ResponseWriter, r *http.Request) { d.streamBackup(w, r, stop) })
	mux.HandleFunc("POST /v1/pause", d.controlPause)
	mux.HandleFunc("POST /v1/unlock", d.controlUnlock)
	mux.HandleFunc("POST /v1/resume", func(w http.ResponseWriter, _ *http.Request) {
		d.Resume()
		d.answerStatus(w)
	})
	mux.HandleFunc("POST /v1/lock", func(w http.ResponseWriter, _ *http.Request) {
		d.Lock()
		d.answerStatus(w)
	})
	mux.HandleFunc("POST /v1/task", func(w http.ResponseWriter, r *http.Request) { d.controlTask(w, r, stop) })
	mux.HandleFunc("POST /v1/reload", func(w http.ResponseWriter, _ *http.Request) { d.controlReload(w) })
	mux.HandleFunc("POST /v1/notify", d.controlNotify)
	mux.HandleFunc("POST /v1/login", d.controlLogin)
	mux.HandleFunc("GET /livez", health(d.Alive))
	mux.HandleFunc("GET /readyz", health(d.Ready))
	return mux
}

func health(check func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if err := check(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	}
}

func (d *Daemon) answerStatus(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(d.Status()) // a client that left needs no answer
}

// controlLogin is for the owner, as all of the control socket: who has the link
// is signed in to the page.
func (d *Daemon) controlLogin(w http.ResponseWriter, _ *http.Request) {
	if d.c.Login == nil {
		fail(w, ErrNoPage)
		return
	}
	url, err := d.c.Login()
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(login{url}) // a client that left needs no answer
}

// login is the answer to a request for a login link.
type login struct {
	URL string `json:"url"`
}

func (d *Daemon) controlPause(w http.ResponseWriter, r *http.Request) {
	var body struct {
		For string `json:"for"`
	}
	if !readBody(w, r, &body) {
		return
	}
	var length time.Duration
	if body.For != "" {
		var err error
		if length, err = time.ParseDuration(body.For); err != nil || length <= 0 {
			refuse(w, http.StatusBadRequest, "usage", fmt.Errorf("%q is not a duration such as 2h", body.For))
			return
		}
	}
	d.Pause(length)
	d.answerStatus(w)
}

func (d *Daemon) controlUnlock(w http.ResponseWriter, r *http.Request) {
	var key [32]byte
	defer clear(key[:])
	body := http.MaxBytesReader(w, r.Body, int64(len(key)))
	if _, err := io.ReadFull(body, key[:]); err != nil {
		refuse(w, http.StatusBadRequest, "usage", errors.New("the body must be the 32 bytes of the key"))
		return
	}
	if err := d.Unlock(r.Context(), key); err != nil {
		refuse(w, http.StatusForbidden, "key", err)
		return
	}
	d.answerStatus(w)
}

func (d *Daemon) streamEvents(w http.ResponseWriter, r *http.Request, stop <-chan struct{}) {
	after, err := strconv.ParseUint(r.URL.Query().Get("after"), 10, 64)
	if err != nil {
		after = d.events.last()
	}
	events, cancel := d.events.subscribe(after)
	defer cancel()
	line := lines(w)
	for {
		select {
		case <-stop:
			return
		case <-r.Context().Done():
			return
		case e := <-events:
			if line(e) != nil {
				return
			}
		}
	}
}

func (d *Daemon) streamBackup(w http.ResponseWriter, r *http.Request, stop <-chan struct{}) {
	var body struct {
		Sources []string `json:"sources"`
	}
	if !readBody(w, r, &body) {
		return
	}
	if _, err := d.find(body.Sources); err != nil {
		fail(w, err)
		return
	}
	if err := d.Ready(); err != nil {
		fail(w, err)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() {
		select {
		case <-stop: // the sources answer with Stopped; those that were gone do not
			time.AfterFunc(controlDrain/2, cancel)
		case <-ctx.Done():
		}
	}()
	line := lines(w)
	_, err := d.Backup(ctx, body.Sources, func(e Event) {
		if line(e) != nil {
			cancel() // the client left; the backup goes on
		}
	})
	if err == nil {
		_ = line(Event{Time: time.Now(), Kind: Done}) // else the client sees that it is missing
	}
}

// lines begins an answer of JSON lines, and writes one with each call.
func lines(w http.ResponseWriter) func(any) error {
	w.Header().Set("Content-Type", "application/jsonl")
	w.WriteHeader(http.StatusOK)
	c := http.NewResponseController(w)
	_ = c.Flush() // the header goes before the first event; a failure shows there
	enc := json.NewEncoder(w)
	return func(v any) error {
		if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return err
		}
		if err := enc.Encode(v); err != nil {
			return err
		}
		return c.Flush()
	}
}

// readBody reads JSON strictly; an empty body leaves v as it is.
func readBody(w http.ResponseWriter, r *http.Request, v any) bool {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil && !errors.Is(err, io.EOF) {
		refuse(w, http.StatusBadRequest, "usage", err)
		return false
	}
	return true
}

// fail answers with an error of problems, else with 500.
func fail(w http.ResponseWriter, err error) {
	for _, p := range problems {
		if errors.Is(err, p.err) {
			refuse(w, p.status, p.code, err)
			return
		}
	}
	refuse(w, http.StatusInternalServerError, "failed", err)
}

// problem is the body of an error.
type problem struct {
	Error string `json:"error"`
	Code  string `json:"code"`
}

func refuse(w http.ResponseWriter, status int, code string, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(problem{err.Error(), code}) // a client that left needs no answer
}
