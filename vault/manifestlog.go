package vault

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// A manifest log is the history of a fleet: its signed manifests one after the
// other, a CBOR sequence (RFC 8742), so that a new one is appended with cat. Whoever
// holds a copy sees every node and parameter that ever was, and that nothing
// was taken out.

// AuditManifests reads a manifest log and checks every step: a quorum of the roots
// signed, the fleet stays, numbers rise by one, each names the hash of the one
// before. It fails with [ErrManifest], naming the first that does not fit.
func AuditManifests(r io.Reader, roots Roots) ([]*Manifest, error) {
	d := dec.NewDecoder(bufio.NewReader(io.LimitReader(r, maxManifestLog+1)))
	var all []*Manifest
	for {
		var s SignedManifest
		err := d.Decode(&s)
		if errors.Is(err, io.EOF) && len(all) > 0 {
			return all, nil
		}
		if err != nil || d.NumBytesRead() > maxManifestLog {
			return all, fmt.Errorf("%w: manifest %d of the log cannot be read", ErrManifest, len(all)+1)
		}
		m, err := s.Verify(roots, time.Time{})
		if err != nil {
			return all, fmt.Errorf("manifest %d of the log: %w", len(all)+1, err)
		}
		if err := follows(all, m); err != nil {
			return all, fmt.Errorf("manifest %d of the log: %w", len(all)+1, err)
		}
		all = append(all, m)
	}
}

// maxManifestLog bounds what is read of a log: some thousands of manifests.
const maxManifestLog = 16 << 20

// follows says whether m may come after those before.
func follows(before []*Manifest, m *Manifest) error {
	if len(before) == 0 {
		if m.Sequence != 1 {
			return fmt.Errorf("%w: the log begins with number %d", ErrManifest, m.Sequence)
		}
		return nil
	}
	last := before[len(before)-1]
	switch {
	case m.Fleet != last.Fleet:
		return fmt.Errorf("%w: it is another fleet's", ErrManifest)
	case m.Sequence != last.Sequence+1:
		return fmt.Errorf("%w: number %d comes after %d", ErrManifest, m.Sequence, last.Sequence)
	case m.Previous != last.Hash():
		return fmt.Errorf("%w: number %d does not name the one before", ErrManifest, m.Sequence)
	}
	return nil
}

// FetchManifest asks the node at an https address for its fleet file, of which the pinned
// roots must have signed the manifest. That is all there is to trust: which certificate
// a node shows says the manifest, so here any will do. It fails with [ErrManifest] and
// [ErrUnavailable].
func FetchManifest(ctx context.Context, node string, roots Roots) ([]byte, error) {
	t := transport(&tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true})
	n := newNodeClient(Node{URL: strings.TrimSuffix(node, "/")}, t)
	defer n.http.CloseIdleConnections()
	b, err := n.manifest(ctx, fetchTime)
	if err != nil {
		return nil, fmt.Errorf("%w: asking for the fleet file: %w", ErrUnavailable, err)
	}
	sm, err := ParseManifest(b)
	if err != nil {
		return nil, err
	}
	_, err = sm.Verify(roots, time.Time{})
	return b, err
}

const (
	fetchTime = 20 * time.Second // bounds the wait for a node's fleet file
	lateTime  = time.Second      // that of others, once the threshold has shown theirs
)

// NewerManifest asks the nodes of the manifest for their fleet file, and returns the one
// with the highest number above it that the pinned roots have signed; nil if there
// is none. The caller stores it and makes a client with it. The manifest may be out of
// date: that of a machine that was off for a year, or of a backup that is as old.
func NewerManifest(ctx context.Context, c ClientConfig) ([]byte, error) {
	client, err := newClient(c, time.Time{})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	return client.newerManifest(ctx)
}

func (c *Client) newerManifest(ctx context.Context) ([]byte, error) {
	type shown struct {
		node string
		file []byte
		err  error
	}
	ctx, enough := context.WithCancel(ctx)
	defer enough()
	files := make(chan shown, len(c.nodes))
	for _, n := range c.nodes {
		go func() {
			b, err := n.manifest(ctx, c.c.Timeout)
			files <- shown{n.node.ID, b, err}
		}()
	}
	best, number := []byte(nil), c.manifest.Sequence
	var last error
	answered := 0
	for range c.nodes {
		s := <-files
		if s.err != nil {
			last = fmt.Errorf("node %s: %w", s.node, s.err)
			continue
		}
		if answered++; answered == int(c.manifest.Threshold) { // a node that hangs keeps nobody waiting
			defer time.AfterFunc(lateTime, enough).Stop()
		}
		sm, err := ParseManifest(s.file)
		if err != nil {
			continue
		}
		m, err := sm.Verify(c.c.Roots, time.Now())
		if err == nil && m.Fleet == c.manifest.Fleet && m.Sequence > number {
			best, number = s.file, m.Sequence
		}
	}
	if answered == 0 {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, last)
	}
	return best, nil
}

// manifest fetches the node's fleet file.
func (n *nodeClient) manifest(ctx context.Context, timeout time.Duration) ([]byte, error) {
	return n.file(ctx, http.MethodGet, nil, timeout)
}

// hand gives the node a fleet file, which it follows if it is newer than its own.
func (n *nodeClient) hand(ctx context.Context, file []byte, timeout time.Duration) error {
	_, err := n.file(ctx, http.MethodPut, file, timeout)
	return err
}

func (n *nodeClient) file(ctx context.Context, method string, body []byte, timeout time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, n.node.URL+ManifestPath, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := n.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("vault: node answers %s", resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, maxMessage+1))
}
