package upkeep

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"go.uber.org/zap"

	"coffer/backup"
	"coffer/daemon"
	"coffer/internal/human"
)

// The bounds of one drill.
const (
	drillFiles = 20       // of each source
	drillTries = 400      // walks from the top that may end at no file
	drillBytes = 64 << 20 // of each source; of a larger file nothing is taken
)

// sample is a file of a snapshot.
type sample struct {
	name  string // within the snapshot
	entry backup.Entry
}

// tally counts what became of the samples.
type tally struct {
	files, same, changed int
	bytes                int64
	bad                  int
}

// drill restores a random sample of the newest snapshot of each source into a
// folder of ours and compares it: with the snapshot, and with the file on this
// machine when that has not changed since.
func (k *keeper) drill(ctx context.Context, repo Repo, _ int) (string, error) {
	all, err := repo.Snapshots(ctx)
	if err != nil {
		return "", err
	}
	newest := make(map[string]*backup.Snapshot)
	for _, s := range all { // the oldest first
		if s.Host == k.c.Host {
			newest[s.Source] = s
		}
	}
	if err := os.RemoveAll(k.c.Dir); err != nil { // what a drill that was killed has left
		return "", fmt.Errorf("making room for the drill: %w", err)
	}
	defer os.RemoveAll(k.c.Dir)
	var sum tally
	for _, src := range k.c.Sources {
		s := newest[src.Name]
		if s == nil || len(s.Paths) != 1 {
			continue
		}
		if err := k.drillSource(ctx, repo, s, &sum); err != nil {
			return "", fmt.Errorf("source %s: %w", src.Name, err)
		}
	}
	if sum.bad > 0 {
		return "", &daemon.Trouble{Lasting: true, Err: fmt.Errorf("%d of %d restored files are not as they were backed up", sum.bad, sum.files),
			Hint: `"coffer check --read-data" looks at everything; the daemon's log names the files`}
	}
	return fmt.Sprintf("files restored: %d (%s), of them %d the same as on this machine, %d changed here since", sum.files, human.Size(sum.bytes), sum.same, sum.changed), nil
}

func (k *keeper) drillSource(ctx context.Context, repo Repo, s *backup.Snapshot, sum *tally) error {
	samples, err := pick(ctx, repo, s)
	if err != nil || len(samples) == 0 {
		return err
	}
	o := backup.RestoreOptions{Snapshot: s, To: filepath.Join(k.c.Dir, s.ID), Verify: true}
	for _, x := range samples {
		o.Paths = append(o.Paths, x.name)
	}
	r, err := repo.Restore(ctx, o)
	if err != nil {
		return err
	}
	for _, f := range r.Failed {
		k.c.Log.Error("drill: not restored", zap.String("file", f.Path), zap.String("error", f.Err))
	}
	for _, x := range samples {
		sum.files++
		sum.bytes += x.entry.Size
		same, err := compare(filepath.Join(o.To, x.name), here(s, x.name), x.entry)
		switch {
		case err != nil:
			sum.bad++
			k.c.Log.Error("drill", zap.String("source", s.Source), zap.String("file", x.name), zap.Error(err))
		case same:
			sum.same++
		default:
			sum.changed++
		}
	}
	return os.RemoveAll(o.To)
}

// pick walks from the top down, at each directory into a random entry, until it
// has enough files.
func pick(ctx context.Context, repo Repo, s *backup.Snapshot) ([]sample, error) {
	seen := make(map[string]bool)
	var all []sample
	total := int64(0)
	for tries := 0; tries < drillTries && len(all) < drillFiles; tries++ {
		x, ok, err := descend(ctx, repo, s)
		if err != nil {
			return nil, err
		}
		if ok && !seen[x.name] && total+x.entry.Size <= drillBytes {
			seen[x.name] = true
			total += x.entry.Size
			all = append(all, x)
		}
	}
	return all, nil
}

// descend finds one file, if its way ends at one.
func descend(ctx context.Context, repo Repo, s *backup.Snapshot) (sample, bool, error) {
	name := ""
	for {
		var one backup.Entry
		n := 0
		err := repo.List(ctx, s, name, func(e backup.Entry) error {
			if e.Missing || e.Type != "file" && !e.Dir() {
				return nil
			}
			if n++; rand.IntN(n) == 0 { // each with the same chance
				one = e
			}
			return nil
		})
		if err != nil || n == 0 {
			return sample{}, false, err
		}
		name = strings.TrimPrefix(name+"/"+one.Name, "/")
		if one.Type == "file" {
			return sample{name, one}, !one.Changed, nil // one that was written to meanwhile compares with nothing
		}
	}
}

// compare says whether the restored file is the one that lies here; false when
// that has changed since. It is an error when the restored one is not what the
// snapshot says, or differs from one that claims to be unchanged.
func compare(restored, original string, e backup.Entry) (same bool, err error) {
	r, err := os.Open(restored)
	if err != nil {
		return false, err
	}
	defer r.Close()
	info, err := r.Stat()
	if err != nil {
		return false, err
	}
	if info.Size() != e.Size || !info.ModTime().Equal(e.ModTime) || uint32(info.Mode().Perm()) != e.Mode&0o777 {
		return false, fmt.Errorf("restored with %d bytes of %v, mode %v; want %d of %v, %#o", info.Size(), info.ModTime(), info.Mode(), e.Size, e.ModTime, e.Mode)
	}
	h, err := os.Open(original)
	if err != nil {
		return false, nil // gone, or not ours to read any more
	}
	defer h.Close()
	unchanged := func() bool {
		info, err := h.Stat()
		return err == nil && info.Mode().IsRegular() && info.Size() == e.Size && info.ModTime().Equal(e.ModTime)
	}
	if !unchanged() {
		return false, nil
	}
	equal, err := sameContent(r, h)
	switch {
	case err != nil:
		return false, err
	case !equal && unchanged():
		return false, errors.New("its content differs from the file here, which has the same size and time")
	}
	return equal, nil
}

func sameContent(a, b io.Reader) (bool, error) {
	x, y := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, errA := io.ReadFull(a, x)
		m, errB := io.ReadFull(b, y)
		end := func(err error) bool { return err == io.EOF || err == io.ErrUnexpectedEOF }
		switch {
		case errA != nil && !end(errA):
			return false, errA
		case errB != nil && !end(errB):
			return false, errB
		case !bytes.Equal(x[:n], y[:m]):
			return false, nil
		case errA != nil:
			return true, nil
		}
	}
}

// here is where a file of the snapshot lies on this machine.
func here(s *backup.Snapshot, name string) string {
	if info, err := os.Stat(s.Paths[0]); err == nil && !info.IsDir() { // the source is a single file
		return s.Paths[0]
	}
	return filepath.Join(s.Paths[0], name)
}
