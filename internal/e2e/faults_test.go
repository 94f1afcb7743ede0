package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"coffer/internal/testminio"
)

// "make chaos-backup" sets these; "make test" runs the short forms.
var (
	seed     = flag.Uint64("seed", 1, "of the choices of tests that kill programs")
	kills    = flag.Int("kills", 20, "how often programs are killed in the middle of their work")
	duration = flag.Duration("duration", 8*time.Second, "for how long two machines back up while a third prunes")
)

// owner is a machine with a source that changes, and what it knows of the
// snapshots that were acknowledged.
type owner struct {
	*machine
	rng   *rand.Rand
	up    []string                     // arguments that name the upstream
	extra []string                     // environment that it needs
	keys  string                       // file with the digits of the store's key
	known map[string]map[string]string // by snapshot: what its source was
	took  map[string]time.Duration     // by command: how long it lives when nobody kills it
	kills map[string]int               // by command
	turns int
}

func newOwner(t *testing.T, rng *rand.Rand, up []string, env ...string) *owner {
	t.Helper()
	o := &owner{machine: newMachine(t, env...), rng: rng, up: up, extra: env, known: make(map[string]map[string]string),
		took: make(map[string]time.Duration), kills: make(map[string]int)}
	o.keys = o.path("digits")
	if err := os.Mkdir(o.path("src"), 0o755); err != nil {
		t.Fatal(err)
	}
	return o
}

// storages runs a test over a folder and over MinIO.
func storages(t *testing.T, test func(t *testing.T, up, env []string)) {
	t.Run("folder", func(t *testing.T) {
		t.Parallel()
		test(t, []string{"--upstream", "folder:" + t.TempDir()}, nil)
	})
	t.Run("minio", func(t *testing.T) {
		t.Parallel()
		s := testminio.StartServer(t)
		test(t, []string{"--upstream", "s3:" + s.Endpoint + "/faults-" + strings.ToLower(fmt.Sprint(os.Getpid()))},
			[]string{"AWS_ACCESS_KEY_ID=" + s.Access, "AWS_SECRET_ACCESS_KEY=" + s.Secret})
	})
}

// edit changes some files of the source: they come, go, grow and move.
func (o *owner) edit() {
	for range 1 + o.rng.IntN(6) {
		p := o.path("src", fmt.Sprintf("d%d", o.rng.IntN(3)), fmt.Sprintf("f%d", o.rng.IntN(8)))
		os.MkdirAll(filepath.Dir(p), 0o755)
		switch o.rng.IntN(6) {
		case 0:
			os.Remove(p)
		case 1:
			os.Rename(p, p+"-moved")
		case 2:
			os.Truncate(p, int64(o.rng.IntN(1<<20)))
		case 3: // many small ones
			for i := range 50 {
				os.WriteFile(fmt.Sprintf("%s-%d", p, i), fmt.Appendf(nil, "%d %d", i, o.rng.Uint64()), 0o600)
			}
		default:
			data := make([]byte, o.rng.IntN(3<<20))
			rand.NewChaCha8([32]byte(fmt.Appendf(nil, "%032d", o.rng.IntN(40)))).Read(data)
			os.WriteFile(p, data, 0o644)
		}
	}
}

// state describes a tree: what every name is, its mode, time and content.
func state(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text := fmt.Sprintf("%v %d", info.Mode(), info.ModTime().UnixNano())
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			text += fmt.Sprintf(" %d %x", len(data), sha256.Sum256(data))
		}
		rel, _ := filepath.Rel(dir, p)
		out[rel] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// differs describes where two trees differ.
func differs(got, want map[string]string) string {
	var b strings.Builder
	for p, w := range want {
		if got[p] != w {
			fmt.Fprintf(&b, "%s: %s, want %s\n", p, got[p], w)
		}
	}
	for p := range got {
		if want[p] == "" {
			fmt.Fprintf(&b, "%s should not be there\n", p)
		}
	}
	return b.String()
}

// try runs a command of coffer, and kills it after some part of the time that it
// usually takes. It reports whether the command came to its end.
func (o *owner) try(args ...string) (out []byte, done bool) {
	o.t.Helper()
	cmd := exec.CommandContext(o.t.Context(), program(o.t, "coffer"), args...)
	cmd.Env, cmd.Dir = o.env, o.home
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	usual, ran := o.took[args[0]]
	began := time.Now()
	if err := cmd.Start(); err != nil {
		o.t.Fatal(err)
	}
	if ran { // the first one of a kind is not killed: it says how long such take
		after := time.Duration(o.rng.Int64N(int64(usual + usual/8)))
		defer time.AfterFunc(after, func() { cmd.Process.Kill() }).Stop()
	}
	err := cmd.Wait()
	if dead(err) {
		o.kills[args[0]]++
		return nil, false
	}
	if err != nil {
		o.t.Fatalf("seed %d, turn %d: coffer %s: %v\n%s%s", *seed, o.turns, strings.Join(args, " "), err, &stdout, &stderr)
	}
	o.took[args[0]] = time.Since(began)
	return stdout.Bytes(), true
}

