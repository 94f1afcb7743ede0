package vault

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"coffer/ppss"
)

// Recover returns the key. It costs an attempt, which a right password gives
// back. It fails with *[WrongPassword], *[TooSoon], [ErrDestroyed],
// [ErrNotRegistered], [ErrDenied], [ErrInconsistent] or [ErrUnavailable]. An account
// that is still at the fleet's predecessor moves here.
func (c *Client) Recover(ctx context.Context, password string) ([32]byte, error) {
	got, err := c.recover(ctx, password)
	if c.moves(err) {
		return c.move(ctx, password)
	}
	if err != nil {
		return [32]byte{}, err
	}
	c.renew(ctx, password, got)
	return got.key, nil
}

// recovered is what a right password gives.
type recovered struct {
	key     [32]byte
	signing ed25519.PrivateKey // of the epoch
	epoch   Epoch
	record  []byte
	seq     uint64
	used    uint32 // attempts in the life of the epoch, if it is the current one
	senior  bool   // the epoch's key speaks for the account: no former one lives beside it
}

// recover tries the password on the current record, and on the former one while
// it lives: somebody with the account's token may have replaced the record of
// somebody with the password. Where delays leave time for one of the two only, it
// is each one's turn in turn, for the former one does not live long.
//
// A record that gave way to another between its fetching and the attempt is fetched
// anew, as long as no attempt was counted for this password.
func (c *Client) recover(ctx context.Context, password string) (*recovered, error) {
	for tries := 1; ; tries++ {
		got, err := c.recoverOnce(ctx, password)
		if !errors.Is(err, errStale) || tries == staleTries || sleep(ctx, 300*time.Millisecond) != nil {
			return got, err
		}
	}
}

const staleTries = 5

func (c *Client) recoverOnce(ctx context.Context, password string) (*recovered, error) {
	rec, err := c.fetch(ctx)
	if err != nil {
		return nil, err
	}
	records := [][]byte{rec.current}
	if len(rec.former) != 0 {
		records = append(records, rec.former)
		if n := int(rec.failed); n > 0 && n%2 == 0 && c.manifest.Policy.delay(n+1) > 0 {
			slices.Reverse(records)
		}
	}
	var wrong *WrongPassword
	for i, record := range records {
		got, err := c.guess(ctx, password, record)
		if errors.Is(err, errStale) && wrong != nil { // its grace has ended; the other one's answer stands
			return nil, wrong
		}
		if errors.As(err, &wrong) && wrong.Left > 0 && wrong.RetryAfter == 0 && i+1 < len(records) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if bytes.Equal(record, rec.current) {
			got.used = rec.used + 1
		}
		got.senior = len(rec.former) == 0 || bytes.Equal(record, rec.former)
		return got, nil
	}
	return nil, ErrNotRegistered
}

// fetched is what at least a threshold of the nodes says of the account.
type fetched struct {
	current, former []byte
	used            uint32 // attempts in the current epoch's life
	failed          uint8  // attempts that count, by the word of one node
}

// story is what nodes must agree on.
type story struct {
	code            Code
	current, former string
}

// fetch returns the record that a threshold of the nodes signed. Nodes that have
// not all applied the latest yet are asked again. It spends nothing.
func (c *Client) fetch(ctx context.Context) (*fetched, error) {
	for tries := 1; ; tries++ {
		f, err := c.fetchOnce(ctx)
		if !errors.Is(err, ErrInconsistent) || tries == 3 || sleep(ctx, 300*time.Millisecond) != nil {
			return f, err
		}
	}
}

func (c *Client) fetchOnce(ctx context.Context) (*fetched, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	votes := make(map[story]int)
	answered, denied, outdated := 0, 0, 0
	var last error
	for r := range c.askAll(ctx, KindRecord, func(int) any { return &RecordBody{UID: c.uid} }) {
		if r.err != nil {
			last = fmt.Errorf("node %s: %w", r.node.node.ID, r.err)
			continue
		}
		switch r.answer.Code {
		case CodeOK, CodeNone, CodeDestroyed:
		default:
			switch r.answer.Code {
			case CodeDenied:
				denied++
			case CodeManifest:
				outdated++
			}
			last = fmt.Errorf("node %s answers %q", r.node.node.ID, r.answer.Code)
			continue
		}
		answered++
		st := story{r.answer.Code, string(r.answer.Record), string(r.answer.Former)}
		if votes[st]++; votes[st] < int(c.manifest.Threshold) {
			continue
		}
		if err := decided(r.answer); err != nil {
			return nil, err
		}
		return &fetched{r.answer.Record, r.answer.Former, r.answer.Used, r.answer.Failed}, nil
	}
	t := int(c.manifest.Threshold)
	switch {
	case answered >= t:
		return nil, ErrInconsistent
	case denied > len(c.nodes)-t:
		return nil, ErrDenied
	case outdated > len(c.nodes)-t:
		return nil, fmt.Errorf("%w: the nodes follow another than number %d", ErrManifest, c.manifest.Sequence)
	case last == nil:
		last = errors.New("no node answered")
	}
	return nil, fmt.Errorf("%w: %w", ErrUnavailable, last)
}

