package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"coffer/daemon"
	"coffer/daemon/notify"
)

// tellTimeout is less than the unit allows.
const tellTimeout = 100 * time.Second

// tell has everybody who is told of problems hear that a unit has failed: for
// OnFailure=, as the daemon cannot say so itself.
func tell(ctx context.Context, s start, unit string) error {
	ctx, cancel := context.WithTimeout(ctx, tellTimeout)
	defer cancel()
	all := notify.New(notifyConfig(s.c, s.log)).Send(ctx, daemon.Notice{Change: daemon.Began, Problems: []daemon.Problem{failure(unit)}})
	var errs []error
	for _, d := range all {
		if d.Error != "" {
			errs = append(errs, fmt.Errorf("%s: %s", d.Channel, d.Error))
			continue
		}
		s.log.Info("told", zap.String("channel", d.Channel), zap.String("unit", unit))
	}
	return errors.Join(errs...)
}

// failure is the problem that a unit has failed.
func failure(unit string) daemon.Problem {
	p := daemon.Problem{
		ID: "failed:" + unit, Kind: "failed", Since: time.Now(),
		Text:    unit + " has failed and does not run: nothing is backed up",
		General: "the backup daemon has failed and does not run: nothing is backed up",
		Hint:    "systemctl status " + unit + " says why",
	}
	if strings.HasPrefix(unit, "coffer-vault@") {
		p.Kind = notify.KindVault
		p.Text = unit + " has failed and does not run: the vault has a node less"
		p.General = "a vault node has failed and does not run: the vault has a node less"
	}
	return p
}
