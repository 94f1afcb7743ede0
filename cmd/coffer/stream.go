package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"coffer/backup"
)

// streamFlags say that backup reads no source but a stream.
type streamFlags struct {
	stdin       bool
	fromCommand bool
	name        string
	tags        []string
}

// check makes sure that the flags fit each other and the arguments.
func (f *streamFlags) check(args []string) error {
	switch {
	case f.stdin && f.fromCommand:
		return usagef("either --stdin or --stdin-from-command")
	case f.stdin && len(args) > 0:
		return usagef("unexpected argument %q: --stdin takes none", args[0])
	case f.fromCommand && len(args) == 0:
		return hint(usagef("--stdin-from-command without a command"), "the command follows two dashes: coffer backup --stdin-from-command --stdin-name db.sql -- pg_dump db")
	case !f.stdin && !f.fromCommand && f.name != "":
		return usagef("--stdin-name is for --stdin and --stdin-from-command")
	case (f.stdin || f.fromCommand) && f.name == "":
		return hint(usagef("missing --stdin-name"), "it names the file in the snapshot, and the source: --stdin-name db.sql")
	case f.name != "" && (f.name != filepath.Base(f.name) || f.name == "." || f.name == ".." || f.name == "/"):
		return usagef("--stdin-name %q: not the name of a file", f.name)
	}
	return checkTags(f.tags)
}

// backupStream saves standard input, or what a command writes, as a snapshot of one file.
func (a *app) backupStream(ctx context.Context, f *streamFlags, command []string) error {
	u, repo, err := a.openRepo(ctx)
	if err != nil {
		return err
	}
	var body io.Reader = a.in
	if f.fromCommand {
		c, err := a.start(ctx, command)
		if err != nil {
			return err
		}
		defer c.stop()
		body = c
	}
	began := time.Now()
	snap, report, err := repo.BackupStream(ctx, backup.BackupOptions{Source: f.name, Host: u.Host, Tags: f.tags}, body)
	if err != nil {
		return err
	}
	results := []saved{{Source: f.name, Snapshot: snap.ID, Took: time.Since(began), Report: &report}}
	if a.json {
		if err := a.printJSON(results); err != nil {
			return err
		}
	}
	return a.reportBackups(results)
}

// commandOutput is what a command writes. Its end is only an end if the command
// succeeds.
type commandOutput struct {
	cmd  *exec.Cmd
	out  io.ReadCloser
	name string
	over bool
}

// stopTime is how long a command may take to end when it is told to.
const stopTime = 10 * time.Second

func (a *app) start(ctx context.Context, command []string) (*commandOutput, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdin, cmd.Stderr, cmd.WaitDelay = a.in, a.err, stopTime
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, hint(fmt.Errorf("running %s: %w", printable(command[0]), err), "the command is run as it stands, without a shell")
	}
	return &commandOutput{cmd: cmd, out: out, name: printable(command[0])}, nil
}

// Read implements [io.Reader].
func (c *commandOutput) Read(p []byte) (int, error) {
	n, err := c.out.Read(p)
	if !errors.Is(err, io.EOF) || n > 0 {
		return n, err
	}
	if c.over {
		return 0, io.EOF
	}
	c.over = true
	if err := c.cmd.Wait(); err != nil {
		return 0, hint(fmt.Errorf("no snapshot was made: %s: %w", c.name, err), "what the command wrote may be half of something")
	}
	return 0, io.EOF
}

// stop ends a command whose output nobody reads any more.
func (c *commandOutput) stop() {
	if c.over {
		return
	}
	c.out.Close()
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	_ = c.cmd.Wait()                          // what it says is not asked for any more
}
