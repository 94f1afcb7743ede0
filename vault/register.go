package vault

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"coffer/ppss"
)

// Registration is what [Client.Register] achieved.
type Registration struct {
	Epoch    Epoch
	Proven   bool     // the old password was proved: the old record is gone, the budget is full
	Left     int      // attempts left
	Degraded []string // ids of nodes that do not take part, or have not confirmed
}

// Register stores key under password. If the account has a key already: with
// the old password, which costs an attempt, the old record is destroyed at once;
// without, both live on for the policy's grace, and the budget is not refilled.
// So it is with the password of a record that came about like that itself, while
// the one before lives.
// After an error it may be called again with the same arguments. It fails with
// [ErrDestroyed] if the account was destroyed before: see [Client.RegisterAgain].
func (c *Client) Register(ctx context.Context, password string, key [32]byte, old ...string) (Registration, error) {
	return c.register(ctx, password, key, false, old)
}

// RegisterAgain stores key for an account whose key in the vault was destroyed.
// The password must not be one that the account had before: whoever destroyed
// it has used up the guesses at that one, and would get as many again.
func (c *Client) RegisterAgain(ctx context.Context, password string, key [32]byte) (Registration, error) {
	return c.register(ctx, password, key, true, nil)
}

func (c *Client) register(ctx context.Context, password string, key [32]byte, again bool, old []string) (Registration, error) {
	if err := c.resume(ctx); err != nil {
		return Registration{}, err
	}
	var signing ed25519.PrivateKey
	if len(old) > 0 {
		got, err := c.recover(ctx, old[0])
		if err != nil {
			return Registration{}, fmt.Errorf("proving the old password: %w", err)
		}
		if got.senior {
			signing = got.signing
		}
	}
	return c.replace(ctx, password, key, again, signing)
}

// replace begins an epoch, signed for by the key of the one before unless nil.
func (c *Client) replace(ctx context.Context, password string, key [32]byte, again bool, signing ed25519.PrivateKey) (Registration, error) {
	h, nodes, err := c.stage(ctx, password)
	if err != nil {
		return Registration{}, err
	}
	h.Again = again
	b, err := c.deal(h, nodes, key)
	if err != nil {
		return Registration{}, err
	}
	if signing != nil {
		b.Old = ed25519.Sign(signing, succeedMessage(b.Record))
	}
	if err := c.saveResume(b); err != nil { // before it is sent: from then on it may take effect
		return Registration{}, err
	}
	return c.commit(ctx, b)
}

// stage begins an epoch and collects the nodes' evaluations of the password. The
// header has no nodes yet; their keys come with nodes, sorted by id.
func (c *Client) stage(ctx context.Context, password string) (*Header, []staging, error) {
	h := &Header{
		Version: version, Fleet: c.manifest.Fleet, UID: c.uid, Argon: c.manifest.Argon,
		Threshold: c.manifest.Threshold, Policy: c.manifest.Policy,
	}
	rand.Read(h.Epoch[:])
	rand.Read(h.Salt[:])
	pwh, err := ppss.Stretch(password, h.Salt[:], h.Fleet[:], h.UID[:], h.Argon.ppss())
	if err != nil {
		return nil, nil, err
	}
	blinded, err := ppss.Blind(ppss.Input(h.Fleet[:], h.UID[:], h.Epoch[:], pwh))
	if err != nil {
		return nil, nil, err
	}
	b := &StartBody{UID: c.uid, Epoch: h.Epoch, Element: blinded.Element()}
	a, err := c.command(ctx, KindStart, b)
	if err == nil {
		err = decided(a)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("beginning a registration: %w", err)
	}
	nodes, err := c.nodeKeys(ctx, b, blinded)
	return h, nodes, err
}

// staging is one node's part in a registration.
type staging struct {
	id     string
	public [33]byte
	rho    [32]byte
}

