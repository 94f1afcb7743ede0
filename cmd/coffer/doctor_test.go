package main

import (
	"slices"
	"strings"
	"testing"
)

// Swap in memory or on a mapped device is no leak, any other may be.
func TestOpenSwaps(t *testing.T) {
	const table = "Filename\t\t\tType\t\tSize\tUsed\tPriority\n/dev/zram0 partition 1 0 100\n/dev/dm-1 partition 1 0 1\n/dev/sda2                               partition\t1\t0\t-2\n/swap.img\tfile 1 0 1\n"
	if got := openSwaps([]byte(table)); !slices.Equal(got, []string{"/dev/sda2", "/swap.img"}) {
		t.Errorf("got %q", got)
	}
	if got := openSwaps(nil); len(got) != 0 {
		t.Errorf("got %q", got)
	}
}

// The daemon's state is part of both.
func TestDoctorOfDaemon(t *testing.T) {
	r := newRig(t)
	key := new(fakeKey)
	r.daemon(key)
	r.run(exitFailed, "doctor")
	if !strings.Contains(r.out.String(), "failed   daemon") {
		t.Errorf("a locked daemon is well: %s", &r.out)
	}
	r.run(exitOK, "recover", "--digits-file", r.dir+"/digits")
	r.run(exitFailed, "backup", "bad")
	r.run(exitOK, "pause", "2h")
	if !strings.Contains(r.err.String(), "paused until") {
		t.Errorf("got %s", &r.err)
	}
	r.run(exitFailed, "doctor")
	if out := r.out.String(); !strings.Contains(out, "-> coffer resume\n") || !strings.Contains(out, "source bad: no such luck") {
		t.Errorf("got %s", out)
	}
	r.run(exitOK, "bugreport")
	if out := r.out.String(); !strings.Contains(out, "paused true, sources: ") || strings.Contains(out, r.dir) || strings.Contains(out, "no such luck") {
		t.Errorf("got %s", out)
	}
	r.run(exitOK, "--json", "resume")
	if !strings.Contains(r.out.String(), `"paused": false`) {
		t.Errorf("got %s", &r.out)
	}
}
