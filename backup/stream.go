package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"go.uber.org/zap"

	"coffer/backup/scan"
	"coffer/backup/tree"
)

// BackupStream saves what body gives as a snapshot with one file, of the name o.Source.
// Of o only Source, Host, User, Tags, Time and NoCompress count. An error of body
// ends it, and no snapshot is made: what body yielded may be half of something.
func (r *Repo) BackupStream(ctx context.Context, o BackupOptions, body io.Reader) (*Snapshot, Report, error) {
	r.backups.Lock()
	defer r.backups.Unlock()
	name := o.Source
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") || len(name) > 255 {
		return nil, Report{}, fmt.Errorf("backing up a stream: %q cannot be the name of a file", name)
	}
	o.Paths = []string{"/" + name}
	if err := o.fill(); err != nil {
		return nil, Report{}, fmt.Errorf("backing up a stream: %w", err)
	}
	began := time.Now()
	s, rep, err := r.stream(ctx, &o, body)
	if rep.Took = time.Since(began); err != nil {
		return nil, rep, fmt.Errorf("backing up %s: %w", o.Source, err)
	}
	return s, rep, nil
}

func (r *Repo) stream(ctx context.Context, o *BackupOptions, body io.Reader) (*Snapshot, Report, error) {
	run, err := r.begin(ctx)
	if err != nil {
		return nil, Report{}, err
	}
	owner := tree.Entry{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), Mtime: tree.Time{Sec: o.Time.Unix(), Nsec: uint32(o.Time.Nanosecond())}}
	file, top := owner, owner
	file.Name, file.Type, file.Mode, file.Size = o.Source, tree.File, 0o600, -1
	top.Name, top.Type, top.Mode = "root", tree.Dir, 0o755
	in := scan.NewIntake(ctx, r.st, o.NoCompress)
	if err = in.File(&file, body); err == nil {
		err = in.Dir(&top, []tree.Entry{file})
	}
	in.Fail(err)
	if err := in.Finish(); err != nil {
		return nil, Report{}, err
	}
	rep := Report{Statistics: Statistics{Files: 1, Dirs: 1, Bytes: file.Size, New: 1, Read: file.Size, Added: in.Added(), Uploaded: in.Uploaded(), Packs: in.Packs()}}
	s := &Snapshot{Time: o.Time.UTC(), End: time.Now().UTC(), Host: o.Host, User: o.User, Source: o.Source, Paths: o.Paths, Tags: o.Tags,
		Program: "coffer", Stats: rep.Statistics, root: top}
	if parent := parentOf(run.all, o); parent != nil {
		s.Parent = parent.ID
	}
	r.metrics.count(&rep)
	return s, rep, run.publish(ctx, s)
}

// running is a run that makes snapshots and does not read the file system.
type running struct {
	r       *Repo
	all     []*Snapshot
	shrinks int
}

// begin reads what a run relies on, in the order that [Repo.stillThere] needs:
// deletions, the index, snapshots.
func (r *Repo) begin(ctx context.Context) (*running, error) {
	if _, err := r.condemn(ctx); err != nil {
		return nil, err
	}
	if err := r.st.Refresh(ctx); err != nil {
		return nil, err
	}
	run := &running{r: r, shrinks: r.st.Shrinks()}
	var err error
	if run.all, err = r.Snapshots(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		r.log.Warn("a snapshot cannot be read", zap.Error(err))
	}
	return run, nil
}

// publish makes s a snapshot, if all that it needs is still there.
func (x *running) publish(ctx context.Context, s *Snapshot) (err error) {
	if err := x.r.stillThere(ctx, s, x.shrinks); err != nil {
		if errors.Is(err, errOvertaken) {
			err = fmt.Errorf("%w: do it again", err)
		}
		return err
	}
	if s.writer, err = x.r.writerID(); err != nil {
		return err
	}
	if err := x.r.publishSnapshot(ctx, s); err != nil {
		return err
	}
	x.all = append(x.all, s)
	if err := x.r.publishHead(ctx, x.all, nil); err != nil {
		x.r.log.Warn("the head could not be written: the next run says it", zap.Error(err))
	}
	return nil
}
