package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stage runs the programs of the story and ends them all at its end.
type stage struct {
	ctx context.Context
	bin string // folder of the programs
	dir string // everything of this run lies here

	mu    sync.Mutex
	procs []*proc
}

// proc is one program in the background.
type proc struct {
	name string
	cmd  *exec.Cmd
	log  string        // file with its output
	done chan struct{} // closed when it has ended
}

func newStage(ctx context.Context, bin, dir string) *stage {
	return &stage{ctx: ctx, bin: bin, dir: dir}
}

// start runs a program in the background with env added to a small, clean
// environment. It dies with the demo, however the demo ends.
func (s *stage) start(name string, env []string, program string, args ...string) (*proc, error) {
	logName := filepath.Join(s.dir, name+".log")
	out, err := os.OpenFile(logName, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(program, args...)
	cmd.Env = append(cleanEnv(), env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p := &proc{name: name, cmd: cmd, log: logName, done: make(chan struct{})}
	go func() {
		cmd.Wait()
		close(p.done)
	}()
	s.mu.Lock()
	s.procs = append(s.procs, p)
	s.mu.Unlock()
	return p, nil
}

// kill ends p as a crash would, and waits for its end.
func (p *proc) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// stopAll asks every program to end, and makes it end.
func (s *stage) stopAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.procs {
		p.cmd.Process.Signal(syscall.SIGTERM)
	}
	late := time.After(5 * time.Second)
	for _, p := range s.procs {
		select {
		case <-p.done:
		case <-late:
			p.kill()
		}
	}
}

// showLogs prints the end of every program's output: what a person needs after
// a failure.
func (s *stage) showLogs() {
	for _, p := range s.procs {
		data, _ := os.ReadFile(p.log)
		lines := strings.Split(strings.TrimSpace(string(data)), "\n")
		if len(lines) > 12 {
			lines = lines[len(lines)-12:]
		}
		fmt.Fprintf(os.Stderr, "--- %s\n%s\n", p.name, strings.Join(lines, "\n"))
	}
}

// failed is a program that ended with an exit status other than zero.
type failed struct {
	args   []string
	code   int
	stderr string
}

func (f *failed) Error() string {
	return fmt.Sprintf("%s: exit status %d: %s", strings.Join(f.args, " "), f.code, strings.TrimSpace(f.stderr))
}

// run runs one of our programs to its end and returns what it printed.
func (s *stage) run(env []string, program string, args ...string) (stdout string, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, program), args...)
	cmd.Env = append(cleanEnv(), env...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return out.String(), &failed{args: append([]string{program}, args...), code: exit.ExitCode(), stderr: errOut.String()}
	}
	return out.String(), err
}

// cleanEnv keeps the machine's own settings out of the story.
func cleanEnv() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8", "TMPDIR=" + os.Getenv("TMPDIR")}
}

// freePorts returns n loopback ports that were free a moment ago.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // at the end: so that no port comes twice
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// waitFor calls ok until it says true, or the limit is over.
func (s *stage) waitFor(what string, limit time.Duration, ok func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(s.ctx, limit)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		yes, err := ok()
		if yes {
			return nil
		}
		last = err
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: not within %v (last: %v)", what, limit, last)
		case <-tick.C:
		}
	}
}
