package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coffer/internal/testminio"
)

// A store in S3 is set up with the key of the environment, and used without:
// the daemon will not have that environment.
func TestSetupOnS3(t *testing.T) {
	endpoint, access, secret := testminio.Start(t)
	dir := t.TempDir()
	for name, value := range map[string]string{"HOME": dir, "COFFER_CONFIG": filepath.Join(dir, "c.toml"), "XDG_RUNTIME_DIR": dir,
		"XDG_STATE_HOME": "", "XDG_CACHE_HOME": "", "CREDENTIALS_DIRECTORY": "", "AWS_CA_BUNDLE": "",
		"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": ""} {
		t.Setenv(name, value)
	}
	docs := filepath.Join(dir, "docs")
	if err := os.Mkdir(docs, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(docs, "a.txt"), []byte("milk, bread"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dir: dir}
	store := "s3:" + endpoint + "/setup-on-s3/machines"
	r.run(exitOK, "setup", "--upstream", store, "--digits-file", filepath.Join(dir, "digits"), "--source", "docs="+docs)
	if raw, err := os.ReadFile(filepath.Join(dir, "c.toml")); err != nil || strings.Contains(string(raw), secret) {
		t.Errorf("the configuration holds the secret key: %v", err)
	}
	if info, err := os.Stat(filepath.Join(dir, ".local/state/coffer/s3-secret-key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("secret key: %v", err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	r.run(exitOK, "backup")
	r.run(exitOK, "restore", "--to", filepath.Join(dir, "back"))
	if got, err := os.ReadFile(filepath.Join(dir, "back", "a.txt")); err != nil || string(got) != "milk, bread" {
		t.Errorf("got %q, %v", got, err)
	}
	r.run(exitOK, "status")
	if !strings.Contains(r.out.String(), "upstream  "+store) {
		t.Errorf("got %s", &r.out)
	}

	// Another machine, with the key in files; and one whose key is wrong.
	for name, text := range map[string]string{"access": access, "secret": secret, "wrong": "not-the-secret"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	other := []string{"--config", filepath.Join(dir, "c2.toml"), "recover", "--upstream", store, "--state-dir", filepath.Join(dir, "state2"),
		"--digits-file", filepath.Join(dir, "digits"), "--s3-access-key-file", filepath.Join(dir, "access"), "--s3-secret-key-file"}
	r.run(exitFailed, append(other, filepath.Join(dir, "wrong"))...)
	if strings.Contains(r.err.String(), "not-the-secret") {
		t.Errorf("the secret key is told: %s", &r.err)
	}
	r.run(exitOK, append(other, filepath.Join(dir, "secret"))...)
	r.run(exitOK, "--config", filepath.Join(dir, "c2.toml"), "snapshots")
	if !strings.Contains(r.out.String(), "docs") {
		t.Errorf("got %s", &r.out)
	}
}
