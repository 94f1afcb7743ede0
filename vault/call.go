package vault

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"
)

// nodeClient talks to one node.
type nodeClient struct {
	node Node
	http *http.Client
	line *line // nil: HTTP only
}

// pinnedTLS speaks TLS 1.3 with the holder of the node's key, whatever the
// certificate says otherwise: names and authorities mean nothing here.
func pinnedTLS(n Node) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, // VerifyConnection does it, by the manifest's pin
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 {
				return errors.New("vault: node shows no certificate")
			}
			pin := sha256.Sum256(cs.PeerCertificates[0].RawSubjectPublicKeyInfo)
			if subtle.ConstantTimeCompare(pin[:], n.TLSPin[:]) != 1 {
				return errors.New("vault: node's certificate is not the pinned one")
			}
			return nil
		},
	}
}

const (
	dialTime      = 3 * time.Second // a dead host must not cost a call's whole time
	handshakeTime = 10 * time.Second
)

func transport(c *tls.Config) http.RoundTripper {
	return &http.Transport{
		TLSClientConfig:       c,
		DialContext:           (&net.Dialer{Timeout: dialTime}).DialContext,
		TLSHandshakeTimeout:   handshakeTime,
		ResponseHeaderTimeout: 30 * time.Second,
		IdleConnTimeout:       time.Minute,
		MaxIdleConnsPerHost:   4,
	}
}

// ask sends a request to one node and returns its answer, if the node signed it
// for this very request. The code may be any.
func (c *Client) ask(ctx context.Context, n *nodeClient, kind Kind, body any) (*Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.c.Timeout)
	defer cancel()
	r := &Request{Version: version, Kind: kind, Manifest: c.hash, Token: []byte(c.c.Token), Body: encode(body)}
	if n.line != nil {
		if a, err := n.line.ask(ctx, r); !errors.Is(err, ErrNoStream) {
			return a, err
		}
	}
	a, _, err := n.ask(ctx, r)
	return a, err
}

// ask asks by HTTP. It also returns the answer's signed form.
func (n *nodeClient) ask(ctx context.Context, r *Request) (*Answer, *signed, error) {
	rand.Read(r.Nonce[:])
	data := r.encode()
	hr, err := http.NewRequestWithContext(ctx, http.MethodPost, n.node.URL+Path, bytes.NewReader(data))
	if err != nil {
		return nil, nil, err
	}
	hr.Header.Set("Content-Type", "application/cbor")
	resp, err := n.http.Do(hr)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		io.CopyN(io.Discard, resp.Body, 4096)
		return nil, nil, fmt.Errorf("vault: node answers %s", resp.Status)
	}
	out, err := io.ReadAll(io.LimitReader(resp.Body, answerSize+1))
	if err != nil {
		return nil, nil, err
	}
	sg, err := parseSigned(out, n.node)
	if err != nil {
		return nil, nil, err
	}
	a, err := readAnswer(sg.Answer, n.node, r.Manifest, data)
	return a, sg, err
}

