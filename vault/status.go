package vault

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"
)

// Status is what the fleet says of the account, and of itself.
type Status struct {
	Registered bool
	Destroyed  bool
	Left       int       // attempts left
	Budget     int       // attempts after a success
	Failed     int       // unproved attempts since the last success
	LastFailed time.Time // zero if none
	DisableAt  time.Time // a disable without password takes effect; zero if none
	Nodes      []NodeStatus
}

// NodeStatus is one node as the client sees it.
type NodeStatus struct {
	ID       string
	Operator string
	Holds    bool          // takes part in the account's record
	Latency  time.Duration // of its answer
	Err      error         // why it did not answer, or what is wrong with it
}

// Status asks all nodes. It spends nothing.
func (c *Client) Status(ctx context.Context) (Status, error) {
	st := Status{Nodes: make([]NodeStatus, len(c.nodes))}
	votes := make(map[story][]*Answer)
	for r := range c.askAll(ctx, KindRecord, func(int) any { return &RecordBody{UID: c.uid} }) {
		n := &st.Nodes[r.place]
		n.ID, n.Operator, n.Latency, n.Err = r.node.node.ID, r.node.node.Operator, r.took, r.err
		if r.err != nil {
			continue
		}
		switch r.answer.Code {
		case CodeOK, CodeNone, CodeDestroyed:
			k := story{r.answer.Code, string(r.answer.Record), string(r.answer.Former)}
			votes[k] = append(votes[k], r.answer)
		case CodeDenied:
			n.Err = ErrDenied
		default:
			n.Err = fmt.Errorf("vault: node answers %q", r.answer.Code)
		}
	}
	var agreed []*Answer
	for _, as := range votes {
		if len(as) > len(agreed) {
			agreed = as
		}
	}
	if len(agreed) < int(c.manifest.Threshold) {
		return st, c.disagreement(st, votes)
	}
	c.tell(&st, agreed)
	return st, nil
}

// disagreement says why a threshold of nodes does not tell the same.
func (c *Client) disagreement(st Status, votes map[story][]*Answer) error {
	if len(votes) > 1 {
		return ErrInconsistent
	}
	for _, n := range st.Nodes {
		if errors.Is(n.Err, ErrDenied) {
			return ErrDenied
		}
	}
	return ErrUnavailable
}

// tell fills in what the nodes that agree say. Where they are not equally far,
// the most pessimistic counts.
func (c *Client) tell(st *Status, agreed []*Answer) {
	a := agreed[0]
	st.Registered, st.Destroyed = a.Code == CodeOK, a.Code == CodeDestroyed
	st.Left = int(a.Left)
	for _, o := range agreed {
		st.Left = min(st.Left, int(o.Left))
		st.Failed = max(st.Failed, int(o.Failed))
		if o.Last != 0 && o.Failed != 0 {
			st.LastFailed = time.UnixMilli(int64(o.Last))
		}
	}
	if !st.Registered {
		return
	}
	_, h, err := c.openRecord(a.Record)
	if err != nil {
		return
	}
	st.Budget = int(h.Policy.Budget)
	if a.Disable != 0 {
		st.DisableAt = time.UnixMilli(int64(a.Disable)).Add(seconds(h.Policy.Disable))
	}
	for i := range st.Nodes {
		_, st.Nodes[i].Holds = h.node(c.nodes[i].node.ID)
	}
}

// Disable destroys the key in the vault: at once with the password (which costs
// an attempt), without it after the policy's delay. The password of a record that
// replaced another without proof does not make it quicker within the grace.
func (c *Client) Disable(ctx context.Context, password ...string) error {
	b := &DisableBody{UID: c.uid}
	if len(password) > 0 {
		got, err := c.recover(ctx, password[0])
		if err != nil {
			return fmt.Errorf("proving the password: %w", err)
		}
		b.Epoch = got.epoch
		b.Sig = ed25519.Sign(got.signing, disableMessage(b, recordHash(got.record)))
	} else {
		rec, err := c.fetch(ctx)
		if err != nil {
			return err
		}
		_, h, err := c.openRecord(rec.current)
		if err != nil {
			return err
		}
		b.Epoch = h.Epoch
	}
	a, err := c.command(ctx, KindDisable, b)
	if err != nil {
		return err
	}
	return decided(a)
}
