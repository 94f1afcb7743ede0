package daemon

import (
	"context"

	"coffer/backup"
)

// LeftOut says what of a source would be left out if these were its patterns, and
// what of it would be saved. What was seen when ctx ended is Partial.
func (d *Daemon) LeftOut(ctx context.Context, source string, exclude []string) (backup.LeftOut, error) {
	found, err := d.find([]string{source})
	if err != nil {
		return backup.LeftOut{}, err
	}
	return backup.Look(ctx, found[0].excluding(exclude))
}
