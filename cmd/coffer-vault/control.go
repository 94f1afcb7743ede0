package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"coffer"
	"coffer/internal/config"
	"coffer/internal/serve"
	"coffer/raftstore"
)

type prometheusRegistry = *prometheus.Registry

// The control socket lies in the node's folder, which is the operator's alone:
// who can open it may do what it offers. It speaks HTTP with JSON.
const (
	socketName     = "control.sock"
	controlTimeout = 30 * time.Second
	maxControl     = 1 << 20
)

// nodeStatus answers GET /status.
type nodeStatus struct {
	Node    string           `json:"node"`
	Version string           `json:"version"`
	Leader  string           `json:"leader"`
	Ready   bool             `json:"ready"`
	Reason  string           `json:"reason,omitempty"` // why it is not ready
	Raft    raftstore.Status `json:"raft"`
	Ledger  uint64           `json:"ledger_entries"`
	Regress uint64           `json:"regressions"`
}

func (n *node) status() nodeStatus {
	h := n.server.Health()
	st := nodeStatus{Node: n.c.Name, Version: coffer.Version(), Raft: n.store.Status(), Ready: true, Ledger: h.LedgerSize, Regress: h.Regressions}
	st.Leader = st.Raft.Leader
	if err := n.health.CheckReady(); err != nil {
		st.Ready, st.Reason = false, err.Error()
	}
	return st
}

// member names a node in a request that changes the group.
type member struct {
	ID string `json:"id"`
}

// control serves the socket until ctx ends.
func (n *node) control(ctx context.Context) error {
	l, err := listenIn(n.c.Dir)
	if err != nil {
		return fmt.Errorf("opening the control socket: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) { reply(w, n.status(), nil) })
	mux.HandleFunc("GET /verify", func(w http.ResponseWriter, r *http.Request) { reply(w, n.server.Verify(r.Context()), nil) })
	mux.HandleFunc("GET /backup", func(w http.ResponseWriter, r *http.Request) {
		if _, err := n.store.Backup(r.Context(), w); err != nil {
			n.log.Error("writing a backup", zap.Error(err))
			panic(http.ErrAbortHandler) // the reader must not take half for whole
		}
	})
	change := func(do func(context.Context, string) error) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			var m member
			err := json.NewDecoder(io.LimitReader(r.Body, maxControl)).Decode(&m)
			if err == nil {
				ctx, cancel := context.WithTimeout(r.Context(), controlTimeout)
				defer cancel()
				err = do(ctx, m.ID)
			}
			reply(w, struct{}{}, err)
		}
	}
	mux.HandleFunc("POST /transfer-leader", change(n.store.Transfer))
	mux.HandleFunc("POST /add", change(n.store.AddNonvoter))
	mux.HandleFunc("POST /promote", change(n.store.Promote))
	mux.HandleFunc("POST /remove", change(n.store.Remove))
	return serve.HTTP(ctx, l, &http.Server{Handler: mux, ReadHeaderTimeout: controlTimeout}, time.Second)
}

func reply(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusConflict)
		v = map[string]string{"error": err.Error()}
	}
	json.NewEncoder(w).Encode(v) // the other side may have gone: nobody is left to tell
}

// socketPath is a short name of the socket in dir, valid while the folder is
// open: a socket's path must not be longer than 107 bytes, a folder's may.
func socketPath(dir string) (path string, done func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), socketName), func() { d.Close() }, nil
}

// listenIn opens the socket. One that a killed node left behind is replaced: the
// HSM and the databases tell whether a node runs.
func listenIn(dir string) (net.Listener, error) {
	path, done, err := socketPath(dir)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // the name is gone with done
	return l, os.Chmod(filepath.Join(dir, socketName), 0o600)
}

// ask sends a request to the node that runs with the configuration.
func ask(ctx context.Context, c *config.Vault, method, path string, body, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout+5*time.Second)
	defer cancel()
	resp, err := request(ctx, c, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Close()
	return json.NewDecoder(io.LimitReader(resp, maxControl)).Decode(answer)
}

// request is ask for an answer of any length; the caller closes it.
func request(ctx context.Context, c *config.Vault, method, path string, body any) (io.ReadCloser, error) {
	socket, done, err := socketPath(c.Dir)
	if err != nil {
		return nil, &exitError{fmt.Errorf("asking node %s: %w", c.Name, err), exitTemporary, `"coffer-vault init" makes its folder`}
	}
	defer done()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	var b bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&b).Encode(body); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://node"+path, &b)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, &exitError{fmt.Errorf("asking node %s: %w", c.Name, errors.Unwrap(err)), exitTemporary, `is it running? "coffer-vault serve" runs it`}
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	var f struct{ Error string }
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxControl)).Decode(&f); err != nil {
		return nil, fmt.Errorf("node %s answers %s", c.Name, resp.Status)
	}
	return nil, &exitError{errors.New(f.Error), exitTemporary, `"coffer-vault status" shows the group; the leader changes it`}
}
