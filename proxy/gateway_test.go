package proxy

import (
	"context"
	"net"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"coffer/seal"
	"coffer/upstream"
)

const (
	testAccess = "COFFERTESTKEY"
	testSecret = "coffer/test+secret/0123456789"
)

// unlocked is a keyring that is never locked.
type unlocked struct{ keys *seal.Keys }

func (u unlocked) Keys() (*seal.Keys, error) { return u.keys, nil }

// gateway is a Proxy that listens, over a folder or what a test put below it.
type gateway struct {
	*Proxy
	t        testing.TB
	config   Config
	url      string // http://127.0.0.1:PORT
	upstream string // folder of the upstream; "" if it is none
	server   *httptest.Server
}

// startGateway starts a gateway over a new folder. change may alter its
// configuration.
func startGateway(t testing.TB, change ...func(*Config)) *gateway {
	t.Helper()
	dir := t.TempDir()
	folder := filepath.Join(dir, "upstream")
	bucket, err := upstream.NewFolder(folder)
	if err != nil {
		t.Fatal(err)
	}
	c := Config{
		Bucket: bucket, Keys: unlocked{seal.NewKey().Keys(seal.NewStoreID())}, StateDir: filepath.Join(dir, "state"), Log: zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel)),
		Access: []AccessKey{{ID: testAccess, Secret: NewSecret(testSecret)}},
	}
	for _, f := range change {
		f(&c)
	}
	g := &gateway{t: t, config: c, upstream: folder}
	g.start()
	t.Cleanup(g.stop)
	return g
}

func (g *gateway) start() {
	g.t.Helper()
	p, err := New(g.config)
	if err != nil {
		g.t.Fatal(err)
	}
	g.Proxy = p
	s := httptest.NewUnstartedServer(p)
	s.Config = Server(p, zap.NewNop())
	s.Start()
	g.server, g.url = s, s.URL
}

// restartTLS starts the gateway again on an https address.
func (g *gateway) restartTLS() {
	g.t.Helper()
	g.stop()
	p, err := New(g.config)
	if err != nil {
		g.t.Fatal(err)
	}
	g.Proxy = p
	g.server = httptest.NewUnstartedServer(p)
	g.server.Config = Server(p, zap.NewNop())
	g.server.StartTLS()
	g.url = g.server.URL
}

// stop ends the gateway as the daemon does: no request is running any more.
func (g *gateway) stop() {
	if g.server == nil {
		return
	}
	g.server.Close()
	g.server = nil
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := g.Run(ctx); err != nil {
		g.t.Errorf("Run: %v", err)
	}
}

// restart stops the gateway and starts it again on the same state.
func (g *gateway) restart() {
	g.t.Helper()
	g.stop()
	g.start()
}

func (g *gateway) addr() string { return g.server.Listener.Addr().(*net.TCPAddr).String() }

// client is an S3 client by other hands.
func (g *gateway) client() *minio.Client {
	g.t.Helper()
	c, err := minio.New(g.addr(), &minio.Options{Creds: credentials.NewStaticV4(testAccess, testSecret, ""), Region: "us-east-1"})
	if err != nil {
		g.t.Fatal(err)
	}
	return c
}
