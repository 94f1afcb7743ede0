package main

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"coffer"
	"coffer/daemon"
	"coffer/internal/config"
)

func (a *app) bugreportCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "bugreport",
		Short: "Print what helps to find a fault, without what is private",
		Long: "bugreport prints versions, the configuration without its names, paths and addresses, and what doctor found\n" +
			"without the details. Read it before you send it.",
		Args: atMost(0, "bugreport takes none"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.bugreport(cmd.Context()) },
	}
}

// openValues are the settings whose values tell nothing of the user.
var openValues = map[string]bool{
	"type": true, "path_style": true, "names": true, "etag": true, "rights": true, "level": true, "format": true, "quiet": true, "max_wait": true,
	"scan": true, "scan_only": true, "exclude_caches": true, "exclude_larger": true, "one_file_system": true,
}

// report is the answer of "bugreport --json".
type report struct {
	Version  string            `json:"version"`
	Go       string            `json:"go"`
	Kernel   string            `json:"kernel"`
	Arch     string            `json:"arch"`
	CPUs     int               `json:"cpus"`
	Settings map[string]string `json:"settings"`                     // values that could tell something are "(set)"
	Findings []string          `json:"findings"`                     // "STATE CHECK"
	Daemon   *daemonReport     `json:"daemon" jsonschema:"nullable"` // null: not running
}

type daemonReport struct {
	Version string   `json:"version"`
	Uptime  string   `json:"uptime"`
	Locked  bool     `json:"locked"`
	Paused  bool     `json:"paused"`
	Sources []string `json:"sources"` // states
}

func (a *app) bugreport(ctx context.Context) error {
	r := report{Version: coffer.Version(), Go: runtime.Version(), Arch: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(), Settings: make(map[string]string)}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err == nil {
		r.Kernel = string(bytes.TrimRight(uts.Release[:], "\x00"))
	}
	order := []string{}
	if all, err := config.Settings(a.configFile); err == nil {
		for _, s := range all {
			value := "(set)"
			if openValues[s.Field[strings.LastIndexByte(s.Field, '.')+1:]] {
				value = fmt.Sprint(s.Value)
			}
			if s.Origin == "default" {
				value += " (default)"
			}
			r.Settings[s.Field] = value
			order = append(order, s.Field)
		}
	}
	for _, f := range a.examine(ctx) {
		r.Findings = append(r.Findings, f.State+" "+f.Check)
	}
	r.Daemon = a.reportDaemon(ctx)
	if a.json {
		return a.printJSON(r)
	}
	fmt.Fprintf(a.out, "coffer %s, %s, %s, kernel %s, %d CPUs\n", r.Version, r.Go, r.Arch, r.Kernel, r.CPUs)
	for _, f := range order {
		fmt.Fprintf(a.out, "%s = %s\n", f, r.Settings[f])
	}
	for _, f := range r.Findings {
		fmt.Fprintln(a.out, f)
	}
	if d := r.Daemon; d != nil {
		fmt.Fprintf(a.out, "daemon %s, up %s, locked %t, paused %t, sources: %s\n", d.Version, d.Uptime, d.Locked, d.Paused, strings.Join(d.Sources, "; "))
	} else {
		fmt.Fprintln(a.out, "daemon: does not answer")
	}
	a.say("Nothing was sent. Read it before you do.")
	return nil
}

func (a *app) reportDaemon(ctx context.Context) *daemonReport {
	u, err := a.load()
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	st, err := daemon.NewClient(u.Control).Status(ctx)
	if err != nil {
		return nil
	}
	d := &daemonReport{Version: st.Version, Uptime: time.Since(st.Started).Round(time.Second).String(), Locked: st.Locked, Paused: st.Paused, Sources: []string{}}
	for _, s := range st.Sources {
		d.Sources = append(d.Sources, fmt.Sprintf("%s, watch %s, %d folders, %d failures, %d unreadable", s.State, s.Watch.Mode, s.Watch.Directories, s.Failures, s.Unreadable))
	}
	return d
}