// guess spends an attempt on a record.
func (c *Client) guess(ctx context.Context, password string, record []byte) (*recovered, error) {
	rec, h, err := c.openRecord(record)
	if err != nil {
		return nil, err
	}
	pwh, err := ppss.Stretch(password, h.Salt[:], h.Fleet[:], h.UID[:], h.Argon.ppss())
	if err != nil {
		return nil, err
	}
	blinded, err := ppss.Blind(ppss.Input(h.Fleet[:], h.UID[:], h.Epoch[:], pwh))
	if err != nil {
		return nil, err
	}
	body := &AttemptBody{UID: c.uid, Epoch: h.Epoch, Element: blinded.Element()}
	rand.Read(body.ID[:])
	a, err := c.command(ctx, KindAttempt, body)
	if err != nil {
		return nil, err
	}
	if err := decided(a); err != nil {
		return nil, err
	}
	got, err := c.evaluate(ctx, &guessing{
		record: rec, header: h, attempt: body, seq: a.Seq, blinded: blinded, waiting: c.participants(h),
	})
	if errors.Is(err, ppss.ErrSecret) {
		return nil, &WrongPassword{Left: int(a.Left), RetryAfter: h.Policy.delay(int(a.Failed))}
	}
	if err != nil {
		return nil, err
	}
	got.record = record
	c.prove(ctx, got, body)
	return got, nil
}

// openRecord checks a record that a threshold of nodes has shown.
func (c *Client) openRecord(record []byte) (*Record, *Header, error) {
	rec, h, err := parseRecord(record)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: the record: %w", ErrInconsistent, err)
	}
	if h.Fleet != c.manifest.Fleet || h.UID != c.uid {
		return nil, nil, fmt.Errorf("%w: the record is another account's", ErrInconsistent)
	}
	return rec, h, nil
}

// evaluate collects the nodes' evaluations and tries to open the record with
// each that comes in, until it opens: a node that is slow, dead or
// lying does not stand in the way of those that are not. It fails with
// [ppss.ErrSecret] when a threshold has answered and the rest has had its time.
func (c *Client) evaluate(ctx context.Context, g *guessing) (*recovered, error) {
	pause := 100 * time.Millisecond
	for tries := range evalTries {
		if tries > 0 && sleep(ctx, pause<<tries) != nil {
			break
		}
		got, behind, err := c.round(ctx, g)
		if got != nil || err != nil {
			return got, err
		}
		enough := len(g.answers) >= int(g.header.Threshold)
		if len(g.waiting) == 0 || enough && (!behind || tries > 0) {
			break
		}
	}
	if len(g.answers) < int(g.header.Threshold) {
		return nil, fmt.Errorf("%w: %d of %d evaluations: %w", ErrUnavailable, len(g.answers), g.header.Threshold, g.last)
	}
	return nil, ppss.ErrSecret
}

const (
	evalTries = 6               // how often a node is asked for an evaluation it cannot give yet
	evalGrace = 3 * time.Second // for the other nodes, when a threshold has answered and nothing opens
)

// guessing is a counted attempt on its way.
type guessing struct {
	record  *Record
	header  *Header
	attempt *AttemptBody
	seq     uint64
	blinded *ppss.Blinded
	waiting map[int]*participant // by place in Client.nodes
	answers []ppss.Answer
	last    error // why a node's answer was of no use
}

// round asks every node that has not answered once. behind says that one of them
// lives but is not as far as the leader. An error ends the attempt.
func (c *Client) round(ctx context.Context, g *guessing) (got *recovered, behind bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for r := range c.askAll(ctx, KindEval, func(i int) any { return pick(g.waiting[i] != nil, (*EvalBody)(g.attempt)) }) {
		err := g.take(r)
		behind = behind || errors.Is(err, errAgain) && r.err == nil
		if err != nil {
			g.last = fmt.Errorf("node %s: %w", r.node.node.ID, err)
			c.log.Warn("a node's evaluation is of no use", zap.String("node", r.node.node.ID), zap.Error(err))
			continue
		}
		got, err := c.open(g)
		if err == nil || !errors.Is(err, ppss.ErrSecret) {
			return got, false, err
		}
		if len(g.answers) == int(g.header.Threshold) {
			defer time.AfterFunc(evalGrace, cancel).Stop()
		}
	}
	return nil, behind, nil
}

