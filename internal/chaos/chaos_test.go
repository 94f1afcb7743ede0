package chaos

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

var (
	seed     = flag.Uint64("seed", 1, "of all choices")
	duration = flag.Duration("duration", 45*time.Second, "for how long the fleet is broken")
	nodes    = flag.Int("nodes", 3, "of the fleet")
)

func TestMain(m *testing.M) {
	status, done, err := Isolate()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
	if done {
		os.Exit(status)
	}
	os.Exit(m.Run())
}

// Whatever happens to nodes, disks and network, nobody gets an eleventh guess,
// and whoever has the password gets the key.
func TestChaos(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "coffer-vault")
	if out, err := exec.Command("go", "build", "-o", binary, "coffer/cmd/coffer-vault").CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	r, err := Run(t.Context(), Config{Binary: binary, Dir: dir, Nodes: *nodes, Seed: *seed, Duration: *duration, Logf: t.Logf})
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
