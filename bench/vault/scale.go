package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"coffer/bench"
)

// measureScale puts accounts into the state and the ledger of one node, starts it
// again, lets it count 20,000 guesses anywhere among them, and makes checkpoints: test
// TestScale of package vault, which knows how rows look, with so many accounts. Of
// figures that come more than once the worst counts.
func measureScale(ctx context.Context, accounts int, dir string) ([]bench.Ratio, error) {
	program := filepath.Join(dir, "vault.test")
	if out, err := exec.CommandContext(ctx, "go", "test", "-c", "-o", program, "coffer/vault").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the node: %w\n%s", err, out)
	}
	home := filepath.Join(dir, "scale")
	if err := os.Mkdir(home, 0o700); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program, "-test.run", "^TestScale$", "-test.timeout", "3h",
		"-scale.accounts", strconv.Itoa(accounts), "-scale.dir", home)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	worst := make(map[string]float64)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		fmt.Println(lines.Text())
		f := strings.Fields(lines.Text())
		if len(f) != 3 || f[0] != "scale" {
			continue
		}
		v, err := strconv.ParseFloat(f[2], 64)
		if err != nil {
			return nil, err
		}
		worst[f[1]] = max(worst[f[1]], v)
	}
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("a node with %d accounts: %w", accounts, err)
	}
	var ratios []bench.Ratio
	for _, l := range []struct {
		what  string
		limit float64
	}{{"memory-MiB", 1536}, {"restart-s", 3}, {"checkpoint-s", 1}} {
		v, ok := worst[l.what]
		if !ok {
			return nil, fmt.Errorf("the node did not say its %s", l.what)
		}
		ratios = append(ratios, bench.Ratio{What: fmt.Sprintf("accounts-%d/%s", accounts, l.what), Value: v, Sign: "<=", Limit: l.limit})
	}
	return ratios, nil
}
