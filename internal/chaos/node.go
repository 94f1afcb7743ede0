package chaos

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const hubAddr = "10.77.0.254" // of the clients' side of the bridge

// node is one process of a fleet. Its network and its disk outlive it.
type node struct {
	id     string
	addr   string // IP
	link   string // its end of the cable at the bridge
	dir    string // its file system
	config string
	log    string
	binary string
	holder *exec.Cmd // keeps the network namespace

	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
}

// diskSize is that of a node's file system.
const diskSize = "768m"

// plug gives the node its network and its disk.
func (n *node) plug() error {
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("chaos", n.dir, "tmpfs", 0, "size="+diskSize+",mode=0700"); err != nil {
		return fmt.Errorf("mounting the disk of %s: %w", n.id, err)
	}
	n.holder = exec.Command("sleep", "infinity")
	n.holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := n.holder.Start(); err != nil {
		return err
	}
	pid := strconv.Itoa(n.holder.Process.Pid)
	if err := errors.Join(
		tool("ip", "link", "add", n.link, "type", "veth", "peer", "name", "eth0", "netns", pid),
		tool("ip", "link", "set", n.link, "master", "br0", "up"),
	); err != nil {
		return err
	}
	return errors.Join(
		n.inside("ip", "link", "set", "lo", "up"),
		n.inside("ip", "addr", "add", n.addr+"/24", "dev", "eth0"),
		n.inside("ip", "link", "set", "eth0", "up"),
		n.inside("ip", "route", "add", "default", "via", hubAddr),
	)
}

// unplug gives up what plug made.
func (n *node) unplug() {
	if n.holder != nil {
		_ = tool("ip", "link", "del", n.link) // else the kernel does, some time after the namespace is gone: the next fleet has the same names
		n.holder.Process.Kill()
		n.holder.Wait()
	}
	unix.Unmount(n.dir, unix.MNT_DETACH)
}

// inside runs a program in the node's network.
func (n *node) inside(args ...string) error {
	return tool(append([]string{"nsenter", "-t", strconv.Itoa(n.holder.Process.Pid), "-n"}, args...)...)
}

// start starts the process.
func (n *node) start() error {
	if n.running() {
		return nil
	}
	out, err := os.OpenFile(n.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command("nsenter", "-t", strconv.Itoa(n.holder.Process.Pid), "-n", n.binary, "serve", "--config", n.config)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(os.Environ(), skewEnv+"="+n.skew())
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", n.id, err)
	}
	n.cmd, n.done = cmd, make(chan struct{})
	go func(done chan struct{}) { cmd.Wait(); close(done) }(n.done)
	return nil
}

func (n *node) running() bool {
	if n.cmd == nil {
		return false
	}
	select {
	case <-n.done:
		return false
	default:
		return true
	}
}

// signal sends one to the process, if it runs.
func (n *node) signal(s syscall.Signal) {
	if n.running() {
		n.cmd.Process.Signal(s)
	}
}

// kill ends the process as a crash would.
func (n *node) kill() {
	if n.running() {
		n.cmd.Process.Kill()
		<-n.done
	}
}

// ends waits until the process has ended by itself.
func (n *node) ends(within time.Duration) bool {
	select {
	case <-n.done:
		return true
	case <-time.After(within):
		return false
	}
}

// refuses waits until the node, which was given an old disk, ends by itself, and is an
// error unless it does and says why. from is how long its log was before the start.
func (n *node) refuses(from int64) error {
	if !n.ends(60 * time.Second) {
		n.kill()
		return fmt.Errorf("node %s runs with an old disk:\n%s", n.id, tail(n.said(from)))
	}
	if said := n.said(from); !strings.Contains(said, "never continue from an old disk") && !strings.Contains(said, "older than") {
		return fmt.Errorf("node %s with an old disk ends without saying so:\n%s", n.id, tail(said))
	}
	return nil
}

// copyTree copies a folder with everything in it.
func copyTree(from, to string) error { return tool("cp", "-a", from, to) }

// said is what the process has written, from an offset on.
func (n *node) said(from int64) string {
	f, err := os.ReadFile(n.log)
	if err != nil || int64(len(f)) < from {
		return ""
	}
	return string(f[from:])
}

func (n *node) logSize() int64 {
	info, err := os.Stat(n.log)
	if err != nil {
		return 0
	}
	return info.Size()
}

// skewEnv is the variable that the program was built to look at.
const skewEnv = "COFFER_CHAOS_SKEW"

// skew is the file that says how wrong the node's clock is.
func (n *node) skew() string { return n.config + ".skew" }

// home is the folder that the node itself knows.
func (n *node) home() string { return filepath.Join(n.dir, n.id) }
