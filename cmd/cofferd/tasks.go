package main

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"coffer/backup"
	"coffer/daemon"
	"coffer/daemon/upkeep"
	"coffer/internal/config"
)

// tasks are what comes round beside the backups.
func tasks(c *config.User, repo *repository, log *zap.Logger) []daemon.Task {
	m := c.Maintenance
	u := upkeep.Config{
		Open: repo.openForUpkeep, Host: c.Host, Dir: filepath.Join(c.CacheDir, "drill"), Log: log.Named("upkeep"),
		Forget: time.Duration(m.Forget), Prune: time.Duration(m.Prune), Check: time.Duration(m.Check),
		Read: time.Duration(m.Read), ReadAll: time.Duration(m.ReadAll), Drill: time.Duration(m.Drill),
	}
	for _, s := range c.Sources {
		k := s.Keep
		u.Sources = append(u.Sources, upkeep.Source{Name: s.Name, Keep: backup.Keep{
			Last: k.Last, Hourly: k.Hourly, Daily: k.Daily, Weekly: k.Weekly, Monthly: k.Monthly, Yearly: k.Yearly,
			Within: time.Duration(k.Within), Tags: k.Tags,
		}})
	}
	return upkeep.Tasks(u)
}

// openForUpkeep is open, for one who keeps the repository well.
func (r *repository) openForUpkeep(ctx context.Context) (upkeep.Repo, error) {
	opened, err := r.open(ctx)
	if err != nil {
		return nil, err
	}
	repo, ok := opened.(upkeep.Repo)
	if !ok {
		return nil, errors.New("the repository cannot be kept well") // *backup.Repo can
	}
	return repo, nil
}
