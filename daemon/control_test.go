package daemon

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"coffer/backup"
)

// beginReal runs a daemon with a control socket, in real time.
func beginReal(t *testing.T, change func(bench, *Config)) (bench, *Client, string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "run", "control.sock")
	b := begin(t, t.TempDir(), func(b bench, c *Config) {
		c.Control, c.Version, c.Host = socket, "1.2.3", "laptop"
		b.repo.takes = time.Millisecond
		if change != nil {
			change(b, c)
		}
	}, testSource("docs", t.TempDir()), testSource("pics", t.TempDir()))
	c := NewClient(socket)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		_, err := c.Status(t.Context())
		if err == nil {
			return b, c, socket
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func TestControl(t *testing.T) {
	b, c, socket := beginReal(t, nil)
	info, err := os.Stat(socket)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", info.Mode(), err)
	}
	ctx := t.Context()
	var kinds []Kind
	last, err := c.Backup(ctx, []string{"docs"}, func(e Event) { kinds = append(kinds, e.Kind) })
	if err != nil || len(last) != 1 || last[0].Kind != Saved || last[0].Source != "docs" || last[0].Report == nil {
		t.Errorf("got %+v, %v", last, err)
	}
	for len(kinds) > 0 && kinds[0] == Progress { // of the first backup, which the daemon made by itself
		kinds = kinds[1:]
	}
	if len(kinds) < 2 || kinds[0] != Started || kinds[len(kinds)-1] != Saved {
		t.Errorf("told of %v", kinds)
	}
	if _, err := c.Backup(ctx, []string{"nope"}, nil); !errors.Is(err, ErrUnknownSource) {
		t.Errorf("got %v, want %v", err, ErrUnknownSource)
	}
	st, err := c.Pause(ctx, 2*time.Hour)
	if err != nil || !st.Paused || time.Until(st.PausedUntil) < time.Hour {
		t.Errorf("got %+v, %v", st, err)
	}
	if st, err = c.Pause(ctx, 0); err != nil || !st.Paused || !st.PausedUntil.IsZero() {
		t.Errorf("got %+v, %v", st, err)
	}
	if st, err = c.Resume(ctx); err != nil || st.Paused {
		t.Errorf("got %+v, %v", st, err)
	}
	if st, err = c.Lock(ctx); err != nil || !st.Locked {
		t.Errorf("got %+v, %v", st, err)
	}
	if _, err := c.Backup(ctx, nil, nil); !errors.Is(err, ErrLocked) {
		t.Errorf("got %v, want %v", err, ErrLocked)
	}
	if _, err := c.Unlock(ctx, [32]byte{7}); err == nil || !b.key.Locked() || !strings.Contains(err.Error(), "not the key") {
		t.Errorf("a wrong key: %v", err)
	}
	if st, err = c.Unlock(ctx, rightKey); err != nil || st.Locked || st.Version != "1.2.3" || st.PID != os.Getpid() || st.Host != "laptop" {
		t.Errorf("got %+v, %v", st, err)
	}
	if last, err = c.Backup(ctx, nil, nil); err != nil || len(last) != 2 {
		t.Errorf("got %+v, %v", last, err)
	}
}

