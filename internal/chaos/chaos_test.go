package chaos

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

var (
	seed     = flag.Uint64("seed", 1, "of all choices")
	duration = flag.Duration("duration", 45*time.Second, "for how long the fleet is broken")
	nodes    = flag.Int("nodes", 3, "of the fleet")
)

func TestMain(m *testing.M) {
	if os.Getenv(evilEnv) != "" { // this is a node of TestEvilNode
		if err := evilNode(context.Background(), os.Args[len(os.Args)-1]); err != nil {
			fmt.Fprintln(os.Stderr, "evil:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	status, done, err := Isolate()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
	if done {
		os.Exit(status)
	}
	status = m.Run()
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(status)
}

var built string // folder of the nodes' program, once a test needed it

// build makes the program of the nodes, once.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "coffer-chaos-")
	if err != nil {
		return "", err
	}
	built = dir
	file := filepath.Join(dir, "coffer-vault")
	if out, err := exec.Command("go", "build", "-ldflags", "-X coffer/vault.skewEnv="+skewEnv, "-o", file, "coffer/cmd/coffer-vault").CombinedOutput(); err != nil {
		return "", fmt.Errorf("building: %w\n%s", err, out)
	}
	return file, nil
})

func program(t *testing.T) string {
	t.Helper()
	file, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// beginFleet is a fleet that runs, and clients whose history is kept.
func beginFleet(t *testing.T, nodes int) *workload {
	t.Helper()
	c := Config{Binary: program(t), Dir: t.TempDir(), Nodes: nodes}
	f, err := newFleet(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.close)
	if err := f.startAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &workload{c: c, fleet: f, history: new(history)}
}

// Whatever happens to nodes, disks and network, nobody gets an eleventh guess,
// and whoever has the password gets the key.
func TestChaos(t *testing.T) {
	r, err := Run(t.Context(), Config{Binary: program(t), Dir: t.TempDir(), Nodes: *nodes, Seed: *seed, Duration: *duration, Logf: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d nodes, seed %d, %v: %d accounts, %d attempts, %d proofs, %d of unknown outcome; %d evaluations, %d entries spent; faults %v",
		*nodes, *seed, *duration, r.Accounts, r.Attempts, r.Proofs, r.Unknown, r.Evaluations, r.Spent, r.Faults)
	for i, p := range r.Problems {
		if i == 10 {
			t.Fatalf("and %d more", len(r.Problems)-i)
		}
		t.Error(p)
	}
	if r.Attempts < 100 || r.Proofs < 10 || r.Evaluations < 100 || len(r.Faults) < 5 {
		t.Errorf("too little was done to show anything: %+v", r)
	}
}
