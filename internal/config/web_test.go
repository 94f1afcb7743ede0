package config

import (
	"strings"
	"testing"
)

// TestWeb: the page is for this machine; an address that others reach is refused
// before anything listens there.
func TestWeb(t *testing.T) {
	plainEnvironment(t)
	for listen, want := range map[string]string{
		"": "", "127.0.0.1:9921": "", "[::1]:9921": "", "127.0.0.1:0": "",
		"0.0.0.0:9921": "not an address of loopback", "192.168.1.2:80": "not an address of loopback",
		"localhost:9921": "not an address of loopback", ":9921": "host:port", "127.0.0.1": "host:port", "127.0.0.1:http": "not a number",
	} {
		u, err := LoadUser(write(t, minimal+"[web]\nlisten = '"+listen+"'\n"))
		switch {
		case want == "" && err != nil:
			t.Errorf("%q: %v", listen, err)
		case want == "" && u.Web.Listen != listen:
			t.Errorf("%q was read as %q", listen, u.Web.Listen)
		case want != "" && (err == nil || !strings.Contains(err.Error(), ":6:1: web.listen: ") || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: got %v, want %q", listen, err, want)
		}
	}
}
