package upstream_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"coffer/internal/testminio"
	"coffer/upstream"
)

// TestTally: requests of several processes are counted in one place, that of a
// process which was killed as well, by what stores charge for.
func TestTally(t *testing.T) {
	if dir := os.Getenv("COFFER_TEST_TALLY"); dir != "" { // the process that is killed
		tally, err := upstream.OpenTally(dir, "cloud")
		if err != nil {
			t.Fatal(err)
		}
		b, err := upstream.Open(t.Context(), upstream.Config{Type: "s3", Endpoint: os.Getenv("ENDPOINT"), Bucket: "tally", Create: true,
			AccessKey: os.Getenv("ACCESS"), SecretKey: upstream.NewSecret(os.Getenv("SECRET")), Region: "us-east-1", Tally: tally})
		if err != nil {
			t.Fatal(err)
		}
		put(t, b, "object", randomBytes(1000), upstream.PutOptions{})
		get(t, b, "object", 0, -1)
		list(t, b, "", "")
		if err := b.Delete(t.Context(), "object"); err != nil {
			t.Fatal(err)
		}
		os.Exit(0) // no defer runs, no test ends
	}
	server := testminio.StartServer(t)
	dir := filepath.Join(t.TempDir(), "requests")
	for range 2 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestTally$")
		cmd.Env = append(os.Environ(), "COFFER_TEST_TALLY="+dir, "ENDPOINT="+server.Endpoint, "ACCESS="+server.Access, "SECRET="+server.Secret)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	all, err := upstream.ReadTallies(dir)
	if err != nil || len(all) != 1 {
		t.Fatalf("%+v, %v", all, err)
	}
	// The bucket is made once; each run looks whether it is there.
	if r := all[0]; r.Upstream != "cloud" || r.Write != 2*2+1 || r.Read != 2*2 || r.Free != 2 || r.Sent < 2000 || r.Received < 2000 {
		t.Errorf("got %+v", r)
	}
	if err := os.WriteFile(filepath.Join(dir, "2026-01 cloud"), []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := upstream.ReadTallies(dir); err == nil {
		t.Error("a broken file is read")
	}
}
