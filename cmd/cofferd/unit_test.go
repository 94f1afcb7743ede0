package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"coffer/daemon"
	"coffer/internal/config"
)

func TestUnit(t *testing.T) {
	for cgroup, want := range map[string]string{
		"0::/coffer.slice/coffer@anna.service\n":                                                 "coffer@anna.service false",
		"0::/user.slice/user-1000.slice/user@1000.service/background.slice/coffer.service\n":     "coffer.service true",
		"0::/user.slice/user-1000.slice/session-2.scope\n":                                       " false",
		"1:name=systemd:/system.slice/coffer-all.service\n0::/system.slice/coffer-all.service\n": "coffer-all.service false",
		"0::/user.slice/user-1000.slice/user@1000.service\n":                                     " false",
		"": " false",
	} {
		name, ofUser := unit(cgroup)
		if got := fmt.Sprint(name, " ", ofUser); got != want {
			t.Errorf("%q: got %q, want %q", cgroup, got, want)
		}
	}
	c := &config.User{Upstreams: []config.Upstream{{Type: "folder", Path: "/srv/store"}}}
	if err := explain(syscall.ENOSPC, c); err != syscall.ENOSPC {
		t.Errorf("got %v", err)
	}
	trouble, ok := explain(fmt.Errorf("writing: %w", syscall.EROFS), c).(*daemon.Trouble)
	if !ok || !trouble.Lasting || !strings.Contains(trouble.Hint, "read-only") {
		t.Errorf("got %+v", trouble)
	}
}
