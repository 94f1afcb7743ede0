// Package testminio runs a real MinIO server for tests: a process of its own with
// one disk in a temporary folder, on a free port of the loopback interface.
package testminio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The root key of every server; it is reachable from this machine only.
const (
	access = "coffer-test"
	secret = "coffer-test-secret"
)

// Server is a running MinIO.
type Server struct {
	Endpoint string // http://127.0.0.1:PORT
	Access   string
	Secret   string
	Dir      string // its data folder: tests may read it, and tamper with it

	cmd    *exec.Cmd
	output bytes.Buffer  // of the process; to be read after exited
	exited chan struct{} // closed when the process is gone
}

// shared is the server of this process, as long as a test uses it.
var shared struct {
	mu     sync.Mutex
	server *Server
	users  int
}

// Start returns the endpoint (http://127.0.0.1:PORT) and the root key of a server
// that runs until tb ends. Tests of one process that run at the same time, as
// subtests do with their parent, share one. Each takes a bucket of its own.
func Start(tb testing.TB) (endpoint, accessKey, secretKey string) {
	tb.Helper()
	s := StartServer(tb)
	return s.Endpoint, s.Access, s.Secret
}

// StartServer is Start for those who look into the server's folder.
func StartServer(tb testing.TB) *Server {
	tb.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.server == nil {
		s, err := start()
		if err != nil {
			tb.Fatalf("starting MinIO: %v", err)
		}
		shared.server = s
	}
	shared.users++
	tb.Cleanup(func() {
		shared.mu.Lock()
		defer shared.mu.Unlock()
		if shared.users--; shared.users > 0 {
			return
		}
		s := shared.server
		shared.server = nil
		if err := s.stop(); err != nil {
			tb.Errorf("stopping MinIO: %v", err)
		}
	})
	return shared.server
}

func start() (*Server, error) {
	program, err := Program()
	if err != nil {
		return nil, err
	}
	for range 5 { // another process may take the free port before MinIO does
		var s *Server
		if s, err = launch(program); err == nil {
			return s, nil
		}
	}
	return nil, err
}

// launch starts one process and waits until it serves.
func launch(program string) (*Server, error) {
	dir, err := os.MkdirTemp("", "testminio")
	if err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	s := &Server{
		Endpoint: "http://" + addr, Access: access, Secret: secret,
		Dir: filepath.Join(dir, "data"), exited: make(chan struct{}),
	}
	s.cmd = exec.Command(program, "--quiet", "--certs-dir", filepath.Join(dir, "certs"),
		"server", "--address", addr, s.Dir)
	s.cmd.Env = []string{
		"HOME=" + dir, "MINIO_ROOT_USER=" + access, "MINIO_ROOT_PASSWORD=" + secret,
		"MINIO_BROWSER=off", "MINIO_UPDATE=off", "MINIO_CALLHOME_ENABLE=off", "MINIO_SCANNER_SPEED=slowest",
	}
	s.cmd.Stdout, s.cmd.Stderr = &s.output, &s.output
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.run(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := s.ready(); err != nil {
		err = errors.Join(err, s.stop())
		return nil, fmt.Errorf("%w; it says: %.2000s", err, s.output.String())
	}
	return s, nil
}

// run starts the process from a thread that lives as long as it does: Pdeathsig
// means the death of the thread, not of the process.
func (s *Server) run() error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := s.cmd.Start()
		started <- err
		if err == nil {
			_ = s.cmd.Wait() // killed, by us or by somebody: ready tells the difference
			close(s.exited)
		}
	}()
	return <-started
}

// ready waits until the server takes requests: it refuses those of nobody. Its
// own health check says yes somewhat earlier.
func (s *Server) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := http.Client{Timeout: time.Second}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		resp, err := client.Get(s.Endpoint + "/")
		if err == nil {
			_ = resp.Body.Close() // only the status counts
			if resp.StatusCode == http.StatusForbidden {
				return nil
			}
		}
		select {
		case <-s.exited:
			return errors.New("process ended")
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// stop kills the process and removes its folder.
func (s *Server) stop() error {
	err := s.cmd.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	<-s.exited
	return errors.Join(err, os.RemoveAll(filepath.Dir(s.Dir)))
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
