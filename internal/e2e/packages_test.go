package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// packages builds packages in a folder and returns it.
func packages(t *testing.T, version string, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "../../packaging/build.sh", append([]string{dir}, names...)...)
	cmd.Env = append(os.Environ(), "VERSION="+version)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building packages: %v\n%s", err, out)
	}
	return dir
}

// TestPackagesReproducible: the same commit gives the same bytes.
func TestPackagesReproducible(t *testing.T) {
	one, two := packages(t, "1.0", "coffer-vault"), packages(t, "1.0", "coffer-vault")
	files, err := filepath.Glob(one + "/*")
	if err != nil || len(files) != 2 {
		t.Fatalf("want a deb and an rpm, got %v, %v", files, err)
	}
	for _, f := range files {
		a, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(filepath.Join(two, filepath.Base(f))); err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s differs the second time (%v)", filepath.Base(f), err)
		}
	}
}

// TestPackages installs, upgrades, removes and purges the debs under a real
// systemd; of the rpms it reads the lists of files.
func TestPackages(t *testing.T) {
	const unit = "coffer@alice.service"
	first, second := packages(t, "1.0"), packages(t, "1.1", "coffer")
	for name, want := range map[string]string{"coffer": "/usr/bin/cofferd", "coffer-vault": "/usr/lib/systemd/system/coffer-vault@.service"} {
		rpms, _ := filepath.Glob(first + "/" + name + "-1.0*.rpm")
		if len(rpms) != 1 {
			t.Fatalf("rpms of %s: %v", name, rpms)
		}
		out, err := exec.CommandContext(t.Context(), "rpm", "-qlp", rpms[0]).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want+"\n") {
			t.Errorf("%s: no %s: %v\n%s", rpms[0], want, err, out)
		}
	}
	install := t.TempDir()
	for _, dir := range []string{first, second} {
		debs, _ := filepath.Glob(dir + "/*.deb")
		for _, deb := range debs {
			name, version, _ := strings.Cut(filepath.Base(deb), "_")
			version, _, _ = strings.Cut(version, "_")
			copyFile(t, deb, filepath.Join(install, "root", name+"-"+version+".deb"), 0o644)
		}
	}
	b := bootWith(t, install)
	b.must("dpkg", "-i", "/root/coffer-1.0.deb", "/root/coffer-vault-1.0.deb")
	if out := b.must("systemctl", "list-units", "--no-legend", "--plain", "--state=active", "coffer*.service", "coffer*.socket", "coffer*.target"); out != "" {
		t.Errorf("started unasked:\n%s", out)
	}
	// it exits with 1 when it lists nothing
	if out, _ := b.try("systemctl", "list-unit-files", "--no-legend", "--state=enabled", "coffer*"); out != "" {
		t.Errorf("enabled unasked:\n%s", out)
	}
	b.must("id", "coffer-vault") // sysusers ran

	b.must("useradd", "--create-home", "alice")
	b.must("install", "-d", "-o", "alice", "-m", "700", "/srv/alice")
	b.file("/etc/systemd/system/coffer@alice.service.d/test.conf", "[Service]\nReadWritePaths=/srv/alice\n")
	b.must("systemctl", "daemon-reload")
	b.sh("alice", `mkdir ~/docs; echo first > ~/docs/file; coffer setup --upstream folder:/srv/alice/store --source docs=$HOME/docs --digits-file ~/digits >/dev/null`)
	b.must("systemctl", "enable", "--now", "coffer@alice.socket", unit)
	b.sh("alice", "coffer backup >/dev/null")
	pid, key := b.property(unit, "MainPID"), b.must("sha256sum", "/home/alice/.local/state/coffer/backup.key")

	b.must("dpkg", "-i", "/root/coffer-1.1.deb")
	if now := b.property(unit, "MainPID"); now == "0" || now == pid {
		t.Errorf("process %s after the upgrade, was %s", now, pid)
	}
	if st := b.daemonStatus(); st["locked"] != false {
		t.Errorf("after the upgrade: %v", st)
	}
	b.sh("alice", "coffer restore latest --to ~/back >/dev/null; cmp ~/docs/file ~/back/file")
	b.must("test", "-d", "/var/cache/coffer/alice")

	b.must("dpkg", "-r", "coffer", "coffer-vault")
	if out, _ := b.try("pidof", "cofferd"); out != "" {
		t.Errorf("still running after the removal: %s", out)
	}
	b.must("test", "-d", "/var/cache/coffer/alice")
	b.must("install", "-d", "/var/lib/coffer-vault/n1", "/var/lib/coffer/system")
	b.must("dpkg", "-P", "coffer", "coffer-vault")
	if got := b.must("sha256sum", "/home/alice/.local/state/coffer/backup.key"); got != key {
		t.Errorf("the key after the purge: %s, was %s", got, key)
	}
	b.must("test", "-d", "/var/lib/coffer-vault/n1", "-a", "-d", "/var/lib/coffer/system", "-a", "-d", "/srv/alice/store")
	b.must("test", "!", "-e", "/var/cache/coffer")
	if out := b.must("find", "/etc/systemd/system", "-name", "coffer*", "-type", "l"); out != "" {
		t.Errorf("links after the purge:\n%s", out)
	}
}