// nodeKeys has the nodes make their keys. Those that do not answer do not take
// part; one more than the threshold must, where there is one.
func (c *Client) nodeKeys(ctx context.Context, b *StartBody, blinded *ppss.Blinded) ([]staging, error) {
	want := min(int(c.manifest.Threshold)+1, len(c.nodes))
	if c.c.AllowDegraded {
		want = int(c.manifest.Threshold)
	}
	got := make(map[int]staging)
	var last error
	for tries := range 5 {
		if tries > 0 && sleep(ctx, time.Duration(tries)*250*time.Millisecond) != nil {
			break
		}
		for r := range c.askAll(ctx, KindKey, func(i int) any {
			_, have := got[i]
			return pick(!have, (*KeyBody)(b))
		}) {
			st, err := checkKey(r, b, blinded)
			if err != nil {
				last = fmt.Errorf("node %s: %w", r.node.node.ID, err)
				continue
			}
			got[r.place] = st
		}
		if len(got) == len(c.nodes) || len(got) >= want && tries > 1 {
			break
		}
	}
	if len(got) < want {
		return nil, fmt.Errorf("%w: %d of %d nodes made a key, want %d: %w", ErrUnavailable, len(got), len(c.nodes), want, last)
	}
	var nodes []staging
	for i := range c.nodes { // in the manifest's order, which is that of the ids
		if st, ok := got[i]; ok {
			nodes = append(nodes, st)
		}
	}
	return nodes, nil
}

func checkKey(r reply, b *StartBody, blinded *ppss.Blinded) (staging, error) {
	if r.err != nil {
		return staging{}, r.err
	}
	a := r.answer
	if err := decided(a); err != nil {
		return staging{}, err
	}
	if a.UID != b.UID || a.Epoch != b.Epoch || a.Element != b.Element || ppss.CheckPoint(a.Public) != nil {
		return staging{}, errors.New("it answers for another registration")
	}
	rho, err := blinded.Finalize(a.Result)
	return staging{a.Node, a.Public, rho}, err
}

// deal makes the record.
func (c *Client) deal(h *Header, nodes []staging, key [32]byte) (*CommitBody, error) {
	var parts []ppss.Node
	for _, n := range nodes {
		h.Nodes = append(h.Nodes, RecordNode{n.id, n.public})
		parts = append(parts, ppss.Node{ID: []byte(n.id), Rho: n.rho})
	}
	header := encode(h)
	d, err := ppss.Deal(header, h.Epoch[:], key, int(h.Threshold), parts)
	if err != nil {
		return nil, err
	}
	rec := encode(&Record{
		Header: header, Masked: d.Masked, Envelope: d.Envelope,
		Public: [32]byte(d.Signing.Public().(ed25519.PublicKey)),
	})
	return &CommitBody{UID: c.uid, Record: rec, Sig: [64]byte(ed25519.Sign(d.Signing, commitMessage(rec)))}, nil
}

// commit makes the record the account's, and collects receipts: a threshold of
// nodes must hold it, else it may be lost with the leader.
func (c *Client) commit(ctx context.Context, b *CommitBody) (Registration, error) {
	_, h, err := parseRecord(b.Record)
	if err != nil {
		return Registration{}, err
	}
	a, err := c.command(ctx, KindCommit, b)
	if err != nil {
		return Registration{}, fmt.Errorf("committing a registration: %w", err)
	}
	if err := decided(a); err != nil {
		c.dropResume() // it will never take effect
		return Registration{}, fmt.Errorf("committing a registration: %w", err)
	}
	reg := Registration{Epoch: h.Epoch, Proven: len(b.Old) != 0, Left: int(a.Left)}
	missing, err := c.receipts(ctx, h, recordHash(b.Record))
	if err != nil {
		return reg, err
	}
	reg.Degraded = missing
	c.dropResume()
	return reg, nil
}

// receipts returns the nodes that do not confirm the record.
func (c *Client) receipts(ctx context.Context, h *Header, hash [32]byte) (missing []string, err error) {
	waiting := c.participants(h)
	n, last := len(waiting), error(nil)
	for tries := range 4 {
		if tries > 0 && sleep(ctx, time.Duration(tries)*200*time.Millisecond) != nil {
			break
		}
		body := &ReceiptBody{UID: c.uid, Epoch: h.Epoch, Hash: hash}
		for r := range c.askAll(ctx, KindReceipt, func(i int) any { return pick(waiting[i] != nil, body) }) {
			switch {
			case r.err != nil:
				last = fmt.Errorf("node %s: %w", r.node.node.ID, r.err)
			case r.answer.Code != CodeOK || r.answer.Epoch != h.Epoch:
				last = fmt.Errorf("node %s answers %q", r.node.node.ID, r.answer.Code)
			default:
				delete(waiting, r.place)
			}
		}
		if len(waiting) == 0 {
			break
		}
	}
	if n-len(waiting) < int(h.Threshold) {
		return nil, fmt.Errorf("%w: %d nodes confirm the registration, want %d: %w", ErrUnavailable, n-len(waiting), h.Threshold, last)
	}
	for i, node := range c.nodes {
		if _, in := h.node(node.node.ID); !in || waiting[i] != nil {
			missing = append(missing, node.node.ID)
		}
	}
	return missing, nil
}
