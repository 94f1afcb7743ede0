package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"coffer/daemon"
	"coffer/internal/config"
	"coffer/internal/human"
	"coffer/keyring"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show how this machine, its daemon and its vault are",
		Args:  atMost(0, "status takes none"),
		RunE:  func(cmd *cobra.Command, _ []string) error { return a.status(cmd.Context()) },
	}
}

// status is the answer of "coffer status --json".
type status struct {
	Config    string           `json:"config"`
	StateDir  string           `json:"state_dir"`
	Host      string           `json:"host"`
	Store     *keyring.Profile `json:"store"`
	Upstreams []string         `json:"upstreams"`
	Mirrors   []mirrorLag      `json:"mirrors,omitempty"`            // of several upstreams, what each has missed
	Locked    bool             `json:"locked"`                       // the command finds no key on this machine
	KeyFrom   string           `json:"key_from,omitempty"`           // "file" or "credential"
	Gateway   string           `json:"gateway,omitempty"`            // address of the S3 endpoint
	Sources   []sourcePath     `json:"sources"`                      // as configured
	Daemon    *daemon.Status   `json:"daemon" jsonschema:"nullable"` // null: not running
	Vault     *vaultState      `json:"vault,omitempty"`
	Passkeys  []passkeyShown   `json:"passkeys"` // that open the backup too, as this machine knows them
}

// sourcePath is one source of the configuration.
type sourcePath struct {
	Name string `json:"name"`
	Path string `json:"path"`
}

// vaultState is what the vault says of the account.
type vaultState struct {
	Account    string      `json:"account"`
	Error      string      `json:"error,omitempty"` // why it did not answer; the rest is then empty
	Registered bool        `json:"registered"`
	Destroyed  bool        `json:"destroyed"`
	Left       int         `json:"attempts_left"`
	Budget     int         `json:"attempts"`
	Failed     int         `json:"failed_attempts"` // since the last success
	LastFailed time.Time   `json:"last_failed,omitzero"`
	Nodes      []vaultNode `json:"nodes,omitempty"`
}

type vaultNode struct {
	ID    string `json:"id"`
	Holds bool   `json:"holds"`
	Error string `json:"error,omitempty"`
}

func (a *app) status(ctx context.Context) error {
	u, err := a.load()
	if err != nil {
		return err
	}
	ring, err := keyring.Load(u.StateDir)
	if err != nil {
		return err
	}
	p := ring.Profile()
	s := status{Config: a.configFile, StateDir: u.StateDir, Host: u.Host, Store: &p, Locked: ring.Locked(), KeyFrom: ring.From(), Gateway: u.Gateway.Listen}
	for _, up := range u.Upstreams {
		s.Upstreams = append(s.Upstreams, upstreamName(up))
	}
	if s.Mirrors, err = mirrorLags(u); err != nil {
		return err
	}
	if s.Passkeys, err = passkeysHere(u.StateDir, p); err != nil {
		return err
	}
	for _, src := range u.Sources {
		s.Sources = append(s.Sources, sourcePath{src.Name, src.Path})
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	d, err := daemon.NewClient(u.Control).Status(ctx)
	switch {
	case err == nil:
		s.Daemon = &d
	case !errors.Is(err, daemon.ErrNotRunning):
		return fmt.Errorf("asking the daemon: %w", err)
	}
	if u.Vault.Fleet != "" {
		s.Vault = a.askVault(ctx, u)
	}
	if a.json {
		return a.printJSON(s)
	}
	return a.printStatus(s)
}

// upstreamName is the address of an upstream, as --upstream takes it.
func upstreamName(u config.Upstream) string {
	if u.Type == "folder" {
		return "folder:" + u.Path
	}
	return strings.TrimSuffix("s3:"+u.Endpoint+"/"+u.Bucket+"/"+u.Prefix, "/")
}

// askVault spends no attempt. A vault that does not answer is part of the status.
func (a *app) askVault(ctx context.Context, u *config.User) *vaultState {
	s := &vaultState{Account: u.Vault.Account}
	c, err := a.openVault(ctx, u.Vault, u.StateDir)
	if err != nil {
		s.Error = err.Error()
		return s
	}
	defer c.Close()
	st, err := c.Status(ctx)
	if err != nil {
		s.Error = err.Error()
	}
	s.Registered, s.Destroyed, s.Left, s.Budget, s.Failed, s.LastFailed = st.Registered, st.Destroyed, st.Left, st.Budget, st.Failed, st.LastFailed
	for _, n := range st.Nodes {
		node := vaultNode{ID: n.ID, Holds: n.Holds}
		if n.Err != nil {
			node.Error = n.Err.Error()
		}
		s.Nodes = append(s.Nodes, node)
	}
	return s
}

func (a *app) printStatus(s status) error {
	t := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s\t%s\n", name, printable(fmt.Sprintf(format, args...)))
	}
	line("store", "%v, %s", s.Store.Store, describe(*s.Store))
	for _, u := range s.Upstreams {
		line("upstream", "%s", u)
	}
	for _, m := range s.Mirrors {
		line("mirror", "%v", m)
	}
	switch {
	case s.Locked && s.Daemon != nil && !s.Daemon.Locked:
		line("key", "not on the disk; the daemon has it in its memory")
	case s.Locked:
		line("key", "locked: it is not on this machine")
	default:
		line("key", "here (%s)", s.KeyFrom)
	}
	for _, k := range s.Passkeys {
		line("passkey", "%s, since %s", k.Name, k.Created.Local().Format(time.DateOnly))
	}
	if v := s.Vault; v != nil {
		line("vault", "%s", v.describe())
		for _, n := range v.Nodes {
			if n.Error != "" {
				line("", "node %s: %s", n.ID, n.Error)
			}
		}
		if d := v.degraded(); len(d) > 0 {
			line("", "degraded: %s; the password, entered by \"coffer recover\" or set anew by \"coffer password change\", makes it whole", takesNoPart(d))
		}
	}
	if s.Gateway != "" {
		line("s3", "http://%s", s.Gateway)
	}
	if s.Daemon == nil {
		line("daemon", `not running: nothing is watched; "systemctl --user enable --now coffer" or "cofferd" starts it`)
		for _, src := range s.Sources {
			line("source", "%s  %s", src.Name, src.Path)
		}
		return t.Flush()
	}
	line("daemon", "%s", describeDaemon(s.Daemon))
	for _, src := range s.Daemon.Sources {
		line("source", "%s  %s  %s", src.Name, src.Path, describeSource(src, time.Now()))
	}
	for _, task := range s.Daemon.Tasks {
		line("task", "%s  %s", task.Name, describeTask(task))
	}
	for _, p := range s.Daemon.Problems {
		line("problem", "%s (since %s)", p.Text, p.Since.Local().Format("2006-01-02 15:04"))
		if p.Hint != "" {
			line("", "-> %s", p.Hint)
		}
	}
	return t.Flush()
}