// take adds a node's answer to those that count.
func (g *guessing) take(r reply) error {
	err := checkEval(r, g.attempt, g.seq)
	if errors.Is(err, errAgain) {
		return err
	}
	n := g.waiting[r.place]
	delete(g.waiting, r.place)
	if err != nil {
		return err
	}
	if r.answer.Public != g.header.Nodes[n.index].Public {
		return errors.New("it has another key than it registered")
	}
	rho, err := g.blinded.Finalize(r.answer.Result)
	if err != nil {
		return err
	}
	g.answers = append(g.answers, ppss.Answer{Index: n.index, ID: []byte(n.id), Masked: g.record.Masked[n.index], Rho: rho})
	return nil
}

// pick returns v or nil.
func pick(ok bool, v any) any {
	if ok {
		return v
	}
	return nil
}

// participant is a node of the manifest that is one of the record.
type participant struct {
	index int // in the record
	id    string
}

// participants returns the record's nodes by their place in Client.nodes.
func (c *Client) participants(h *Header) map[int]*participant {
	m := make(map[int]*participant)
	for i, n := range h.Nodes {
		if p := c.place(n.ID); p >= 0 {
			m[p] = &participant{i, n.ID}
		}
	}
	return m
}

// errAgain marks an answer that may be better next time.
var errAgain = errors.New("vault: not yet")

// checkEval returns nil for an evaluation of this attempt.
func checkEval(r reply, b *AttemptBody, seq uint64) error {
	if r.err != nil {
		return fmt.Errorf("%w: %w", errAgain, r.err)
	}
	a := r.answer
	switch a.Code {
	case CodeOK:
	case CodeRetry, CodeStale, CodeLimited, CodeWait:
		return fmt.Errorf("%w: it answers %q", errAgain, a.Code)
	default:
		return fmt.Errorf("it answers %q", a.Code)
	}
	if a.UID != b.UID || a.Epoch != b.Epoch || a.ID != b.ID || a.Element != b.Element || a.Seq != seq {
		return errors.New("it answers for another attempt")
	}
	return nil
}

// open tries the answers, and checks that the record was signed by whom the
// password makes: a fleet cannot invent one.
func (c *Client) open(g *guessing) (*recovered, error) {
	h := g.header
	if len(g.answers) < int(h.Threshold) {
		return nil, ppss.ErrSecret
	}
	r, err := ppss.Recover(g.record.Header, h.Epoch[:], g.record.Envelope, int(h.Threshold), g.answers)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(r.Signing.Public().(ed25519.PublicKey), g.record.Public[:]) {
		return nil, fmt.Errorf("%w: the record's proof key is not the password's", ErrInconsistent)
	}
	for _, i := range r.Lied {
		c.log.Warn("a node's evaluation is wrong", zap.String("node", h.Nodes[i].ID))
	}
	return &recovered{key: r.Key, signing: r.Signing, epoch: h.Epoch, seq: g.seq}, nil
}

// prove gives the attempt back. The key is recovered already: a failure is no
// error, the next success gives back more.
func (c *Client) prove(ctx context.Context, got *recovered, b *AttemptBody) {
	p := &ProveBody{UID: b.UID, Epoch: b.Epoch, ID: b.ID, Seq: got.seq}
	p.Sig = [64]byte(ed25519.Sign(got.signing, proveMessage(p, recordHash(got.record))))
	a, err := c.command(ctx, KindProve, p)
	if err == nil {
		err = decided(a)
	}
	if err != nil {
		c.log.Warn("the attempt was not given back", zap.Error(err))
	}
}

// renew makes a new epoch, with the same password, once half of the life of this one
// is used up: the fewer evaluations of one key there are, the less a node that
// falls later has to tell. It also does so when nodes that take no part in the record
// could, as those that took the place of lost ones. The key is recovered already: a
// failure is no error.
func (c *Client) renew(ctx context.Context, password string, got *recovered) {
	_, h, err := parseRecord(got.record)
	if err != nil || !got.senior || got.used == 0 || got.used < (h.Policy.Lifetime+1)/2 && !c.mends(ctx, h) {
		return
	}
	if err = c.resume(ctx); err == nil {
		_, err = c.replace(ctx, password, got.key, false, got.signing)
	}
	if err != nil {
		c.log.Warn("the account was not registered anew", zap.Error(err))
	}
}

// mendTime bounds how long a recovery that is done already waits for nodes.
const mendTime = 3 * time.Second

// mends says whether a new record would have more nodes than this one: some that
// take no part know the account, and all that take part are there.
func (c *Client) mends(ctx context.Context, h *Header) bool {
	within, without := len(c.participants(h)), 0
	if within == len(c.nodes) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, mendTime)
	defer cancel()
	for r := range c.askAll(ctx, KindRecord, func(int) any { return &RecordBody{UID: c.uid} }) {
		if r.err != nil || r.answer.Code != CodeOK {
			continue
		}
		if _, in := h.node(r.node.node.ID); in {
			within--
		} else {
			without++
		}
	}
	return within == 0 && without > 0
}
