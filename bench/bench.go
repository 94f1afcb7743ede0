// Package bench measures programs as a user sees them: wall time, processor time
// and peak memory of whole processes, and what reached the server. Its
// subfolders give the same work to coffer and to its rivals, interleaved in one
// run, so that a busy machine hurts both, and print the ratios.
package bench

import (
	"cmp"
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Cost is what one run of a process took.
type Cost struct {
	Wall     time.Duration
	CPU      time.Duration // user and system, children included
	PeakRSS  int64         // bytes
	Sent     int64         // bytes that the server received
	Requests int64         // that the server answered
}

// Run runs a program to its end and returns what it took.
func Run(ctx context.Context, env []string, name string, args ...string) (Cost, string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = env
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	began := time.Now()
	out, err := cmd.CombinedOutput()
	wall := time.Since(began)
	if err != nil {
		return Cost{}, "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return Cost{
		Wall:    wall,
		CPU:     cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(),
		PeakRSS: usage.Maxrss << 10, // getrusage(2): kilobytes
	}, string(out), nil
}

// Median returns the middle value of f over the costs.
func Median[T cmp.Ordered](costs []Cost, f func(Cost) T) T {
	var values []T
	for _, c := range costs {
		values = append(values, f(c))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// Ratio is one figure of a benchmark: six words on a line of its own, which come
// last in the output so that a script can read them.
type Ratio struct {
	What  string // no spaces
	Value float64
	Sign  string // "<=" or ">="
	Limit float64
}

// Print writes the ratios and reports whether all are within their limits.
func Print(ratios []Ratio) bool {
	ok := true
	for _, r := range ratios {
		fmt.Printf("ratio %s %.3f want %s %g\n", r.What, r.Value, r.Sign, r.Limit)
		ok = ok && (r.Sign == "<=" && r.Value <= r.Limit || r.Sign == ">=" && r.Value >= r.Limit)
	}
	return ok
}
