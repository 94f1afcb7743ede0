package e2e

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// TestFirstAccessKey: "coffer s3 key" lets the first program in while the daemon
// runs, and the last one out; what the command has returned from is in force.
func TestFirstAccessKey(t *testing.T) {
	m := newMachine(t)
	m.must("coffer", "setup", "--upstream", "folder:"+m.path("up"), "--digits-file", m.path("digits"))
	g := &killedGateway{machine: m, t: t, address: freeAddress(t), keys: credentials.NewStaticV4("nobody", "whatever", "")}
	config, err := os.OpenFile(m.path("coffer.toml"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(config, "\n[gateway]\nlisten = %q\n", g.address)
	if err := config.Close(); err != nil {
		t.Fatal(err)
	}
	m.start("cofferd", "--config", m.path("coffer.toml"))
	eventually(t, "the gateway listens", 30*time.Second, func() bool {
		conn, err := net.Dial("tcp", g.address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	put := func(key string) string {
		_, err := g.client().PutObject(t.Context(), "photos", key, strings.NewReader("x"), 1, "", "", minio.PutObjectOptions{})
		return minio.ToErrorResponse(err).Code
	}
	if code := put("none"); code != "InvalidAccessKeyId" {
		t.Errorf("before there is a key: %q", code)
	}
	for round := range 2 {
		m.must("coffer", "s3", "key", "add", "photos")
		g.keys = s3Keys(m.must("coffer", "s3", "env", "--key", "photos"))
		if round == 0 {
			if err := g.client().MakeBucket(t.Context(), "photos", minio.MakeBucketOptions{}); err != nil {
				t.Errorf("with the first key: %v", err)
			}
		}
		if code := put("some"); code != "" {
			t.Errorf("with the first key: %q", code)
		}
		m.must("coffer", "s3", "key", "remove", "photos")
		if code := put("some"); code != "InvalidAccessKeyId" {
			t.Errorf("with the key that was removed: %q", code)
		}
	}
}
