package e2e

import (
	"strings"
	"testing"
)

// diskFull is run by a shell with mounts of its own. FULL is the folder that lies
// on a disk of 6 MB.
const diskFull = `
mkdir -p "$FULL" src
mount -t tmpfs -o size=6m tmpfs "$FULL"
head -c 500000 /dev/urandom >src/small
coffer setup --upstream "folder:$PWD/up" --digits-file digits --source "s=$PWD/src"
coffer backup
cp -a src was
head -c 20000000 /dev/urandom >src/large
head -c 1000 /dev/urandom >src/new
head -c 100000000 /dev/zero >"$FULL/filler" 2>/dev/null || true
status=0
coffer backup 2>message || status=$?
cat message
echo "status $status"
if [ "$status" != 0 ]; then grep -q 'no space left' message; fi
coffer restore latest --to earlier || [ "$status" = 0 ]
rm "$FULL/filler"
mount -o remount,size=200m "$FULL"
coffer backup
coffer check --read-data
coffer restore latest --to out
diff -r src out
first=$(coffer snapshots --json | sed -n 's/.*"id": "\([0-9a-f]*\)".*/\1/p' | head -1)
coffer restore "$first" --to first
diff -r was first
`

// A disk that is full where the backups, the cache or the state lie: what is
// wrong is said, nothing is damaged, and with room again all goes on.
func TestDiskFull(t *testing.T) {
	for where, tt := range map[string]struct {
		folder string
		fails  bool
	}{
		"upstream": {"up", true},
		"cache":    {".cache/coffer", true},        // who writes, and what it has published, must be known
		"state":    {".local/state/coffer", false}, // a backup does without
	} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			for i, v := range m.env {
				if path, ok := strings.CutPrefix(v, "PATH="); ok {
					m.env[i] = "PATH=" + strings.TrimSuffix(program(t, "coffer"), "/coffer") + ":" + path
				}
			}
			m.env = append(m.env, "FULL="+m.path(tt.folder))
			out, errOut, code := m.run("unshare", "-rm", "sh", "-euc", diskFull)
			if code != 0 {
				t.Fatalf("exit status %d\n%s%s", code, out, errOut)
			}
			if failed := !strings.Contains(out, "status 0\n"); failed != tt.fails {
				t.Errorf("a backup on a full disk failed: %v, want %v\n%s%s", failed, tt.fails, out, errOut)
			}
		})
	}
}
