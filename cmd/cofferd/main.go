// Cofferd watches directories and has them backed up, and offers a local S3
// endpoint that encrypts. It reads coffer.toml; "coffer setup" writes one.
//
//	cofferd [--config FILE]
//	cofferd [--config FILE] --tell UNIT
//
// It runs in the foreground and stops on SIGINT and SIGTERM; SIGHUP has it read
// the configuration again. With --tell it only tells whom [notify] names that a
// unit has failed. Exit status: 0 stopped, 1 failed, 2 usage, 75 another
// one runs already, 78 configuration.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"coffer"
	"coffer/backup"
	"coffer/daemon"
	"coffer/daemon/notify"
	"coffer/daemon/power"
	"coffer/internal/config"
	"coffer/internal/telemetry"
	"coffer/keyring"
	"coffer/upstream"
)

// Exit statuses, those of sysexits.h where there is one.
const (
	exitFailed  = 1
	exitUsage   = 2
	exitRunning = 75
	exitConfig  = 78
)

func main() {
	// The key will be in memory: no core dump, no debugger of the same user.
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) // it cannot fail for 0
	backup.LimitMemory()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return
	}
	fmt.Fprintln(os.Stderr, "cofferd: error:", err)
	var fault *exitError
	if errors.As(err, &fault) {
		if fault.hint != "" {
			fmt.Fprintln(os.Stderr, "cofferd: hint:", fault.hint)
		}
		os.Exit(fault.status)
	}
	os.Exit(exitFailed)
}

// exitError is an error with its exit status, and what to do about it.
type exitError struct {
	error
	status int
	hint   string
}

func (e *exitError) Unwrap() error { return e.error }

// start is what the process begins with.
type start struct {
	file  string // of c
	tell  string // the unit that has failed; "": the daemon is to run
	c     *config.User
	level zap.AtomicLevel // of log
	log   *zap.Logger
	reg   *prometheus.Registry

	limits *upstream.Limits // of the bandwidth of all upstreams
}

// begin reads the configuration and opens the log.
func begin(args []string) (s start, err error) {
	if s.file, s.tell, err = flags(args); err != nil {
		return s, err
	}
	load := config.LoadUser
	if s.tell != "" {
		load = config.LoadNotify // the daemon may have failed for what else is in the file
	}
	if s.c, err = load(s.file); err != nil {
		return s, &exitError{err, exitConfig, `"coffer setup" writes a configuration; the example coffer.toml explains every key`}
	}
	if s.level, err = zap.ParseAtomicLevel(s.c.Log.Level); err == nil {
		s.log, err = telemetry.NewLoggerAt(s.level, s.c.Log.Format)
	}
	if err != nil {
		return s, &exitError{err, exitConfig, ""}
	}
	s.reg = telemetry.NewRegistry(coffer.Version())
	s.limits = upstream.NewLimits()
	s.limits.Set(upstream.Windows(s.c.Limits))
	return s, nil
}

// run joins the parts and runs them until ctx ends.
func run(ctx context.Context, args []string) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP) // before systemd hears that we are ready: unhandled, it would end us
	defer signal.Stop(hup)
	s, err := begin(args)
	if err != nil {
		return err
	}
	if s.tell != "" {
		return tell(ctx, s, s.tell)
	}
	c, log, reg := s.c, s.log, s.reg
	bucket, catchUp, err := openUpstreams(c, s.limits, log, reg)
	if err != nil {
		return unusable(err, c)
	}
	ring, err := keyring.Load(c.StateDir)
	if err != nil {
		return &exitError{err, exitConfig, `"coffer setup" makes this machine ready, "coffer recover" one that was lost`}
	}
	sockets, err := openSockets(ctx, c)
	if err != nil {
		return err
	}
	repo := newRepository(c, bucket, ring, log, reg)
	gateway, err := newGateway(c, sockets.s3, bucket, repo, log, reg)
	if err != nil {
		return &exitError{err, exitConfig, ""}
	}
	page := newWebPage(s.file, c, log)
	systemd := telemetry.NewNotifier(log)
	people := notify.New(notifyConfig(c, log))
	supply := power.New(powerConfig(c, log))
	reload := newReloader(s, gateway, repo, people, supply, systemd)
	d, err := daemon.New(daemon.Config{
		Sources: sources(c), StateDir: c.StateDir, Host: c.Host, Version: coffer.Version(), Private: private(c),
		Tasks: tasks(c, repo, log), Hold: supply.Hold, Reload: reload.reload,
		Notify: people.Tell, Notices: notices(c), TestNotify: people.Test,
		Open: repo.open, Key: repo, Control: c.Control, Listener: sockets.control,
		Login: page.login, Started: systemd.Ready, Log: log.Named("daemon"), Metrics: telemetry.Prefix(reg, ""),
	})
	if err != nil {
		return &exitError{err, exitConfig, ""}
	}
	reload.d = d
	health := new(telemetry.Health)
	health.Live("daemon", d.Alive)
	health.Ready("key", d.Ready)
	metrics, err := newMetrics(c, reg, health, log)
	if err != nil {
		return &exitError{err, exitConfig, ""}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return running(d.Run(ctx)) })
	g.Go(func() error { return gateway.run(ctx, sockets.s3) })
	g.Go(func() error { return page.run(ctx, d, repo, gateway, sockets.s3) })
	g.Go(func() error { return metrics(ctx) })
	g.Go(func() error { return catchUp(ctx) })
	g.Go(func() error { return people.Run(ctx, d) })
	g.Go(func() error { return supply.Run(ctx) })
	g.Go(func() error { return systemd.Watchdog(ctx, health) })
	g.Go(func() error { return tellStatus(ctx, d, systemd) })
	g.Go(func() error { return reload.run(ctx, hup) })
	g.Go(func() error { <-ctx.Done(); systemd.Stopping(); return nil })
	return g.Wait()
}

// flags reads the command line.
func flags(args []string) (file, tell string, err error) {
	flags := flag.NewFlagSet("cofferd", flag.ContinueOnError)
	flags.StringVar(&file, "config", config.UserFile(), "read this `FILE`")
	flags.StringVar(&tell, "tell", "", "do not run; tell whom [notify] names that this `UNIT` has failed")
	version := flags.Bool("version", false, "print the version and exit")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return "", "", err
		}
		return "", "", &exitError{err, exitUsage, `"cofferd --help" lists the flags`}
	}
	if flags.NArg() > 0 {
		return "", "", &exitError{fmt.Errorf("unexpected argument %q", flags.Arg(0)), exitUsage, `"cofferd --help" lists the flags`}
	}
	if *version {
		fmt.Println("cofferd", coffer.Version())
		return "", "", flag.ErrHelp
	}
	file, err = filepath.Abs(file)
	return file, tell, err
}

// running gives the error that another daemon runs its exit status.
func running(err error) error {
	if errors.Is(err, daemon.ErrRunning) {
		return &exitError{err, exitRunning, `"coffer status" asks the one that runs`}
	}
	return err
}
