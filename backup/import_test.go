package backup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"coffer/internal/testminio"
	"coffer/upstream"
)

// runRestic runs the real one of .cache/bin ("make tools").
func runRestic(t *testing.T, env []string, args ...string) {
	t.Helper()
	cmd := exec.Command("../.cache/bin/restic", append([]string{"-q"}, args...)...)
	cmd.Env = append(append(os.Environ(), "RESTIC_PASSWORD=secret", "RESTIC_CACHE_DIR="+t.TempDir()), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("restic %s: %v: %s", args, err, out)
	}
}

// A repository that real restic has written to S3 is brought as it is; an import
// that dies at any call leaves what it has brought, and the next one the rest.
func TestImportResticS3(t *testing.T) {
	f := newFixture(t)
	f.fill()
	endpoint, access, secret := testminio.Start(t)
	repo := "s3:" + endpoint + "/restic/some/prefix"
	env := []string{"AWS_ACCESS_KEY_ID=" + access, "AWS_SECRET_ACCESS_KEY=" + secret}
	runRestic(t, env, "-r", repo, "init")
	for i := range 3 {
		f.write("changes", random(uint64(i), 50<<10))
		f.write(fmt.Sprint("new", i), random(uint64(100+i), 30<<10))
		runRestic(t, env, "-r", repo, "backup", "--host", "host", "--tag", fmt.Sprint(i), f.src)
	}
	bucket, err := upstream.Open(t.Context(), upstream.Config{Type: "s3", Endpoint: endpoint, Bucket: "restic", Prefix: "some/prefix/", PathStyle: true,
		AccessKey: access, SecretKey: upstream.NewSecret(secret)})
	if err != nil {
		t.Fatal(err)
	}
	o := ImportOptions{Files: ResticBucket(bucket), Password: "secret"}
	mem, most := f.bucket, 0
	for n := int64(8); ; n += 2 { // slowly, so that no run does all three
		d := &dying{Bucket: mem}
		f.conf.Bucket = d
		d.left.Store(1)
		f.reopen()
		d.left.Store(n)
		rep, err := f.repo.ImportRestic(t.Context(), o)
		most = max(most, rep.Present)
		if err == nil {
			break
		}
		if !errors.Is(err, upstream.ErrUnavailable) || n > 1000 {
			t.Fatal(err)
		}
	}
	f.conf.Bucket = mem
	f.reopen()
	all, err := f.repo.Snapshots(t.Context())
	if err != nil || len(all) != 3 || most == 0 {
		t.Fatalf("%d snapshots, %v; %d were there when an import went on", len(all), err, most)
	}
	for i, s := range all {
		if len(s.Tags) != 1 || s.Tags[0] != fmt.Sprint(i) || s.Source != "src" || s.Partial {
			t.Errorf("snapshot %d: %+v", i, s)
		}
	}
	out, _ := f.restore()
	same(t, out, f.src)
	if rep, err := f.repo.ImportRestic(t.Context(), o); err != nil || rep.Present != 3 || rep.Read != 0 {
		t.Errorf("once more: %+v, %v", rep, err)
	}
	o.Password = "other"
	if _, err := f.repo.ImportRestic(t.Context(), o); !errors.Is(err, ErrResticPassword) {
		t.Errorf("wrong password: %v", err)
	}
}

// Each file of a repository of restic that is cut or changed is named, and never
// makes a snapshot with other content.
func TestImportResticDamaged(t *testing.T) {
	f := newFixture(t)
	f.write("a/b", random(1, 2000))
	f.write("c", []byte("text"))
	repo := filepath.Join(t.TempDir(), "restic")
	runRestic(t, nil, "-r", repo, "init")
	runRestic(t, nil, "-r", repo, "backup", f.src)
	tried := 0
	err := filepath.WalkDir(repo, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		whole, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := os.Chmod(path, 0o600); err != nil {
			return err
		}
		// One kind a file beside the change: each try derives a key from the password, which takes long.
		kinds := map[string][]byte{"cut": whole[:len(whole)-1], "changed": append([]byte{whole[0] ^ 1}, whole[1:]...)}
		if tried%4 == 0 {
			delete(kinds, "cut")
			kinds["empty"] = nil
		}
		for kind, b := range kinds {
			if err := os.WriteFile(path, b, 0o600); err != nil {
				return err
			}
			g := newFixture(t)
			files, err := ResticFolder(repo)
			if err != nil {
				return err
			}
			rep, err := g.repo.ImportRestic(t.Context(), ImportOptions{Files: files, Password: "secret"})
			packHeader := kind == "cut" && strings.Contains(path, "/data/") // no blob lies there
			if err == nil && len(rep.Failed) == 0 && !packHeader {
				t.Errorf("%s %s: not noticed", kind, path)
			}
			tried++
		}
		return os.WriteFile(path, whole, 0o600)
	})
	if err != nil || tried < 10 {
		t.Errorf("%d tried, %v", tried, err)
	}
}
