package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"coffer/backup"
)

func (a *app) mountCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "mount DIR",
		Short: "Show the snapshots as folders, until it is ended",
		Long: "mount shows every snapshot below DIR, an empty folder, as SOURCE/TIME, and the newest ones as latest and\n" +
			"SOURCE/latest. Nothing can be written there. What is read is fetched and verified as it is needed. Ctrl-C\n" +
			"ends it. It needs /dev/fuse and, unless you are root, fusermount3 (package fuse3).",
		Example:           "  mkdir ~/snapshots; coffer mount ~/snapshots",
		Args:              exactly(1, "mount takes DIR"),
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs),
		RunE:              func(cmd *cobra.Command, args []string) error { return a.mount(cmd.Context(), absolute(args[0])) },
	}
}

// mounted is the answer of "mount", printed when DIR can be used.
type mounted struct {
	Dir string `json:"dir"`
}

func (a *app) mount(ctx context.Context, dir string) error {
	if err := canMount(dir); err != nil {
		return err
	}
	_, repo, err := a.openRepo(ctx)
	if err != nil {
		return err
	}
	server, err := a.serveFUSE(ctx, repo, dir)
	if err != nil {
		return fmt.Errorf("mounting %s: %w", dir, err)
	}
	if a.json {
		err = a.printJSON(mounted{dir})
	} else {
		a.say("The snapshots are below %s. Ctrl-C ends that.", printable(dir))
	}
	ended := make(chan struct{})
	go func() { server.Wait(); close(ended) }()
	select {
	case <-ended: // somebody else has unmounted it
		return err
	case <-ctx.Done():
	}
	if uerr := server.Unmount(); uerr != nil {
		a.say("Something below %s is still in use: it goes when that is closed.", printable(dir))
		uerr = detach(context.WithoutCancel(ctx), dir)
		return errors.Join(err, uerr)
	}
	<-ended
	return err
}

// canMount says what is missing, before anything is asked of the store.
func canMount(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case err != nil:
		return hint(fmt.Errorf("mounting: %w", err), "DIR must be an empty folder: mkdir makes one; what a mount that was killed has left, \"fusermount3 -uz DIR\" takes away")
	case len(entries) > 0:
		return hint(usagef("%s is not empty", dir), "a mount would hide what is there: give an empty folder")
	}
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return hint(fmt.Errorf("this system cannot mount: %w", err), `"sudo modprobe fuse" makes /dev/fuse; a container must be given it; "coffer restore" and "coffer cat" need neither`)
	}
	if err := f.Close(); err != nil {
		return err
	}
	if _, err := exec.LookPath("fusermount3"); err != nil && os.Geteuid() != 0 {
		return hint(fmt.Errorf("only root can mount without fusermount3: %w", err), "sudo apt install fuse3")
	}
	return nil
}

const (
	// foreverTime is how long the kernel may rely on what lies in a snapshot.
	foreverTime = 24 * time.Hour
	// catalogTime is how old the list of snapshots may be.
	catalogTime = 5 * time.Second
)

// serveFUSE mounts the snapshots and serves them until the result is unmounted.
func (a *app) serveFUSE(ctx context.Context, repo *backup.Repo, dir string) (*fuse.Server, error) {
	c := &catalog{repo: repo, failed: func(err error) { a.say("coffer: error: %s", printable(err.Error())) }}
	if _, err := c.list(ctx); err != nil {
		return nil, err
	}
	forever, none := foreverTime, time.Duration(0)
	return fs.Mount(dir, &topNode{c: c}, &fs.Options{
		MountOptions: fuse.MountOptions{
			FsName: "coffer", Name: "coffer", Options: []string{"ro", "default_permissions"}, DirectMount: os.Geteuid() == 0,
			DirectMountFlags: unix.MS_NOSUID | unix.MS_NODEV | unix.MS_RDONLY, MaxReadAhead: 1 << 20, MaxWrite: 1 << 20, EnableSymlinkCaching: true,
		},
		EntryTimeout: &forever, AttrTimeout: &forever, NegativeTimeout: &none, NullPermissions: true,
	})
}

// detach takes the mount away although it is in use.
func detach(ctx context.Context, dir string) error {
	if err := unix.Unmount(dir, unix.MNT_DETACH); err == nil {
		return nil
	}
	if out, err := exec.CommandContext(ctx, "fusermount3", "-u", "-z", "--", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("unmounting %s: %w: %s", dir, err, out)
	}
	return nil
}
