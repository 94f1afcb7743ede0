// Command coffer is what a person types: it sets a machine up, backs up, lists,
// restores and recovers, and asks the daemon (cofferd) how it is.
//
// Data goes to standard output, everything else to standard error; with --json
// both are JSON. The exit statuses are documented in exit.go.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"coffer/backup"
	"coffer/vault"
)

func main() {
	// The key will be in memory: no core dump, no debugger of the same user.
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) // it cannot fail for 0
	backup.LimitMemory()
	os.Exit(run(os.Args[1:], theSystem()))
}

// theSystem is the world outside as the command finds it.
func theSystem() system {
	return system{in: os.Stdin, out: os.Stdout, err: os.Stderr, vault: func(c vault.ClientConfig) (vaultClient, error) { return vault.NewClient(c) }, newer: vault.NewerManifest, fetch: vault.FetchManifest, manifest: signedManifest}
}

// run executes one command and returns the exit status.
func run(args []string, s system) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // the second signal ends the program at once
	a := &app{system: s}
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if ctx.Err() != nil && err != nil {
		err = context.Canceled
	}
	return a.finish(err)
}