// newNodeClient talks to n over rt, nil: TLS with the node's pin.
func newNodeClient(n Node, rt http.RoundTripper) *nodeClient {
	if rt == nil {
		rt = transport(pinnedTLS(n))
	}
	return &nodeClient{node: n, http: &http.Client{
		Transport:     rt,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// parseSigned reads an answer with its padding, and checks the node's signature.
func parseSigned(out []byte, n Node) (*signed, error) {
	if len(out) != answerSize {
		return nil, fmt.Errorf("%w: answer of %d bytes, want %d", ErrMalformed, len(out), answerSize)
	}
	var sg signed
	rest, err := dec.UnmarshalFirst(out, &sg)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	if len(bytes.Trim(rest, "\x00")) != 0 || !bytes.Equal(encode(&sg), out[:len(out)-len(rest)]) {
		return nil, fmt.Errorf("%w: answer is not in its deterministic encoding", ErrMalformed)
	}
	if !verifyIdentity(n.Identity, answerDigest(sg.Answer), sg.Sig) {
		return nil, errUnsigned
	}
	return &sg, nil
}

// readAnswer reads a signed answer and checks that it is one to this request.
func readAnswer(answer []byte, n Node, manifest [32]byte, request []byte) (*Answer, error) {
	var a Answer
	if err := a.decode(answer); err != nil {
		return nil, err
	}
	if a.Version != version || a.Node != n.ID || a.Request != sha256.Sum256(request) || a.Code > codeLast {
		return nil, errors.New("vault: answer is to another request")
	}
	if a.Manifest != manifest && a.Code != CodeManifest {
		return nil, errors.New("vault: answer is by another manifest")
	}
	return &a, nil
}

// reply is one node's answer among many.
type reply struct {
	node   *nodeClient
	place  int // in Client.nodes
	answer *Answer
	err    error
	took   time.Duration
}

// askAll asks nodes at once, those for which body returns one, and sends what they
// say as it comes. The channel is closed after the last. Whoever has heard enough cancels ctx.
func (c *Client) askAll(ctx context.Context, kind Kind, body func(place int) any) <-chan reply {
	out := make(chan reply, len(c.nodes)) // so that nobody has to listen to the end
	done := make(chan struct{}, len(c.nodes))
	for i, n := range c.nodes {
		b := body(i)
		if b == nil {
			done <- struct{}{}
			continue
		}
		go func() {
			defer func() { done <- struct{}{} }()
			start := time.Now()
			a, err := c.ask(ctx, n, kind, b)
			out <- reply{n, i, a, err, time.Since(start)}
		}()
	}
	go func() {
		for range c.nodes {
			<-done
		}
		close(out)
	}()
	return out
}

// command has the leader carry out a command. All commands may be repeated, so
// whatever goes wrong is asked again, with growing pauses, until an answer that
// decides comes or ctx ends.
func (c *Client) command(ctx context.Context, kind Kind, body any) (*Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*c.c.Timeout)
	defer cancel()
	place := int(c.leader.Load())
	var last error
	pause := 50 * time.Millisecond
	for tries := 1; ; tries++ {
		n := c.nodes[place]
		a, err := c.ask(ctx, n, kind, body)
		hint := -1
		switch {
		case err != nil:
			last = fmt.Errorf("node %s: %w", n.node.ID, err)
		case a.Code == CodeNotLeader:
			last = fmt.Errorf("node %s is not the leader", n.node.ID)
			hint = c.place(a.Leader)
		case a.Code == CodeRetry, a.Code == CodeLimited, a.Code == CodeRegression, a.Code == CodeHalted, a.Code == CodeManifest:
			last = fmt.Errorf("node %s answers %q", n.node.ID, a.Code)
		default:
			c.leader.Store(int32(place))
			return a, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, last)
		}
		if hint >= 0 && hint != place {
			place = hint // at once
			if tries <= len(c.nodes) {
				continue
			}
		} else {
			place = (place + 1) % len(c.nodes)
			if tries < len(c.nodes) {
				continue
			}
		}
		c.log.Debug("asking the leader again", zap.Error(last), zap.Duration("after", pause))
		if err := sleep(ctx, pause); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, last)
		}
		pause = min(2*pause, 2*time.Second)
	}
}

// place returns where in nodes the id is, -1 if nowhere.
func (c *Client) place(id string) int {
	for i, n := range c.nodes {
		if n.node.ID == id {
			return i
		}
	}
	return -1
}

// sleep waits between half of d and d and a half, so that clients do not come
// back all at once.
func sleep(ctx context.Context, d time.Duration) error {
	n, err := rand.Int(rand.Reader, big.NewInt(int64(d)+1))
	if err != nil {
		return err
	}
	t := time.NewTimer(d/2 + time.Duration(n.Int64()))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errStale means that what was asked about is not the account's present epoch, or not
// yet. Nothing was counted.
var errStale = fmt.Errorf("%w: the record is not the current one any more", ErrInconsistent)

// decided turns the codes that end a command into the errors of the client.
func decided(a *Answer) error {
	switch a.Code {
	case CodeOK:
		return nil
	case CodeDenied:
		return ErrDenied
	case CodeNone:
		return ErrNotRegistered
	case CodeDestroyed:
		return ErrDestroyed
	case CodeWait:
		return &TooSoon{Left: int(a.Left), RetryAfter: seconds(a.Retry)}
	case CodeStale:
		return errStale
	}
	return fmt.Errorf("vault: the fleet answers %q", a.Code)
}
