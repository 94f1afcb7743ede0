package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// On a terminal, what is typed to be tried is not shown, and "off" wants the name of
// the machine.
func TestKeepOnTerminal(t *testing.T) {
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, "fleet.cbor"), []byte("a fleet"), 0o600); err != nil {
		t.Fatal(err)
	}
	const password, next = "correct-horse-and-a-stapler", "violet-battery-under-the-moon"
	play := func(want int, args []string, steps ...string) {
		t.Helper()
		s := startSession(t, home, args...)
		for i, step := range steps {
			if i%2 == 0 {
				s.expect(step)
			} else {
				s.send(step + "\n")
			}
		}
		s.exit(want)
		if strings.Contains(s.text(), password) || strings.Contains(s.text(), next) {
			t.Errorf("%q shows a password", args)
		}
	}
	play(exitOK, []string{"setup", "--upstream", "folder:store", "--vault-fleet", "fleet.cbor", "--vault-root", strings.Repeat("01", 32), "--account", "anna", "--host", "laptop"},
		"New password: ", password, "Again: ", password, "This machine is set up")
	play(exitOK, []string{"password", "verify"}, "tried on this machine only", password, "No attempt was spent")
	play(exitWrongKey, []string{"password", "verify"}, "tried on this machine only", "nonsense", "not the password")
	play(exitOK, []string{"password", "change"}, `(?s)the old password is not needed.*New password: `, next, "Again: ", next, "The new password is in force")
	play(exitOK, []string{"password", "verify"}, "tried on this machine only", next, "No attempt was spent")

	s := startSession(t, home, "key", "show")
	digits := s.expect(`((?:[0-9a-f]{4}[ \r\n]+){15}[0-9a-f]{4})`)[1]
	s.exit(exitOK)
	play(exitOK, []string{"recovery", "verify"}, "The digits, in one line", strings.Join(strings.Fields(digits), "-"), "These digits are the key")
	play(exitFailed, []string{"recovery", "verify"}, "The digits, in one line", "1234", "4 digits, not 64")

	play(exitFailed, []string{"off"}, `type the name of this machine \(laptop\)`, "yes", "nothing was changed")
	play(exitOK, []string{"off"}, `type the name of this machine \(laptop\)`, "laptop", "The key is gone from here")
	if _, err := os.Stat(filepath.Join(home, "coffer.toml.off")); err != nil {
		t.Error(err)
	}
	play(exitWrongKey, []string{"recover", "--upstream", "folder:store"}, "The 64 digits, in one line: ", strings.Repeat("0123 ", 16), "hint:")
	play(exitOK, []string{"recover", "--upstream", "folder:store"}, "The 64 digits, in one line: ", strings.Join(strings.Fields(digits), " "), "This machine is set up")
}
