// Package bench measures programs as a user sees them: wall time, processor time
// and peak memory of whole processes, and what reached the server. Its
// subfolders give the same work to coffer and to its rivals, interleaved in one
// run, so that a busy machine hurts both, and print the ratios.
package bench

import (
	"bytes"
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
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	err := cmd.Start()
	if err != nil {
		return Cost{}, "", err
	}
	peak := watchPeak(&Process{cmd})
	err = cmd.Wait()
	wall := time.Since(began)
	if err != nil {
		return Cost{}, "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out.Bytes())
	}
	return Cost{Wall: wall, CPU: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), PeakRSS: peak()}, out.String(), nil
}

// watchPeak reads the peak memory of p until it has ended. What getrusage(2) says
// afterwards will not do: it counts the benchmark's own pages, of which the program
// was a copy until it was executed.
func watchPeak(p *Process) (peak func() int64) {
	last := make(chan int64, 1)
	go func() {
		var most int64
		for {
			n, err := p.PeakRSS()
			if err != nil { // it has ended
				last <- most
				return
			}
			most = n
			time.Sleep(5 * time.Millisecond)
		}
	}()
	return func() int64 { return <-last }
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
