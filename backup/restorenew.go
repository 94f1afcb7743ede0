package backup

import (
	"context"
	"fmt"
)

// ParseOverwrite reads the name of a mode: "changed", "always", "older" or "never".
func ParseOverwrite(name string) (mode Overwrite, ok bool) {
	mode, ok = map[string]Overwrite{"changed": OverwriteChanged, "always": OverwriteAlways, "older": OverwriteOlder, "never": OverwriteNever}[name]
	return mode, ok
}

// ReplacesError refuses a restore that would replace what nobody said may be replaced.
type ReplacesError struct {
	To    string
	Files []string // that would be replaced, as a [Report] lists them
}

// Error says how many files these are, and names the first.
func (e *ReplacesError) Error() string {
	if len(e.Files) == 1 {
		return fmt.Sprintf("1 file in %s would be replaced, %s: nothing was done", e.To, e.Files[0])
	}
	return fmt.Sprintf("%d files in %s would be replaced, the first is %s: nothing was done", len(e.Files), e.To, e.Files[0])
}

// RestoreNew is Restore for one who did not say what may be replaced: where
// anything would be, it does nothing and returns a [*ReplacesError]. What is there
// already and is the same stays, so that a restore that was interrupted goes on.
func (r *Repo) RestoreNew(ctx context.Context, o RestoreOptions) (Report, error) {
	try := o
	try.Overwrite, try.DryRun, try.Verify, try.Progress = OverwriteChanged, true, false, nil
	rep, err := r.Restore(ctx, try)
	if err != nil {
		return rep, err
	}
	if len(rep.Replaced) > 0 {
		return Report{}, &ReplacesError{o.To, rep.Replaced}
	}
	o.Overwrite = OverwriteChanged
	return r.Restore(ctx, o)
}
