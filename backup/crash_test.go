package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"coffer/seal"
	"coffer/upstream"
)

// dying is a Bucket that stops answering after some calls, as if the process or
// the network had died there. With late, the last call still takes effect
// though its answer is lost.
type dying struct {
	Bucket
	left atomic.Int64 // calls that are still answered
	late bool
}

var errDead = fmt.Errorf("dead: %w", upstream.ErrUnavailable)

func (d *dying) call(do func() error) error {
	n := d.left.Add(-1)
	if n < -1 || n == -1 && !d.late {
		return errDead
	}
	if err := do(); err != nil {
		return err
	}
	if n == -1 {
		return errDead
	}
	return nil
}

func (d *dying) Put(ctx context.Context, name string, body io.Reader, size int64, o upstream.PutOptions) (i upstream.Info, err error) {
	err = d.call(func() error { i, err = d.Bucket.Put(ctx, name, body, size, o); return err })
	return i, err
}

func (d *dying) Get(ctx context.Context, name string, off, n int64) (rc io.ReadCloser, i upstream.Info, err error) {
	err = d.call(func() error { rc, i, err = d.Bucket.Get(ctx, name, off, n); return err })
	if err != nil && rc != nil {
		rc.Close()
	}
	return rc, i, err
}

func (d *dying) Head(ctx context.Context, name string) (i upstream.Info, err error) {
	err = d.call(func() error { i, err = d.Bucket.Head(ctx, name); return err })
	return i, err
}

func (d *dying) List(ctx context.Context, prefix, after string, fn func(upstream.Info) error) error {
	return d.call(func() error { return d.Bucket.List(ctx, prefix, after, fn) })
}

func (d *dying) Delete(ctx context.Context, name string) error {
	return d.call(func() error { return d.Bucket.Delete(ctx, name) })
}

// sound checks everything and restores the newest snapshot, all by a process
// that has only the key.
func (f *fixture) sound(want string) {
	f.tb.Helper()
	conf := f.conf
	conf.Bucket, conf.CacheDir = f.bucket, ""
	fresh := &fixture{tb: f.tb, conf: conf}
	r := fresh.reopen()
	rep, err := r.Check(context.Background(), CheckOptions{ReadData: true})
	if err != nil || len(rep.Problems)+len(rep.Rollbacks) > 0 {
		f.tb.Fatalf("check: %+v, %v", rep, err)
	}
	out, got := fresh.restore()
	if len(got.Failed) > 0 {
		f.tb.Fatalf("restore: %v", got.Failed)
	}
	same(f.tb, out, want)
	os.RemoveAll(out)
}

// A run that dies at any call loses no snapshot that was acknowledged, and the
// next run succeeds without reading again what was stored.
func TestDyingAtEachCall(t *testing.T) {
	for _, late := range []bool{false, true} {
		f := newFixture(t)
		f.write("first", random(1, 50<<10))
		f.settle()
		f.backup()
		old := filepath.Join(t.TempDir(), "old")
		must(t, os.CopyFS(old, os.DirFS(f.src)))
		must(t, copyTimes(old, f.src))
		f.fill()
		f.write("larger", random(77, 3<<20))
		f.settle()
		calls, read := 0, int64(0)
		for ; ; calls++ {
			d := &dying{Bucket: f.bucket, late: late}
			d.left.Store(int64(calls))
			f.conf.Bucket = d
			r, err := Open(t.Context(), f.conf)
			var rep Report
			if err == nil {
				_, rep, err = r.Backup(t.Context(), BackupOptions{Source: "src", Paths: []string{f.src}, Host: "host"})
			}
			read += rep.Read
			if err == nil {
				break
			}
			if !errors.Is(err, upstream.ErrUnavailable) {
				t.Fatalf("dead after %d calls: %v", calls, err)
			}
			if calls%20 == 0 && !late {
				f.sound(old)
			}
		}
		f.conf.Bucket = f.bucket
		f.sound(f.src)
		if calls < 25 {
			t.Errorf("a run makes only %d calls: the test lost its point", calls)
		}
		// What was read and not stored is at most what was in memory. A large file
		// that was cut off is read again, its chunks are not stored again.
		if total := f.sourceBytes(); read > total/2*int64(calls) {
			t.Errorf("%d runs read %d bytes for a source of %d", calls, read, total)
		}
	}
}

func (f *fixture) sourceBytes() (n int64) {
	must(f.tb, filepath.WalkDir(f.src, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			i, _ := d.Info()
			n += i.Size()
		}
		return err
	}))
	return n
}

// copyTimes gives the files of a copy the times of the original.
func copyTimes(dst, src string) error {
	return filepath.WalkDir(src, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(src, p)
		if err := os.Chmod(filepath.Join(dst, rel), info.Mode()); err != nil {
			return err
		}
		return os.Chtimes(filepath.Join(dst, rel), info.ModTime(), info.ModTime())
	})
}

