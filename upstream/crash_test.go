package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestMain lets the test binary play the program that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("COFFER_TEST_WRITER"); dir != "" {
		if err := writeForEver(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// crashBody is what the writer puts under a name in a round.
func crashBody(round int) string { return strings.Repeat(strconv.Itoa(round)+" ", 20_000) }

// writeForEver replaces objects, by one call and by uploads in parts, and says on
// stdout what was acknowledged.
func writeForEver(dir string) error {
	f, err := NewFolder(dir)
	if err != nil {
		return err
	}
	ctx := context.Background()
	for round := 0; ; round++ {
		body := crashBody(round)
		for _, name := range []string{"put", "sub/dir/put"} {
			if _, err := f.Put(ctx, name, strings.NewReader(body), int64(len(body)), PutOptions{}); err != nil {
				return err
			}
			fmt.Println(name, round)
		}
		id, err := f.StartMultipart(ctx, "parts", PutOptions{})
		if err != nil {
			return err
		}
		var parts []Part
		for i, half := range []string{body[:100], body[100:]} {
			etag, err := f.PutPart(ctx, "parts", id, i+1, strings.NewReader(half), int64(len(half)))
			if err != nil {
				return err
			}
			parts = append(parts, Part{i + 1, etag})
		}
		if _, err := f.CompleteMultipart(ctx, "parts", id, parts, PutOptions{}); err != nil {
			return err
		}
		fmt.Println("parts", round)
		if err := f.Delete(ctx, "sub/dir/put"); err != nil {
			return err
		}
		fmt.Println("sub/dir/put", -1)
	}
}

// A writer that is killed at any moment leaves what it acknowledged, or the write
// that it was about, and always a whole object.
func TestKilledWriter(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "folder")
	last := make(map[string]int)
	for kill := range 12 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "COFFER_TEST_WRITER="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		clear(last)
		count := 0
		for lines := bufio.NewScanner(out); lines.Scan(); count++ {
			var name string
			var round int
			if _, err := fmt.Sscan(lines.Text(), &name, &round); err == nil {
				last[name] = round
			}
			if count == 8+kill { // it goes on for as long as the signal takes
				time.AfterFunc(rand.N(4*time.Millisecond), func() { _ = cmd.Process.Kill() })
			}
		}
		if err := cmd.Wait(); err == nil || count < 8 {
			t.Fatalf("the writer ended by itself: %v", err)
		}
		checkCrash(t, dir, last)
	}
}

func checkCrash(t *testing.T, dir string, last map[string]int) {
	t.Helper()
	f, err := NewFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if len(last) == 0 {
		t.Error("killed before anything was written")
	}
	for name, round := range last {
		file, info, err := f.open(t.Context(), name)
		if errors.Is(err, ErrNotExist) && name == "sub/dir/put" {
			continue // deleted in each round, said or not
		}
		if err != nil {
			t.Errorf("%s after round %d: %v", name, round, err)
			continue
		}
		got := make([]byte, info.Size)
		if _, err := file.ReadAt(got, 0); err != nil {
			t.Error(err)
		}
		if err := file.Close(); err != nil {
			t.Error(err)
		}
		if round < 0 { // deleted, and written again in the round of "put" without a word
			round = last["put"]
		}
		if s := string(got); s != crashBody(round) && s != crashBody(round+1) {
			t.Errorf("%s after round %d: %d bytes, %.20q", name, round, len(got), s)
		}
	}
}

// Conditions hold between processes too: each has its own open lock file, as the
// two here have.
func TestTwoProcesses(t *testing.T) {
	f, dir := newTestFolder(t)
	g, err := NewFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	for round := range 20 {
		base, err := f.Put(t.Context(), "base", strings.NewReader("x"), 1, PutOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var made, changed atomic.Int32
		var wg sync.WaitGroup
		for _, b := range []*Folder{f, g, f, g} {
			wg.Go(func() {
				_, err := b.Put(t.Context(), fmt.Sprint("new", round), strings.NewReader("x"), 1, PutOptions{IfAbsent: true})
				if err == nil {
					made.Add(1)
				}
				_, err2 := b.Put(t.Context(), "base", strings.NewReader("y"), 1, PutOptions{IfMatch: base.ETag})
				if err2 == nil {
					changed.Add(1)
				}
				for _, err := range []error{err, err2} {
					if err != nil && !errors.Is(err, ErrExists) {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if made.Load() != 1 || changed.Load() != 1 {
			t.Errorf("%d made it, %d changed it, want 1 and 1", made.Load(), changed.Load())
		}
	}
}
