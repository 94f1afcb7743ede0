package vault

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// moved makes a second fleet, which the first one's accounts move to, and clients of it.
func moved(f *testFleet) (*testFleet, func(account string) *Client) {
	next := newFleet(f.tb, 3, func(m *Manifest) { m.Predecessor = f.file })
	hosts := make(map[string]http.RoundTripper) // both fleets have nodes of the same names
	for i, n := range f.nodes {
		hosts[string(f.manifest.Nodes[i].Identity[:])] = n
	}
	for i, n := range next.nodes {
		hosts[string(next.manifest.Nodes[i].Identity[:])] = n
	}
	return next, func(account string) *Client {
		return next.client(account, func(c *ClientConfig) {
			c.Token = ""
			c.Roots = Roots{Keys: append(f.roots().Keys, next.roots().Keys...), Quorum: 1}
			c.Transport = func(n Node) http.RoundTripper { return hosts[string(n.Identity[:])] }
		})
	}
}

// An account moves to the fleet that takes the place of its own when its password is
// entered: its key is there then, under the full budget, and destroyed where it was.
func TestAccountMoves(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3)
		defer f.close()
		f.auth = OpenAuth{}
		for _, n := range f.nodes {
			n.halt()
			n.start()
			n.awaitReady()
		}
		key := f.register(f.client("anna"), "right")
		if left := f.wrong(f.client("anna"), "wrong"); left != 9 {
			t.Fatalf("%d left", left)
		}
		next, client := moved(f)
		defer next.close()
		next.auth = OpenAuth{}
		for _, n := range next.nodes {
			n.halt()
			n.start()
			n.awaitReady()
		}
		ctx := context.Background()
		c := client("anna")
		var wrong *WrongPassword
		if _, err := c.Recover(ctx, "wrong too"); !errors.As(err, &wrong) || wrong.Left != 8 {
			t.Errorf("a wrong password: %v, want 8 left at the fleet before", err)
		}
		if got, err := c.Recover(ctx, "right"); err != nil || got != key {
			t.Fatalf("the right password: %v", err)
		}
		if st, err := c.Status(ctx); err != nil || !st.Registered || st.Left != 10 {
			t.Errorf("at the new fleet: %+v, %v", st, err)
		}
		if st, err := f.client("anna").Status(ctx); err != nil || !st.Destroyed {
			t.Errorf("at the fleet before: %+v, %v", st, err)
		}
		synctest.Wait() // each node destroys its key when it follows
		for _, n := range f.nodes {
			if left := n.keyFilesLeft(); left != 0 {
				t.Errorf("node %s has %d keys", n.id, left)
			}
		}
		if got, err := client("anna").Recover(ctx, "right"); err != nil || got != key {
			t.Errorf("once more: %v", err)
		}
		if _, err := client("nobody").Recover(ctx, "right"); !errors.Is(err, ErrNotRegistered) {
			t.Errorf("an account of neither: %v", err)
		}
		var b bytes.Buffer
		if err := next.manifest.Show(&b); err != nil || !strings.Contains(b.String(), "its accounts move here") {
			t.Errorf("the manifest does not show it: %v", err)
		}
	})
}

// A predecessor that the pinned roots have not signed gets no password's element.
func TestPredecessorIsVerified(t *testing.T) {
	f := newFleet(t, 1)
	defer f.close()
	m := NewManifest("next", f.manifest.Nodes, time.Now())
	sm := &SignedManifest{Manifest: encode(f.manifest), Signatures: []rootSignature{}}
	m.Predecessor = sm.Bytes()
	c := f.client("anna", func(c *ClientConfig) { c.Manifest = f.signed(m) })
	if _, err := c.Predecessor(); !errors.Is(err, ErrManifest) {
		t.Errorf("unsigned: %v", err)
	}
	for name, file := range map[string][]byte{"garbage": {1, 2, 3}, "itself": f.file, "too long": make([]byte, maxPredecessor+1)} {
		m := f.manifest.Next(time.Now())
		if m.Predecessor = file; m.Check() == nil {
			t.Errorf("%s is taken for a predecessor", name)
		}
	}
}
