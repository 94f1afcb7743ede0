package backup

import (
	"context"
	"errors"
	"fmt"

	"coffer/backup/scan"
)

// LeftOut is what a backup would leave out, and what it would save.
type LeftOut = scan.LeftOut

// chooses are the options that decide what is backed up, and what is left out.
func (o *BackupOptions) chooses() scan.Options {
	return scan.Options{Paths: o.Paths, Exclude: o.Exclude, ExcludeFiles: o.ExcludeFiles, ExcludeCaches: o.ExcludeCaches,
		ExcludeLarger: o.ExcludeLarger, OneFileSystem: o.OneFileSystem}
}

// Look says what a backup of one path with these options would leave out, without
// a repository. When ctx ends first, what was seen until then is Partial.
func Look(ctx context.Context, o BackupOptions) (LeftOut, error) {
	err := o.fill()
	if err == nil && len(o.Paths) != 1 {
		err = errors.New("it takes one path")
	}
	if err != nil {
		return LeftOut{}, fmt.Errorf("looking what is left out: %w", err)
	}
	l, err := scan.Look(ctx, o.chooses())
	if err != nil {
		return l, fmt.Errorf("looking what is left out: %w", err)
	}
	return l, nil
}