func (v *vaultState) describe() string {
	switch {
	case v.Error != "":
		return fmt.Sprintf("account %s: does not answer: %s", v.Account, v.Error)
	case v.Destroyed:
		return fmt.Sprintf("account %s: the key there is destroyed; the password opens nothing any more", v.Account)
	case !v.Registered:
		return fmt.Sprintf("account %s: no key there", v.Account)
	case v.Failed > 0:
		return fmt.Sprintf("account %s: %d of %d attempts left; %d wrong guesses, the last %s", v.Account, v.Left, v.Budget, v.Failed, v.LastFailed.Local().Format(time.DateTime))
	}
	return fmt.Sprintf("account %s: %d of %d attempts left", v.Account, v.Left, v.Budget)
}

// degraded returns the nodes that take no part in the account's record, as those that
// took the place of lost ones.
func (v *vaultState) degraded() (ids []string) {
	for _, n := range v.Nodes {
		if v.Registered && !n.Holds {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

func takesNoPart(ids []string) string {
	if len(ids) == 1 {
		return "node " + ids[0] + " takes no part in keeping the key"
	}
	return "nodes " + strings.Join(ids, ", ") + " take no part in keeping the key"
}

func describeDaemon(d *daemon.Status) string {
	s := fmt.Sprintf("running since %s, pid %d", d.Started.Local().Format(time.DateTime), d.PID)
	if d.Locked {
		s += ", locked"
	}
	switch {
	case d.Paused && d.PausedUntil.IsZero():
		s += ", paused"
	case d.Paused:
		s += ", paused until " + d.PausedUntil.Local().Format(time.DateTime)
	case d.Hold != "":
		s += ", waiting: " + d.Hold
	}
	if len(d.Config.Restart) > 0 {
		s += ", needs a restart for [" + strings.Join(d.Config.Restart, "], [") + "]"
	}
	return s
}

func describeSource(s daemon.SourceStatus, now time.Time) string {
	out := s.State
	if p := s.Progress; p != nil && p.AllBytes > 0 {
		out += fmt.Sprintf(" (%s of %s)", human.Size(p.Bytes), human.Size(p.AllBytes))
	}
	if s.LastSaved.IsZero() {
		out += ", never saved"
	} else {
		out += fmt.Sprintf(", saved %s ago", now.Sub(s.LastSaved).Round(time.Second))
	}
	if s.Unreadable > 0 {
		out += fmt.Sprintf(", could not be read: %s", count(s.Unreadable, "file"))
	}
	if s.LastError != "" {
		out += ", last error: " + s.LastError
	}
	if s.Watch.Error != "" {
		out += ", watching: " + s.Watch.Error
	}
	return out
}