// TestEvents: a client that comes late hears what was, and then what is.
func TestEvents(t *testing.T) {
	b, c, _ := beginReal(t, nil)
	if _, err := b.Backup(t.Context(), nil, nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var seq uint64
	saved := 0
	err := c.Events(ctx, 0, func(e Event) {
		if e.Kind != Progress {
			if e.Seq != seq+1 {
				t.Errorf("event %d after %d", e.Seq, seq)
			}
			seq = e.Seq
		}
		if e.Kind == Saved {
			if saved++; saved == 1 {
				go b.Pause(0)
			}
		}
		if e.Kind == Paused {
			cancel()
		}
	})
	if err != nil || saved < 1 {
		t.Errorf("%d saved, %v", saved, err)
	}
}

// TestEventsEnd: a stream does not keep the daemon from stopping.
func TestEventsEnd(t *testing.T) {
	b, c, socket := beginReal(t, nil)
	heard := make(chan struct{}, 1000)
	ended := make(chan error, 1)
	go func() { ended <- c.Events(t.Context(), 0, func(Event) { heard <- struct{}{} }) }()
	<-heard
	start := time.Now()
	b.stop()
	if took := time.Since(start); took > controlDrain/2 {
		t.Errorf("stopping took %v", took)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("got %v, want %v", err, ErrNotRunning)
	}
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

// TestStopDuringBackup: a client that waits for a backup is told that it stopped.
func TestStopDuringBackup(t *testing.T) {
	b, c, _ := beginReal(t, nil)
	if _, err := c.Backup(t.Context(), nil, nil); err != nil {
		t.Fatal(err)
	}
	b.repo.set(func() { b.repo.takes = time.Hour })
	begun := make(chan struct{}, 100)
	type answer struct {
		last []Event
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		last, err := c.Backup(t.Context(), []string{"docs"}, func(e Event) { begun <- struct{}{} })
		answered <- answer{last, err}
	}()
	<-begun
	b.stop()
	a := <-answered
	if a.err != nil || len(a.last) != 1 || a.last[0].Kind != Stopped {
		t.Errorf("got %+v, %v", a.last, a.err)
	}
}

// TestClientLeaves: the backup that a client asked for goes on without it.
func TestClientLeaves(t *testing.T) {
	b, c, _ := beginReal(t, func(b bench, _ *Config) { b.repo.takes = 50 * time.Millisecond })
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := c.Backup(ctx, []string{"docs"}, func(Event) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	events, stop := b.Subscribe(0)
	defer stop()
	for e := range events {
		if e.Kind == Saved && e.Source == "docs" {
			break
		}
	}
}

// TestStaleSocket: what a killed daemon left is replaced, a living one is not,
// and neither is a file that is no socket.
func TestStaleSocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "control.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	d := &Daemon{c: Config{Control: socket}}
	if _, err := d.listen(); !errors.Is(err, ErrRunning) {
		t.Errorf("beside a living daemon: got %v, want %v", err, ErrRunning)
	}
	l.Close()
	again, err := d.listen()
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	write(t, socket, "mine")
	if _, err := d.listen(); err == nil {
		t.Error("a file was replaced")
	}
}

// TestPeer: only the daemon's user and root are answered.
func TestPeer(t *testing.T) {
	h := onlyOwner(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "in") }))
	for _, tt := range []struct {
		name string
		uid  any
		want int
	}{
		{"owner", uint32(os.Geteuid()), 200},
		{"root", uint32(0), 200},
		{"other", uint32(os.Geteuid() + 4242), 403},
		{"unknown", nil, 403},
	} {
		r := httptest.NewRequest("GET", "/v1/status", nil)
		if tt.uid != nil {
			r = r.WithContext(context.WithValue(r.Context(), peerKey{}, tt.uid))
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, w.Code, tt.want)
		}
	}
	if _, err := peer(new(net.TCPConn)); err == nil {
		t.Error("a TCP connection has a peer")
	}
}

// TestStrangerGetsNoKey: the key goes to a daemon of this user or of root, not to
// whoever has put a socket in its place.
func TestStrangerGetsNoKey(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "control.sock"))
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 2)
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got <- string(b)
		io.WriteString(w, "{}")
	})}
	go s.Serve(l)
	defer s.Close()
	c := NewClient(l.Addr().String())
	key := [32]byte{1, 2, 3}
	if _, err := c.Unlock(t.Context(), key); err != nil || <-got != string(key[:]) {
		t.Fatalf("this user's own socket: %v", err)
	}
	var uid uint32
	c.secret = asking(l.Addr().String(), func(u uint32) bool { uid = u; return false })
	if _, err := c.Unlock(t.Context(), key); !errors.Is(err, ErrStranger) || uid != uint32(os.Geteuid()) || len(got) != 0 {
		t.Errorf("a stranger's socket: %v (user %d), %d requests arrived", err, uid, len(got))
	}
	if trusted(uint32(os.Geteuid())+4242) || !trusted(0) {
		t.Error("not root and this user are trusted")
	}
}

// TestControlRefusals: what is not understood is an error with a code, and no
// answer shows what was sent: it may be a key.
func TestControlRefusals(t *testing.T) {
	_, c, _ := beginReal(t, nil)
	for _, tt := range []struct {
		method, path, body string
		status             int
		holds              string
	}{
		{"POST", "pause", `{"for":"soon"}`, 400, "usage"},
		{"POST", "pause", `{"for":"-1h"}`, 400, "usage"},
		{"POST", "pause", `{"until":"x"}`, 400, "usage"},
		{"POST", "backup", `{`, 400, "usage"},
		{"POST", "backup", `{"sources":["` + strings.Repeat("x", maxBody) + `"]}`, 400, "usage"},
		{"POST", "unlock", "canary", 400, "32 bytes"},
		{"POST", "unlock", strings.Repeat("canary", 6), 403, "not the key"},
		{"GET", "unlock", "", 405, ""},
		{"GET", "nothing", "", 404, ""},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tt.method, "http://cofferd/v1/"+tt.path, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tt.status || !strings.Contains(string(b), tt.holds) || strings.Contains(string(b), "canary") {
			t.Errorf("%s %.40s: got %d %s", tt.path, tt.body, resp.StatusCode, b)
		}
	}
}

