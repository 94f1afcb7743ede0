// Coffer-vault runs one node of a Backup Key Vault, and makes and administers
// fleets of them. It reads coffer-vault.toml; configs/coffer-vault.toml explains
// every key.
//
//	coffer-vault init --config FILE          make the node's HSM keys and certificate; writes DIR/node.json
//	coffer-vault fleet key --out root.key    make a root key, to be kept offline
//	coffer-vault fleet init ... NODE.json... describe a fleet and sign it
//	coffer-vault serve --config FILE         run the node
//	coffer-vault status --config FILE        ask the node that runs
//
// Data goes to standard output, everything else to standard error. Exit status:
// 0 done, 1 failed, 2 usage, 75 the node does not run or cannot do that now, 78
// configuration.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// Exit statuses, those of sysexits.h where there is one.
const (
	exitFailed    = 1
	exitUsage     = 2
	exitTemporary = 75
	exitConfig    = 78
)

func main() {
	// The PIN and the certificate's key will be in memory: no core dump, no debugger of the same user.
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) // it cannot fail for 0
	signal.Ignore(syscall.SIGHUP)                    // serve takes it for reload; nothing else ends by it
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // the second signal ends the program at once
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr}
	root := a.root()
	root.SetArgs(os.Args[1:])
	if err := root.ExecuteContext(ctx); err != nil {
		os.Exit(a.explain(err))
	}
}

// exitError is an error with its exit status, and what to do about it.
type exitError struct {
	error
	status int
	hint   string
}

func (e *exitError) Unwrap() error { return e.error }

// hinted adds to err what to do about it.
func hinted(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &exitError{err, exitFailed, hint}
}

func usagef(format string, args ...any) error {
	return &exitError{fmt.Errorf(format, args...), exitUsage, ""}
}

// explain writes the error and the hint, and gives the exit status.
func (a *app) explain(err error) int {
	status, hint := exitFailed, ""
	var e *exitError
	if errors.As(err, &e) {
		status, hint = e.status, e.hint
	}
	fmt.Fprintln(a.err, "coffer-vault: error:", err)
	if hint != "" {
		fmt.Fprintln(a.err, "coffer-vault: hint:", hint)
	}
	return status
}
