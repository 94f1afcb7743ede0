package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"coffer/daemon"
)

func (a *app) maintainCommand() *cobra.Command {
	return &cobra.Command{
		Use: "maintain [TASK]...", Short: "Have the daemon do now what it does beside the backups",
		Long: "maintain runs tasks of the daemon and waits for their end: forget, prune, check, read (a part of the data) and\n" +
			"drill (a sample is restored and compared). Without a name it shows when each last ran and runs next.\n" +
			"Exit status 16: something is damaged, or did not come back as it was backed up.",
		Example: "  coffer maintain\n  coffer maintain check drill",
		RunE:    func(cmd *cobra.Command, args []string) error { return a.maintain(cmd.Context(), args) },
	}
}

// errFound ends a maintain whose task found something wrong.
var errFound = errors.New("something is wrong with the backup")

func (a *app) maintain(ctx context.Context, names []string) error {
	u, err := a.load()
	if err != nil {
		return err
	}
	c := daemon.NewClient(u.Control)
	all := []daemon.TaskStatus{}
	for _, name := range names {
		st, err := c.RunTask(ctx, name)
		if errors.Is(err, daemon.ErrUnknownTask) {
			return hint(usagef("there is no task %q", name), `"coffer maintain" lists them; forget is there when a source has [source.keep]`)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, st)
	}
	if len(names) == 0 {
		st, err := c.Status(ctx)
		if err != nil {
			return err
		}
		all = st.Tasks
	}
	if a.json {
		err = a.printJSON(all)
	} else {
		err = a.printTasks(all)
	}
	if err != nil || len(names) == 0 {
		return err
	}
	for _, t := range all {
		err := fmt.Errorf("%s: %s", t.Name, t.Error)
		switch {
		case t.Lasting:
			return hint(fmt.Errorf("%w: %w", errFound, err), t.Hint)
		case t.Error != "":
			return hint(err, t.Hint)
		}
	}
	return nil
}

func (a *app) printTasks(all []daemon.TaskStatus) error {
	t := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	for _, x := range all {
		fmt.Fprintf(t, "%s\t%s\n", x.Name, printable(describeTask(x)))
	}
	return t.Flush()
}

// describeTask is one line.
func describeTask(t daemon.TaskStatus) string {
	at := func(x time.Time) string { return x.Local().Format("2006-01-02 15:04") }
	var out string
	switch {
	case t.State == "running":
		out = "running"
	case t.Error != "":
		out = fmt.Sprintf("failed %s: %s", at(t.LastRun), t.Error)
	case t.LastOK.IsZero():
		out = "not yet run"
	default:
		out = fmt.Sprintf("%s: %s", at(t.LastOK), t.Result)
	}
	switch {
	case t.State == "waiting":
		out += "; due, and waits"
	case !t.Next.IsZero():
		out += "; next " + at(t.Next)
	case t.Every == 0:
		out += "; only when it is asked for"
	}
	return out
}

func (a *app) notifyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "notify", Short: "Send a test to everybody whom the daemon tells of problems", Args: atMost(0, "notify takes none"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.notify(cmd.Context()) },
	}
}

func (a *app) notify(ctx context.Context) error {
	u, err := a.load()
	if err != nil {
		return err
	}
	all, err := daemon.NewClient(u.Control).TestNotify(ctx)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return hint(errors.New("nobody is told of problems"), "put webhook, mail or desktop under [notify] into the configuration: coffer.toml(5)")
	}
	if a.json {
		err = a.printJSON(all)
	}
	failed := false
	for _, d := range all {
		failed = failed || d.Error != ""
		switch {
		case a.json:
		case d.Error != "":
			fmt.Fprintf(a.out, "%s: %s\n", d.Channel, printable(d.Error))
		default:
			fmt.Fprintf(a.out, "%s: sent\n", d.Channel)
		}
	}
	if err == nil && failed {
		return hint(errors.New("not everybody could be told"), "the configuration is checked again by: coffer config reload")
	}
	return err
}

func (a *app) configReloadCommand() *cobra.Command {
	return &cobra.Command{
		Use: "reload", Short: "Have the daemon read the configuration again", Args: atMost(0, "config reload takes none"),
		Long: "reload has the daemon take over what has changed: sources, [maintenance], [notify], [power], the log level and the\n" +
			"gateway's certificate and access keys at once; what needs a restart is named. A file with a fault changes nothing.",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.configReload(cmd.Context()) },
	}
}

func (a *app) configReload(ctx context.Context) error {
	u, err := a.load() // a fault is found here already, unless the daemon reads another file
	if err != nil {
		return err
	}
	now, err := daemon.NewClient(u.Control).ReloadConfig(ctx)
	if err != nil {
		return err
	}
	if now.Error == "" && a.json {
		return a.printJSON(now)
	}
	if now.Error == "" {
		a.say("The daemon has taken it over.")
	}
	return a.reloaded(now)
}