const (
	childEnv = "COFFER_TEST_BACKUP_CHILD"
	pruneEnv = "COFFER_TEST_BACKUP_PRUNE" // the child prunes too
)

// TestMain is also the process that TestKilled kills: one backup, of the folders
// named in the environment.
func TestMain(m *testing.M) {
	args := strings.Split(os.Getenv(childEnv), "\n")
	if len(args) != 5 {
		os.Exit(m.Run())
	}
	if err := child(args[0], args[1], args[2], args[3], args[4]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func child(store, cache, src, key, id string) error {
	b, err := upstream.NewFolder(store)
	if err != nil {
		return err
	}
	k, err := seal.KeyFromBytes([]byte(key))
	if err != nil {
		return err
	}
	sid, err := seal.ParseStoreID(id)
	if err != nil {
		return err
	}
	LimitMemory()
	r, err := Open(context.Background(), Config{Bucket: b, Keys: k.Keys(sid), CacheDir: cache, Workers: 2})
	if err != nil {
		return err
	}
	_, rep, err := r.Backup(context.Background(), BackupOptions{Source: "src", Paths: []string{src}, Host: "host"})
	fmt.Println(rep.Read)
	if err == nil && os.Getenv(pruneEnv) != "" {
		_, err = r.Prune(context.Background(), PruneOptions{})
	}
	// its own peak: what the parent learns counts the parent's pages, too, from before exec
	status, _ := os.ReadFile("/proc/self/status")
	_, peak, _ := strings.Cut(string(status), "VmHWM:")
	peak, _, _ = strings.Cut(peak, " kB")
	fmt.Println("peak", strings.TrimSpace(peak))
	return err
}

// Kill -9 at any time loses nothing: the run after it finishes the work.
func TestKilled(t *testing.T) {
	f := newFixture(t)
	raw := strings.Repeat("k", 32)
	key, err := seal.KeyFromBytes([]byte(raw))
	must(t, err)
	id := seal.NewStoreID()
	folder := t.TempDir()
	b, err := upstream.NewFolder(folder)
	must(t, err)
	f.bucket = b
	f.conf = Config{Bucket: b, Keys: key.Keys(id), CacheDir: t.TempDir(), Workers: 2}
	must(t, initWith(t.Context(), f.conf, small))
	f.fill()
	for i := range 20 {
		f.write(fmt.Sprintf("big%d", i), random(uint64(i)+50, 300<<10))
	}
	f.settle()
	run := func(after time.Duration) error {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+strings.Join([]string{folder, f.conf.CacheDir, f.src, raw, id.String()}, "\n"))
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			return err
		}
		timer := time.AfterFunc(after, func() { cmd.Process.Kill() })
		defer timer.Stop()
		return cmd.Wait()
	}
	began := time.Now()
	must(t, run(time.Minute))
	whole := time.Since(began)
	f.sound(f.src)
	killed := 0
	for i := range 12 {
		for j := range 20 {
			f.write(fmt.Sprintf("big%d", j), random(uint64(i*20+j)+500, 300<<10))
		}
		f.settle()
		if err := run(whole * time.Duration(i+1) / 14); err != nil {
			killed++
		}
	}
	must(t, run(time.Minute))
	f.sound(f.src)
	if killed < 3 {
		t.Errorf("only %d of 12 runs were killed", killed)
	}
}

// A run that goes on where another died reads again no more than what was on its
// way then.
func TestResume(t *testing.T) {
	f := newFixture(t)
	const files, size = 200, 40 << 10
	for i := range files {
		f.write(fmt.Sprint("file", i), random(uint64(i)+900, size))
	}
	f.settle()
	for _, calls := range []int64{40, 90} {
		f.loseCache()
		d := &dying{Bucket: f.bucket}
		d.left.Store(1 << 30)
		f.conf.Bucket = d
		r := f.reopen()
		d.left.Store(calls)
		o := BackupOptions{Source: fmt.Sprint("src", calls), Paths: []string{f.src}, Host: "host", Rescan: true}
		_, died, err := r.Backup(t.Context(), o)
		if !errors.Is(err, upstream.ErrUnavailable) || died.Uploaded < 20*64<<10 {
			t.Fatalf("%d calls: %v after %d bytes", calls, err, died.Uploaded)
		}
		f.conf.Bucket = f.bucket
		o.Rescan = false
		_, rep, err := f.reopen().Backup(t.Context(), o)
		must(t, err)
		const onItsWay = 1 << 20 // jobs, packs that were being sent, files of which a chunk was missing
		if most := files*size - died.Uploaded + onItsWay; rep.Read > most {
			t.Errorf("%d bytes were sent before the run died, then %d were read, want at most %d", died.Uploaded, rep.Read, most)
		}
		f.sound(f.src)
		for name := range f.all() { // begin anew
			if folderOf(name) != "config" {
				must(t, f.bucket.Delete(t.Context(), name))
			}
		}
	}
}
