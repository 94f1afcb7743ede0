package vault

import (
	"context"
	"strings"
	"testing"
)

// An operator who compares the nodes sees which of them has another state than the
// rest, whose ledger is short, and who does not answer.
func TestVerify(t *testing.T) {
	withAnna(t, 3, func(t *testing.T, f *testFleet, c *Client) {
		problems := func() string {
			t.Helper()
			var all []string
			for _, v := range f.nodes[0].server.Verify(context.Background()) {
				for _, p := range v.Problems {
					all = append(all, v.Node+" "+p)
				}
			}
			return strings.Join(all, "\n")
		}
		if p := problems(); p != "" {
			t.Errorf("honest nodes: %s", p)
		}
		for _, v := range f.nodes[1].server.Verify(context.Background()) {
			if len(v.Same) != 2 || v.Applied == 0 || v.Ledger == 0 || v.Remembered > v.Ledger {
				t.Errorf("seen by another: %+v", v)
			}
		}
		f.mu.Lock()
		f.nodes[1].kv.Set([]byte("x"), []byte("somebody was here"))
		f.mu.Unlock()
		if p := problems(); !strings.Contains(p, "n1 its state at entry") || !strings.Contains(p, "n2 its state at entry") || strings.Contains(p, "n1 its state at entry 2 is not that of node n3") {
			t.Errorf("another state on n2: %s", p)
		}
		f.mu.Lock()
		f.nodes[1].kv.Delete([]byte("x"))
		f.mu.Unlock()

		// Another sees how long its ledger is, and then it is shorter.
		w := f.nodes[0].server.witness
		if newer, err := w.ask(context.Background(), w.peers[1], f.nodes[0].server.ledger); err != nil || !newer {
			t.Fatalf("asking n3: %v, %v", newer, err)
		}
		f.nodes[2].server.ledger.mu.Lock()
		f.nodes[2].server.ledger.head.count--
		f.nodes[2].server.ledger.mu.Unlock()
		if p := problems(); !strings.Contains(p, "n3 its ledger has") {
			t.Errorf("a short ledger on n3: %s", p)
		}
		f.nodes[2].server.ledger.mu.Lock()
		f.nodes[2].server.ledger.head.count++
		f.nodes[2].server.ledger.mu.Unlock()
		f.nodes[2].halt()
		if p := problems(); !strings.HasPrefix(p, "n3 does not answer") || strings.Contains(p, "n1 ") {
			t.Errorf("n3 is down: %s", p)
		}
	})
}
