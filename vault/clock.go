package vault

import (
	"os"
	"strings"
	"time"
)

// skewEnv names the variable with the file that says how wrong the clock is, as
// "-7m3s". It is for runs of real nodes whose clocks are to be wrong, which the
// kernel cannot do to one process: -ldflags "-X coffer/vault.skewEnv=NAME".
// Programs that are given to people have none.
var skewEnv = ""

// clock is this node's wall clock.
func clock() time.Time {
	t := time.Now()
	if skewEnv == "" {
		return t
	}
	b, err := os.ReadFile(os.Getenv(skewEnv))
	if err != nil {
		return t
	}
	d, err := time.ParseDuration(strings.TrimSpace(string(b)))
	if err != nil {
		return t
	}
	return t.Add(d)
}
