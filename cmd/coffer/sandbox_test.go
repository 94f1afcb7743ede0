package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The drop-in that the unit needs is spelled out, and is enough.
func TestDoctorSandbox(t *testing.T) {
	r := newRig(t)
	bin := filepath.Join(r.dir, "bin")
	answer := func(props string) {
		t.Helper()
		script := "#!/bin/sh\ncase \"$*\" in *--user*) cat <<END\n" + props + "END\n;; *) echo ProtectSystem=no;; esac\n"
		if err := os.MkdirAll(bin, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(bin, "systemctl"), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	store := filepath.Join(r.dir, "store")
	answer("ActiveState=failed\nUnitFileState=enabled\nProtectSystem=strict\nReadWritePaths=-/home/x/.local/state/coffer\n")
	r.run(exitFailed, "doctor")
	r.want(`failed +sandbox +coffer.service may not write to `+store, `-> systemctl --user edit coffer.service, add the lines "\[Service\]" and "ReadWritePaths=`+store+`"`)
	for _, props := range []string{
		"ActiveState=active\nUnitFileState=enabled\nProtectSystem=strict\nReadWritePaths=-/home/x/.local/state/coffer " + store + "\n",
		"ActiveState=active\nUnitFileState=enabled\nProtectSystem=strict\nReadWritePaths=" + r.dir + "\n",
		"ActiveState=inactive\nUnitFileState=disabled\nProtectSystem=strict\nReadWritePaths=\n",
		"ActiveState=active\nUnitFileState=enabled\nProtectSystem=no\nReadWritePaths=\n",
	} {
		answer(props)
		r.run(exitOK, "doctor")
		if strings.Contains(r.out.String(), "sandbox") {
			t.Errorf("%s: got %s", props, &r.out)
		}
	}
}
