package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"coffer/internal/config"
	"coffer/keyring"
)

// finding is one thing that doctor looked at.
type finding struct {
	Check string `json:"check"` // as "upstream", the same for all of a kind
	State string `json:"state"` // "ok", "warning" or "failed"
	Text  string `json:"text"`
	Fix   string `json:"fix,omitempty"` // the command that mends it, or what to do
}

// errUnwell ends a doctor that found something that does not work.
var errUnwell = errors.New("something does not work")

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Find what is wrong, and say what mends it",
		Long: "doctor looks at the configuration, the key, the upstreams and their clocks, the vault, the daemon, the\n" +
			"watch limit, who may read secret files, and where memory may be written to disk. It writes and deletes\n" +
			"one small object in each upstream. It spends no attempt. Exit status 1: something does not work.",
		Args: atMost(0, "doctor takes none"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.doctor(cmd.Context()) },
	}
}

func (a *app) doctor(ctx context.Context) error {
	all := a.examine(ctx)
	failed := false
	for _, f := range all {
		failed = failed || f.State == "failed"
	}
	if a.json {
		if err := a.printJSON(all); err != nil {
			return err
		}
	} else {
		for _, f := range all {
			fmt.Fprintf(a.out, "%-8s %-9s %s\n", f.State, f.Check, printable(f.Text))
			if f.Fix != "" {
				fmt.Fprintf(a.out, "%18s -> %s\n", "", printable(f.Fix))
			}
		}
	}
	if failed {
		return errUnwell
	}
	return ctx.Err()
}

// patient collects findings.
type patient struct {
	app *app
	all []finding
}

func (p *patient) ok(check, format string, args ...any) {
	p.all = append(p.all, finding{check, "ok", fmt.Sprintf(format, args...), ""})
}

func (p *patient) warn(check, fix, format string, args ...any) {
	p.all = append(p.all, finding{check, "warning", fmt.Sprintf(format, args...), fix})
}

// fail notes err with the fix that its exit status would come with.
func (p *patient) fail(check string, err error, fix string) {
	if _, tip := explain(err); tip != "" && fix == "" {
		fix = tip
	}
	p.all = append(p.all, finding{check, "failed", err.Error(), fix})
}

// examine looks at everything; what needs a configuration, only with one.
func (a *app) examine(ctx context.Context) []finding {
	p := &patient{app: a}
	u, err := a.load()
	if err != nil {
		p.fail("config", err, "")
	} else {
		p.ok("config", "%s has no mistake", a.configFile)
		ring := p.key(u)
		p.upstreams(ctx, u)
		p.mirrors(u)
		p.vault(ctx, u)
		p.daemon(ctx, u)
		p.sandbox(ctx, u)
		p.watchLimit(ctx, u)
		p.secrets(u)
		p.room(u)
		p.methods(ring)
		p.passkeys(ctx, u, ring)
	}
	p.memory()
	return p.all
}

func (p *patient) key(u *config.User) *keyring.Ring {
	ring, err := keyring.Load(u.StateDir)
	switch {
	case err != nil:
		p.fail("key", err, "")
	case ring.Locked():
		p.fail("key", keyring.ErrLocked, "")
	case ring.From() == "file":
		p.ok("key", "here, in a file that only you can read")
	default:
		p.ok("key", "here (%s)", ring.From())
	}
	return ring
}

// passkeys says how many open the backup beside that, by the store's own list.
func (p *patient) passkeys(ctx context.Context, u *config.User, ring *keyring.Ring) {
	if ring == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, testTimeout)
	defer cancel()
	b, err := p.app.openStore(ctx, u)
	if err != nil {
		return // said above
	}
	all, err := passkeysIn(b, u.StateDir, ring.Profile()).List(ctx)
	switch {
	case err != nil:
		p.fail("passkeys", err, "")
	case len(all) > 0:
		p.ok("passkeys", "%s can unlock the daemon on its page, here or on a new machine", count(len(all), "passkey"))
	}
}

// methods warns of a key that has only one way back.
func (p *patient) methods(ring *keyring.Ring) {
	if ring == nil {
		return
	}
	if m := ring.Profile().Methods; len(m) < 2 {
		p.warn("recovery", "coffer recovery sheet", "if this machine is lost, one thing brings the key back: %s", describeMethods(ring.Profile().Methods))
		return
	}
	p.ok("recovery", "if this machine is lost, each of these brings the key back: %s", describeMethods(ring.Profile().Methods))
}
