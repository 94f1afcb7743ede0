package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"coffer/daemon"
)

// What the daemon does beside the backups can be asked for, and its answer
// becomes the command's.
func TestMaintain(t *testing.T) {
	r := newRig(t)
	r.run(exitFailed, "maintain", "check")
	if !strings.Contains(r.err.String(), "hint: ") {
		t.Errorf("got %s", &r.err)
	}
	key := new(fakeKey)
	reload := daemon.Configured{Loaded: time.Now(), Restart: []string{"gateway"}}
	deliveries := []daemon.Delivery{{Channel: "webhook"}, {Channel: "mail", Error: "connection refused"}}
	r.daemon(key, func(c *daemon.Config) {
		c.Tasks = []daemon.Task{
			{Name: "check", Every: time.Hour, Run: func(context.Context, int) (string, error) { return "3 snapshots, 4 packs: all there", nil }},
			{Name: "drill", Run: func(context.Context, int) (string, error) {
				return "", &daemon.Trouble{Err: errors.New("2 of 20 restored files are not as they were backed up"), Hint: "coffer check --read-data", Lasting: true}
			}},
			{Name: "prune", Every: time.Hour, Run: func(context.Context, int) (string, error) { return "", errors.New("no route to host") }},
		}
		c.Reload = func() daemon.Configured { return reload }
		c.TestNotify = func(context.Context) []daemon.Delivery { return deliveries }
		c.Hold = func() string { return "on battery, 12 %" }
	})
	r.run(exitLocked, "maintain", "check")
	if err := key.Unlock(t.Context(), [32]byte{}); err != nil {
		t.Fatal(err)
	}
	r.run(exitOK, "maintain", "check")
	r.want(`check  \d+-\d+-\d+ \d+:\d+: 3 snapshots, 4 packs: all there; next `)
	r.run(exitCorrupt, "maintain", "check", "drill")
	r.want(`drill +failed .*: 2 of 20 restored`, `error: something is wrong with the backup: drill: 2 of 20`, `hint: coffer check --read-data`)
	r.run(exitFailed, "maintain", "prune")
	r.want(`error: prune: no route to host`)
	r.run(exitUsage, "maintain", "chekc")
	r.want(`error: there is no task "chekc"`, `hint: "coffer maintain" lists them`)
	r.run(exitOK, "maintain")
	r.want(`drill +failed .*; only when it is asked for`)
	r.run(exitOK, "--json", "maintain")
	r.want(`"name": "drill"`)

	r.run(exitOK, "status")
	r.want(`daemon +running since .*, waiting: on battery, 12 %`, `task +check +\d`, `problem +drill: 2 of 20 .*\(since \d`, `-> coffer check --read-data`)
	r.run(exitFailed, "doctor")
	r.want(`failed +daemon +drill: 2 of 20 restored`, `-> coffer check --read-data`)

	r.run(exitFailed, "notify")
	r.want(`webhook: sent`, `mail: connection refused`, `error: not everybody could be told`)
	deliveries = deliveries[:1]
	r.run(exitOK, "--json", "notify")
	r.want(`"channel": "webhook"`)
	deliveries = nil
	r.run(exitFailed, "notify")
	r.want(`error: nobody is told of problems`, `hint: .*\[notify\]`)

	r.run(exitOK, "config", "reload")
	r.want(`has taken it over`, `\[gateway\] has changed and needs a restart`)
	r.run(exitOK, "status")
	r.want(`needs a restart for \[gateway\]`)
	r.run(exitOK, "--json", "config", "reload")
	r.want(`"restart": \[`)
	reload = daemon.Configured{Error: "coffer.toml:3:1: sorce: unknown key"}
	r.run(exitFailed, "config", "reload")
	r.want(`goes on with the configuration before: coffer.toml:3:1: sorce: unknown key`, `hint: coffer config check`)
	r.run(exitOK, "status")
	r.want(`problem +the configuration has a fault, the one before is in force: coffer.toml:3:1`)
}
