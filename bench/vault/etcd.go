package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"coffer/bench"
)

// etcd is three members that run, with TLS between them and to clients.
type etcd struct {
	procs []*bench.Process
	urls  []string
	roots *x509.CertPool
}

func startEtcd(ctx context.Context, dir string) (*etcd, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	leaf, err := makeCertificate(cert, key)
	if err != nil {
		return nil, err
	}
	addrs, err := freeAddrs(6)
	if err != nil {
		return nil, err
	}
	e := &etcd{roots: x509.NewCertPool()}
	e.roots.AddCert(leaf)
	var cluster []string
	for i := range 3 {
		cluster = append(cluster, fmt.Sprintf("m%d=https://%s", i, addrs[2*i+1]))
	}
	for i := range 3 {
		client, peer := "https://"+addrs[2*i], "https://"+addrs[2*i+1]
		name := fmt.Sprint("m", i)
		p, err := bench.Start([]string{"PATH=" + os.Getenv("PATH")}, filepath.Join(dir, name+".log"), "etcd",
			"--name", name, "--data-dir", filepath.Join(dir, name), "--log-level", "error", "--logger", "zap",
			"--listen-client-urls", client, "--advertise-client-urls", client, "--cert-file", cert, "--key-file", key,
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--peer-cert-file", cert, "--peer-key-file", key,
			"--peer-trusted-ca-file", cert, "--peer-client-cert-auth",
			"--initial-cluster", strings.Join(cluster, ","), "--initial-cluster-state", "new")
		if err != nil {
			e.stop()
			return nil, fmt.Errorf("starting etcd (package etcd-server): %w", err)
		}
		e.procs, e.urls = append(e.procs, p), append(e.urls, client)
	}
	if _, err := e.leader(ctx); err != nil {
		e.stop()
		return nil, err
	}
	return e, nil
}

func (e *etcd) stop() {
	for _, p := range e.procs {
		p.Stop()
	}
}

// leader waits for one, and returns its URL.
func (e *etcd) leader(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var last error
	for {
		for _, url := range e.urls {
			status, err := e.conn(url).call(ctx, "Maintenance/Status", nil)
			if last = err; err != nil {
				continue
			}
			// StatusResponse: header 1 {member_id 2}, leader 4
			if self, _ := status.field(1).number(2); self != 0 {
				if leader, _ := status.number(4); leader == self {
					return url, nil
				}
			}
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return "", fmt.Errorf("etcd elects no leader: %w", last)
		}
	}
}

// conn is one HTTP/2 connection.
func (e *etcd) conn(url string) *conn {
	return &conn{url: url, http: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: e.roots},
	}}}
}

// perConn is how many clients share a connection.
const perConn = 16

// conns returns a connection for each client to the leader, all open.
func (e *etcd) conns(ctx context.Context, clients int) ([]*conn, error) {
	url, err := e.leader(ctx)
	if err != nil {
		return nil, err
	}
	var open []*conn
	for range (clients + perConn - 1) / perConn {
		c := e.conn(url)
		if _, err := c.call(ctx, "Maintenance/Status", nil); err != nil {
			return nil, err
		}
		open = append(open, c)
	}
	return open, nil
}

// value is as long as a guess.
var value = make([]byte, 128)

func key(client int) []byte { return fmt.Appendf(nil, "user-%d", client) }

// puts is clients that each put a key of their own.
func (e *etcd) puts(ctx context.Context, clients int) (*load, error) {
	conns, err := e.conns(ctx, clients)
	if err != nil {
		return nil, err
	}
	return &load{clients: clients, servers: e.procs, do: func(ctx context.Context, i int) error {
		_, err := conns[i/perConn].call(ctx, "KV/Put", message(nil).bytes(1, key(i)).bytes(2, value))
		return err
	}}, nil
}

// swaps is clients that each read a counter of their own and put the next
// value if it has not changed.
func (e *etcd) swaps(ctx context.Context, clients int) (*load, error) {
	conns, err := e.conns(ctx, clients)
	if err != nil {
		return nil, err
	}
	return &load{clients: clients, servers: e.procs, do: func(ctx context.Context, i int) error {
		c, k := conns[i/perConn], key(i)
		got, err := c.call(ctx, "KV/Range", message(nil).bytes(1, k))
		if err != nil {
			return err
		}
		revision, _ := got.field(2).number(3) // kvs 2 {mod_revision 3}
		put := message(nil).bytes(2, message(nil).bytes(1, k).bytes(2, value))
		const mod = 2
		compare := message(nil).varint(2, mod).bytes(3, k).varint(6, revision) // result 1: equal, 0
		done, err := c.call(ctx, "KV/Txn", message(nil).bytes(1, compare).bytes(2, put))
		if err != nil {
			return err
		}
		if ok, _ := done.number(2); ok != 1 {
			return errors.New("the swap was not carried out")
		}
		return nil
	}}, nil
}