// TestReady: without the key the daemon lives, and is not ready.
func TestReady(t *testing.T) {
	b, c, _ := beginReal(t, nil)
	b.key.Lock()
	for path, want := range map[string]int{"livez": 200, "readyz": 503} {
		resp, err := c.http.Get("http://cofferd/" + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: got %d, want %d", path, resp.StatusCode, want)
		}
	}
}

// TestSlowSubscriber: one that does not listen loses events, and is told so; the
// others and the daemon do not wait for it.
func TestSlowSubscriber(t *testing.T) {
	b := newBus()
	events, cancel := b.subscribe(0)
	defer cancel()
	for range 10 * waitingLimit {
		b.publish(Event{Kind: Progress, Progress: &backup.Progress{}})
	}
	got := 0
	for len(events) > 0 {
		<-events
		got++
	}
	b.publish(Event{Kind: Saved})
	e := <-events
	if e.Kind != Lost || e.Missed+got != 10*waitingLimit {
		t.Errorf("got %d events, then %+v", got, e)
	}
	if e := <-events; e.Kind != Saved || e.Seq != 1 {
		t.Errorf("got %+v", e)
	}
}

// TestKeptEvents: only the newest are kept for those who come late.
func TestKeptEvents(t *testing.T) {
	b := newBus()
	for range 3 * keptEvents {
		b.publish(Event{Kind: Changed})
	}
	events, cancel := b.subscribe(0)
	cancel()
	if e := <-events; len(events) != keptEvents-1 || e.Seq != 2*keptEvents+1 {
		t.Errorf("got %+v and %d more", e, len(events))
	}
	events, cancel = b.subscribe(3 * keptEvents)
	defer cancel()
	if len(events) != 0 {
		t.Errorf("%d events that were known", len(events))
	}
}

// TestStatusJSON: the names in the JSON are an interface that scripts rely on.
func TestStatusJSON(t *testing.T) {
	_, c, _ := beginReal(t, nil)
	if _, err := c.Backup(t.Context(), nil, nil); err != nil {
		t.Fatal(err)
	}
	resp, err := c.http.Get("http://cofferd/v1/status")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var st map[string]any
	if err := json.NewDecoder(bufio.NewReader(resp.Body)).Decode(&st); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"version", "pid", "started", "host", "locked", "paused", "seq", "sources"} {
		if _, ok := st[k]; !ok {
			t.Errorf("%s is missing", k)
		}
	}
	source := st["sources"].([]any)[0].(map[string]any)
	for _, k := range []string{"name", "path", "state", "next", "reason", "last_attempt", "last_saved", "snapshot", "unreadable", "failures", "watch"} {
		if _, ok := source[k]; !ok {
			t.Errorf("%s of the source is missing", k)
		}
	}
	if _, ok := source["pending_since"]; ok {
		t.Error("pending_since is there although nothing is pending")
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	b, c, _ := beginReal(t, func(_ bench, c *Config) { c.Metrics = reg })
	if _, err := c.Backup(t.Context(), []string{"docs"}, nil); err != nil {
		t.Fatal(err)
	}
	b.key.Lock()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name += "," + l.GetValue()
			}
			got[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	if got["backup_runs_total,ok,docs"] < 1 || got["backup_last_success_timestamp_seconds,docs"] < 1.7e9 || got["locked"] != 1 || got["backup_interval_seconds,pics"] != 3600 {
		t.Errorf("got %v", got)
	}
}

// TestClientAsksAgain: a daemon that is killed over an answer is asked again when
// its socket is still there, and not for ever.
func TestClientAsksAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var asked atomic.Int32
	answer := int32(3)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil && asked.Add(1) == answer {
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\n{\"pid\":7}")
			}
			c.Close()
		}
	}()
	st, err := NewClient(path).Status(t.Context())
	if err != nil || st.PID != 7 || asked.Load() != 3 {
		t.Errorf("%+v, %v after %d requests", st, err, asked.Load())
	}
	if _, err = NewClient(path).Status(t.Context()); !cutOff(err) || asked.Load() != 7 {
		t.Errorf("got %v after %d requests", err, asked.Load())
	}
}
