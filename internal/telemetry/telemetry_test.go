package telemetry

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

func TestLogFormats(t *testing.T) {
	for _, tt := range []struct {
		name, format      string
		journal, terminal bool
		want              string // the line, or the start of it
	}{
		{"journal", "auto", true, false, `<4>careful {"n": 1}` + "\n"},
		{"journal, JSON", "json", true, false, `<4>{"message":"careful","n":1}` + "\n"},
		{"pipe", "auto", false, false, `{"level":"warn","time":"`},
		{"terminal, JSON", "json", false, true, `{"level":"warn","time":"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			log, err := newLogger(zapcore.AddSync(&b), zapcore.InfoLevel, tt.format, tt.journal, tt.terminal)
			if err != nil {
				t.Fatal(err)
			}
			log.Debug("not shown")
			log.With(zap.Int("n", 1)).Warn("careful")
			if !strings.HasPrefix(b.String(), tt.want) {
				t.Errorf("got %q, want %q", b.String(), tt.want)
			}
			if got := strings.Count(b.String(), "\n"); got != 1 {
				t.Errorf("%d lines, want 1: %q", got, b.String())
			}
		})
	}
}

func TestLogJSON(t *testing.T) {
	var b bytes.Buffer
	log, err := newLogger(zapcore.AddSync(&b), zapcore.DebugLevel, "auto", false, false)
	if err != nil {
		t.Fatal(err)
	}
	log.Named("daemon").Error("backup failed", zap.Error(errors.New("no route")), zap.Duration("took", time.Second))
	var line map[string]string
	if err := json.Unmarshal(b.Bytes(), &line); err != nil {
		t.Fatalf("%v: %s", err, b.Bytes())
	}
	if _, err := time.Parse(time.RFC3339Nano, line["time"]); err != nil {
		t.Error(err)
	}
	delete(line, "time")
	for k, want := range map[string]string{"level": "error", "part": "daemon", "message": "backup failed", "error": "no route", "took": "1s"} {
		if line[k] != want {
			t.Errorf("%s: got %q, want %q", k, line[k], want)
		}
	}
}

func TestLogFaults(t *testing.T) {
	if _, _, err := NewLogger("loud", "auto"); err == nil {
		t.Error("level loud was taken")
	}
	if _, _, err := NewLogger("info", "xml"); err == nil {
		t.Error("format xml was taken")
	}
}

// Lines are written together, warnings at once, and none is lost at the end.
func TestLogIsFlushed(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	stderr := os.Stderr
	os.Stderr = w
	defer func() { os.Stderr = stderr }()
	log, flush, err := NewLogger("info", "json")
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(r)
	began := time.Now()
	log.Info("one")
	log.Named("part").Warn("two") // writes one, too
	for _, want := range []string{`"one"`, `"two"`} {
		if !lines.Scan() || !strings.Contains(lines.Text(), want) {
			t.Errorf("%q, want %s", lines.Text(), want)
		}
	}
	if took := time.Since(began); took >= flushEvery {
		t.Errorf("a warning was written after %v", took)
	}
	log.With(zap.Int("n", 1)).Info("three")
	if !lines.Scan() || !strings.Contains(lines.Text(), `"three"`) {
		t.Errorf("%q, want three, after a while", lines.Text())
	}
	log.Debug("not shown")
	log.Info("four")
	if err := flush(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if !lines.Scan() || !strings.Contains(lines.Text(), `"four"`) || lines.Scan() {
		t.Errorf("%q, want four and nothing more", lines.Text())
	}
}

func TestSyslogLevels(t *testing.T) {
	for l, want := range map[zapcore.Level]int{zap.DebugLevel: 7, zap.InfoLevel: 6, zap.WarnLevel: 4, zap.ErrorLevel: 3, zap.PanicLevel: 2} {
		if got := syslogLevel(l); got != want {
			t.Errorf("%v: got %d, want %d", l, got, want)
		}
	}
}

func TestServer(t *testing.T) {
	var storage, loop error
	h := new(Health)
	h.Live("loop", func() error { return loop })
	h.Ready("storage", func() error { return storage })
	reg := NewRegistry("1.2.3")
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "runs_total", Help: "Runs."})
	Prefix(reg, "backup").MustRegister(c)
	s, err := NewServer(ServerConfig{Listen: "127.0.0.1:0", Registry: reg, Health: h})
	if err != nil {
		t.Fatal(err)
	}
	get := func(path, host string) (int, string) {
		r := httptest.NewRequest("GET", path, nil)
		r.Host = host
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	check := func(path string, code int, holds string) {
		t.Helper()
		got, body := get(path, "localhost:1")
		if got != code || !strings.Contains(body, holds) {
			t.Errorf("%s: got %d %q, want %d with %q", path, got, body, code, holds)
		}
	}
	check("/metrics", 200, `coffer_build_info{`)
	check("/metrics", 200, "coffer_backup_runs_total 0")
	check("/livez", 200, "ok")
	check("/readyz", 200, "ok")
	check("/debug/pprof/", 200, "goroutine")
	check("/debug/pprof/cmdline", 404, "")
	storage = errors.New("out of reach")
	check("/livez", 200, "ok")
	check("/readyz", 503, "storage: out of reach")
	loop = errors.New("hangs")
	check("/livez", 503, "loop: hangs")
	check("/readyz", 503, "loop: hangs")
	for _, host := range []string{"evil.example", "10.0.0.1:80", ""} {
		if code, _ := get("/metrics", host); code != 421 {
			t.Errorf("host %q: got %d, want 421", host, code)
		}
	}
	for _, host := range []string{"127.0.0.1", "[::1]:9422", "127.0.0.1:9422"} {
		if code, _ := get("/metrics", host); code != 200 {
			t.Errorf("host %q: got %d, want 200", host, code)
		}
	}
}

// TestServerAddress: a profile holds what is in memory, and must not leave the machine.
func TestServerAddress(t *testing.T) {
	for _, listen := range []string{"0.0.0.0:9422", ":9422", "[::]:9422", "192.168.1.1:9422", "example.org:1", "9422"} {
		if _, err := NewServer(ServerConfig{Listen: listen, Registry: NewRegistry(""), Health: new(Health)}); err == nil {
			t.Errorf("%s was taken", listen)
		}
	}
}

func TestServerRun(t *testing.T) {
	s, err := NewServer(ServerConfig{Listen: "127.0.0.1:0", Registry: NewRegistry(""), Health: new(Health)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestPulse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPulse(time.Minute)
		if err := p.Check(); err != nil {
			t.Errorf("before the first beat: %v", err)
		}
		p.Beat()
		time.Sleep(time.Minute)
		if err := p.Check(); err != nil {
			t.Errorf("at the limit: %v", err)
		}
		time.Sleep(time.Millisecond)
		if err := p.Check(); err == nil {
			t.Error("beyond the limit: no error")
		}
		p.Beat()
		if err := p.Check(); err != nil {
			t.Errorf("after a beat: %v", err)
		}
	})
}

// manager plays systemd: it returns what the service tells it.
func manager(t *testing.T) (next func() string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return func() string {
		b := make([]byte, 4096)
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, err := c.Read(b)
		if err != nil {
			t.Errorf("systemd heard nothing: %v", err)
		}
		return string(b[:n])
	}
}

func TestNotify(t *testing.T) {
	next := manager(t)
	n := NewNotifier(nil)
	n.Ready()
	n.Status("waiting")
	n.Reloading()
	n.Stopping()
	for _, want := range []string{"READY=1", "STATUS=waiting", "RELOADING=1\nMONOTONIC_USEC=", "STOPPING=1"} {
		if got := next(); !strings.HasPrefix(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestWatchdog: a live process is fed; one with a part that hangs is not.
func TestWatchdog(t *testing.T) {
	next := manager(t)
	t.Setenv("WATCHDOG_USEC", "20000")
	t.Setenv("WATCHDOG_PID", "")
	h, fault := new(Health), make(chan error, 1)
	asked := make(chan struct{}, 1000)
	h.Live("loop", func() error {
		asked <- struct{}{}
		select {
		case err := <-fault:
			fault <- err
			return err
		default:
			return nil
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	n := NewNotifier(nil)
	go func() { done <- n.Watchdog(ctx, h) }()
	for range 3 {
		if got := next(); got != "WATCHDOG=1" {
			t.Errorf("got %q, want WATCHDOG=1", got)
		}
	}
	fault <- io.ErrUnexpectedEOF
	for range len(asked) + 3 { // at least two questions that saw the fault
		<-asked
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	n.Status("end")
	for fed := 0; ; fed++ {
		if got := next(); got == "STATUS=end" {
			break
		}
		if fed > 2 {
			t.Fatal("fed although a part hangs")
		}
	}
}

func TestWatchdogOff(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := NewNotifier(nil).Watchdog(ctx, new(Health)); err != nil {
		t.Error(err)
	}
}

// TestLease: a part that is made anew registers the same names again.
func TestLease(t *testing.T) {
	reg := prometheus.NewRegistry()
	l := Lease{Registerer: Prefix(reg, "")}
	for i := range 3 {
		l.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "runs_total", Help: "Runs."}))
		families, err := reg.Gather()
		if err != nil || len(families) != 1 || families[0].GetName() != "coffer_runs_total" {
			t.Errorf("round %d: got %v, %v", i, families, err)
		}
		if err := l.Register(prometheus.NewCounter(prometheus.CounterOpts{Name: "runs_total", Help: "Runs."})); err == nil {
			t.Error("the same name was taken twice")
		}
		l.End()
		l.End()
	}
	if families, err := reg.Gather(); err != nil || len(families) != 0 {
		t.Errorf("left behind: %v, %v", families, err)
	}
}

// A log whose disk was full goes on when there is room again.
func TestLogAfterFullDisk(t *testing.T) {
	full := true
	var b bytes.Buffer
	w := &zapcore.BufferedWriteSyncer{WS: zapcore.AddSync(lossy{writerFunc(func(p []byte) (int, error) {
		if full {
			return 0, syscall.ENOSPC
		}
		return b.Write(p)
	})})}
	log, err := newLoggerTo(w, zap.NewAtomicLevel(), "json")
	if err != nil {
		t.Fatal(err)
	}
	log.Info("lost")
	log.Sync()
	full = false
	log.Info("kept")
	if err := errors.Join(log.Sync(), w.Stop()); err != nil || strings.Contains(b.String(), "lost") || !strings.Contains(b.String(), "kept") {
		t.Errorf("%q, %v", b.String(), err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