func dead(err error) bool {
	exit := (*exec.ExitError)(nil)
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// ids lists the snapshots upstream.
func (o *owner) ids() []string {
	o.t.Helper()
	var list []struct{ ID string }
	if err := json.Unmarshal([]byte(o.must("coffer", "snapshots", "--json")), &list); err != nil {
		o.t.Fatal(err)
	}
	var ids []string
	for _, s := range list {
		ids = append(ids, s.ID)
	}
	return ids
}

// restores compares a snapshot with what its source was.
func (o *owner) restores(m *machine, id string, want map[string]string) {
	o.t.Helper()
	to := m.path("out")
	m.must("coffer", "restore", id, "--to", to)
	if d := differs(state(o.t, to), want); d != "" {
		o.t.Fatalf("seed %d, turn %d: snapshot %.8s was restored as something else:\n%s", *seed, o.turns, id, d)
	}
	os.RemoveAll(to)
}

// verify is what must hold after every kill: the repository is sound in all its
// data, every acknowledged snapshot is there but those that were being forgotten,
// and one of them restores to what its source was. A snapshot that a killed run
// has published is as good as any.
func (o *owner) verify(forgetting bool) {
	o.t.Helper()
	o.must("coffer", "check", "--read-data")
	here := o.ids()
	for _, id := range here {
		if o.known[id] == nil {
			o.known[id] = state(o.t, o.path("src"))
		}
	}
	if lost := len(o.known) - len(here); lost > 0 && !forgetting {
		o.t.Fatalf("seed %d, turn %d: %d acknowledged snapshots are gone", *seed, o.turns, lost)
	}
	if forgetting && len(here) < min(2, len(o.known)) {
		o.t.Fatalf("seed %d, turn %d: %d of %d snapshots are left, 2 were to be kept", *seed, o.turns, len(here), len(o.known))
	}
	maps.DeleteFunc(o.known, func(id string, _ map[string]string) bool { return !slices.Contains(here, id) })
	if len(here) > 0 {
		id := here[o.rng.IntN(len(here))]
		o.restores(o.machine, id, o.known[id])
	}
}

// byDaemon kills the daemon while it backs up for a client.
func (o *owner) byDaemon() {
	d := o.start("cofferd")
	eventually(o.t, "the daemon answers", 20*time.Second, func() bool {
		_, _, code := o.run("coffer", "status", "--json")
		return code == 0
	})
	time.AfterFunc(time.Duration(o.rng.Int64N(int64(o.took["backup"])+1)), func() { d.cmd.Process.Kill() })
	o.run("coffer", "backup") // an error, if it was not done in time
	<-d.done
	o.kills["daemon"]++
}

// copied copies to another place, in two tries, and verifies what a new machine
// finds there.
func (o *owner) copied(to string) {
	_, done := o.try("copy", "--upstream", "folder:"+to)
	if !done {
		o.must("coffer", "copy", "--upstream", "folder:"+to)
	}
	fresh := newMachine(o.t)
	fresh.must("coffer", "recover", "--upstream", "folder:"+to, "--digits-file", o.keys)
	fresh.must("coffer", "check", "--read-data")
	for _, id := range o.ids() {
		o.restores(fresh, id, o.known[id])
	}
}

// rekey gives the store a new key, in three tries at most. One that was killed when
// all was done leads to another key: each try has a file of its own for the digits.
func (o *owner) rekey() {
	files := []string{}
	file := func() string {
		files = append(files, o.path(fmt.Sprintf("digits-%d-%d", o.turns, len(files))))
		return files[len(files)-1]
	}
	done := false
	for try := 0; try < 3 && !done; try++ {
		_, done = o.try("rekey", "--digits-file", file())
	}
	if !done {
		o.must("coffer", "rekey", "--digits-file", file())
	}
	right := slices.DeleteFunc(files, func(f string) bool {
		_, _, code := o.run("coffer", "recovery", "verify", "--digits-file", f)
		return code != 0
	})
	if len(right) == 0 { // several, if a try that went on wrote them again
		o.t.Fatalf("seed %d, turn %d: no file has the digits of the new key", *seed, o.turns)
	}
	if _, _, code := o.run("coffer", "recovery", "verify", "--digits-file", o.keys); code == 0 {
		o.t.Fatalf("seed %d, turn %d: the key is the one before", *seed, o.turns)
	}
	o.keys = right[0]
	fresh := newMachine(o.t, o.extra...)
	fresh.must("coffer", slices.Concat([]string{"recover", "--digits-file", o.keys}, o.up)...)
	fresh.must("coffer", "check", "--read-data")
}

// Whatever is killed, and when: nothing that was acknowledged is lost or wrong,
// nothing is damaged, and the next run goes on.
func TestKilledAtRandom(t *testing.T) {
	storages(t, func(t *testing.T, up, env []string) {
		o := newOwner(t, rand.New(rand.NewPCG(*seed, uint64(len(env)))), up, env...)
		o.edit()
		o.must("coffer", slices.Concat([]string{"setup"}, up, []string{"--source", "s=" + o.path("src"), "--digits-file", o.path("digits")})...)
		second := t.TempDir()
		for sum := 0; sum < *kills/2; o.turns++ {
			forgetting := false
			switch n := o.rng.IntN(22); {
			case n < 10 || o.turns == 0:
				o.edit()
				o.try("backup", "--json")
			case n < 11:
				o.edit()
				o.byDaemon()
			case n < 15:
				o.try("prune", "--grace", "1ms", "--max-unused", "0.1")
			case n < 18:
				forgetting = true
				o.try("forget", "--keep-last", "2")
			case n < 20:
				o.rekey()
				second = t.TempDir() // the copy there has the key before
			default:
				o.copied(second)
			}
			o.verify(forgetting)
			sum = 0
			for _, n := range o.kills {
				sum += n
			}
		}
		o.edit()
		o.must("coffer", "backup")
		o.verify(false)
		for _, id := range o.ids() {
			o.restores(o.machine, id, o.known[id])
		}
		t.Logf("%d turns, killed: %v; %d snapshots", o.turns, o.kills, len(o.known))
		if *kills >= 200 && len(o.kills) < len([]string{"backup", "daemon", "prune", "forget", "copy", "rekey"}) {
			t.Errorf("not everything was killed: %v", o.kills)
		}
	})
}

// attempt backs up and notes what was acknowledged. A run that was overtaken by a
// prune so often that it gave up is no fault.
func (o *owner) attempt() {
	o.t.Helper()
	o.edit()
	now := state(o.t, o.path("src"))
	out, errOut, code := o.run("coffer", "backup", "--json")
	o.turns++
	if code != 0 {
		if !strings.Contains(errOut, "overtaken") {
			o.t.Errorf("seed %d: coffer backup: exit status %d\n%s%s", *seed, code, out, errOut)
		}
		return
	}
	var done []struct{ Snapshot string }
	if err := json.Unmarshal([]byte(out), &done); err != nil || len(done) != 1 {
		o.t.Errorf("%v: %s", err, out)
		return
	}
	o.known[done[0].Snapshot] = now
}

// Two machines back up to one repository while a third forgets and prunes without
// a pause, with a grace time that is hardly longer than a run: no snapshot that
// was acknowledged and not forgotten is damaged.
func TestTwoWritersAndPruner(t *testing.T) {
	storages(t, func(t *testing.T, up, env []string) {
		grace := min(max(*duration/4, 2*time.Second), 20*time.Second)
		writers := make([]*owner, 2)
		for i := range writers {
			o := newOwner(t, rand.New(rand.NewPCG(*seed, uint64(i))), up, env...)
			writers[i] = o
			how := []string{"setup", "--source", "s=" + o.path("src"), "--digits-file", o.path("digits")}
			if i > 0 { // the same key
				how = []string{"recover", "--digits-file", writers[0].path("digits")}
			}
			o.must("coffer", slices.Concat(how, up)...)
			if i > 0 {
				o.must("coffer", "source", "add", "s="+o.path("src"))
			}
		}
		pruner := newMachine(t, env...)
		pruner.must("coffer", slices.Concat([]string{"recover", "--digits-file", writers[0].path("digits")}, up)...)
		end := time.Now().Add(*duration)
		var wg sync.WaitGroup
		for _, o := range writers {
			wg.Go(func() {
				for time.Now().Before(end) && !t.Failed() {
					o.attempt()
				}
			})
		}
		removed, prunes := 0, 0
		for time.Now().Before(end) && !t.Failed() {
			pruner.must("coffer", "forget", "--keep-last", "2")
			var rep struct{ Removed int }
			if err := json.Unmarshal([]byte(pruner.must("coffer", "prune", "--grace", grace.String(), "--json")), &rep); err != nil {
				t.Fatal(err)
			}
			removed += rep.Removed
			prunes++
		}
		wg.Wait()
		pruner.must("coffer", "check", "--read-data")
		for _, o := range writers {
			kept := 0
			for _, id := range o.ids() {
				if want := o.known[id]; want != nil {
					o.restores(o.machine, id, want)
					kept++
				}
			}
			if kept < 2 {
				t.Errorf("%d of the %d snapshots of a machine are left", kept, len(o.known))
			}
		}
		t.Logf("%d and %d backups, %d prunes removed %d packs", writers[0].turns, writers[1].turns, prunes, removed)
		if removed == 0 {
			t.Error("nothing was removed: the test lost its point")
		}
	})
}
