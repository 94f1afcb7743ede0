package vault

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"

	"go.uber.org/zap"
)

// A fleet that takes the place of another names it in its manifest. An account moves
// when its owner enters the password: the key is recovered from the fleet before,
// registered with the new one, and destroyed where it was. Both fleets are asked under
// the same pinned roots and the same account name; a token must be good for both.

// Predecessor returns a client of the fleet whose accounts move to this one, nil if the
// manifest names none. The caller closes it.
func (c *Client) Predecessor() (*Client, error) {
	if len(c.manifest.Predecessor) == 0 {
		return nil, nil
	}
	before := c.c
	before.Manifest = c.manifest.Predecessor
	p, err := NewClient(before)
	if err != nil {
		return nil, fmt.Errorf("the fleet before: %w", err)
	}
	return p, nil
}

// move gets the account from the fleet before, if it is there. It fails with
// [ErrNotRegistered] if it is not, and otherwise as [Client.Recover] and [Client.Register]
// do; it may then be called again.
func (c *Client) move(ctx context.Context, password string) ([32]byte, error) {
	p, err := c.Predecessor()
	if err != nil {
		return [32]byte{}, err
	}
	if p == nil {
		return [32]byte{}, ErrNotRegistered
	}
	defer p.Close()
	got, err := p.recover(ctx, password)
	if err != nil {
		return [32]byte{}, err
	}
	if _, err := c.Register(ctx, password, got.key); err != nil {
		return [32]byte{}, fmt.Errorf("registering what the fleet before had: %w", err)
	}
	b := &DisableBody{UID: p.uid, Epoch: got.epoch}
	b.Sig = ed25519.Sign(got.signing, disableMessage(b, recordHash(got.record)))
	a, err := p.command(ctx, KindDisable, b)
	if err == nil {
		err = decided(a)
	}
	if err != nil { // the key is where it should be; who turns the old fleet off destroys the rest
		c.log.Warn("the account was not destroyed at the fleet before", zap.Error(err))
	}
	return got.key, nil
}

// moves says whether err means that the account may still be at the fleet before.
func (c *Client) moves(err error) bool {
	return errors.Is(err, ErrNotRegistered) && len(c.manifest.Predecessor) != 0
}
