package chaos

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

const insideEnv = "COFFER_CHAOS_INSIDE"

// Isolate runs this program again in namespaces of its own for network and
// mounts, as root in it, and returns its exit status with done true; within
// them it returns done false. It must be called first, by the main goroutine.
func Isolate() (status int, done bool, err error) {
	runtime.LockOSThread() // the child dies with the thread that made it
	if os.Getenv(insideEnv) != "" {
		return 0, false, enter()
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if uid := os.Getuid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), true, nil
	}
	return 0, true, err
}

// enter makes the namespaces usable: mounts stay inside, and a bridge joins what
// will be the nodes' links. Clients have a network to themselves, each an
// address: nodes limit the requests of one.
func enter() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keeping mounts inside: %w", err)
	}
	for _, args := range [][]string{
		{"ip", "link", "set", "lo", "up"},
		{"ip", "link", "add", "br0", "type", "bridge"},
		{"ip", "addr", "add", hubAddr + "/24", "dev", "br0"},
		{"ip", "link", "set", "br0", "up"},
		{"ip", "route", "add", "local", "10.78.0.0/16", "dev", "lo"},
	} {
		if err := tool(args...); err != nil {
			return err
		}
	}
	return nil
}

// tool runs a program of the system.
func tool(args ...string) error {
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w: %s", args, err, out)
	}
	return nil
}
