package vault

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"

	"coffer/internal/durable"
)

// witness lets the nodes remember for each other how long their ledgers were. The
// anchor in the HSM cannot tell that a disk was restored when the HSM is software
// on the same disk, or was restored with it; the other nodes can.
//
// Each node keeps the newest signed head that it got from each other one. A
// node that starts asks for its own, and serves no guess before so many others
// have answered that with it they are a threshold. What they show it has signed
// itself, so none of them can make a longer one up to keep it down.
type witness struct {
	id    string // this node's
	path  string
	log   *zap.Logger
	every time.Duration // witnessEvery; tests that pass weeks ask less often
	over  func(Node) http.RoundTripper
	force heeder

	mu    sync.Mutex
	self  Node
	need  int      // others that must have answered
	hash  [32]byte // of the manifest
	peers []*nodeClient
	seen  map[string]*signed // newest answer, by node
	heard map[string]bool    // others that have answered since the start, by node
}

// heeder is what the witness does with other nodes' manifests; [Server] is one.
type heeder interface {
	Follow(file []byte) (newer bool, err error)
	inForce() *inForce
}

const (
	witnessName  = "witness" // file of the heads seen
	witnessEvery = 10 * time.Second
	witnessFirst = 100 * time.Millisecond // while not enough have answered; doubles up to the above
	witnessCall  = 5 * time.Second
)

// witnessFile is the content of the file.
type witnessFile struct {
	Version uint8    `cbor:"1,keyasint"`
	Seen    []signed `cbor:"2,keyasint"`
}

func newWitness(c *ServerConfig, m *Manifest, hash [32]byte, force heeder, log *zap.Logger) (*witness, error) {
	w := &witness{
		id: c.NodeID, path: filepath.Join(c.Dir, witnessName), log: log, every: witnessEvery, over: c.Transport, force: force,
		seen: make(map[string]*signed), heard: make(map[string]bool),
	}
	w.follow(m, hash)
	b, err := readSmall(w.path, maxMessage+1)
	if errors.Is(err, os.ErrNotExist) {
		return w, nil
	}
	if err != nil {
		return nil, err
	}
	var f witnessFile
	if err := decode(b, &f); err != nil {
		return nil, fmt.Errorf("reading %s: %w", w.path, err)
	}
	for i := range f.Seen {
		for _, p := range w.peers { // those of the present manifest, by their present keys
			w.note(p.node, &f.Seen[i])
		}
	}
	return w, nil
}

// follow takes the other nodes from a newer manifest. What is remembered of those that
// stay is remembered on.
func (w *witness) follow(m *Manifest, hash [32]byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.peers {
		p.http.CloseIdleConnections()
	}
	w.need, w.hash, w.peers = int(m.Threshold)-1, hash, nil
	heard := make(map[string]bool)
	for _, n := range m.Nodes {
		if n.ID == w.id {
			w.self = n
			continue
		}
		var rt http.RoundTripper
		if w.over != nil {
			rt = w.over(n)
		}
		w.peers = append(w.peers, newNodeClient(n, rt))
		heard[n.ID] = w.heard[n.ID]
	}
	maps.DeleteFunc(heard, func(_ string, yes bool) bool { return !yes })
	w.heard = heard
}

// others returns the other nodes, and what to say to them.
func (w *witness) others() (self Node, hash [32]byte, peers []*nodeClient) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.self, w.hash, w.peers
}

// readHead returns the head in a signed answer of the node.
func readHead(n Node, sg *signed) (head, bool) {
	var a Answer
	if !verifyIdentity(n.Identity, answerDigest(sg.Answer), sg.Sig) || decode(sg.Answer, &a) != nil || a.Node != n.ID {
		return head{}, false
	}
	return headOf(&a), true
}

// headOf is the head that an answer shows.
func headOf(a *Answer) head { return head{binary.BigEndian.Uint64(a.Head[:8]), [32]byte(a.Head[8:])} }

// peer returns another node, nil if there is none of that name.
func (w *witness) peer(id string) *nodeClient {
	_, _, peers := w.others()
	for _, p := range peers {
		if p.node.ID == id {
			return p
		}
	}
	return nil
}

// note keeps the answer if it is the node's, and newer than what is there.
func (w *witness) note(n Node, sg *signed) (newer bool) {
	h, ok := readHead(n, sg)
	if !ok {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if old := w.seen[n.ID]; old != nil {
		if o, ok := readHead(n, old); ok && o.count >= h.count {
			return false
		}
	}
	w.seen[n.ID] = sg
	return true
}

// of returns the newest answer of a node as bytes, none if there is none.
func (w *witness) of(node string) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	if sg := w.seen[node]; sg != nil {
		return encode(sg)
	}
	return nil
}

// enough says that the node may serve guesses.
func (w *witness) enough() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.heard) >= w.need
}

// own is what the witness must know of this node's ledger.
type own interface {
	// began returns the head when the ledger was opened.
	began() head
	// had says whether h may have been the head since then.
	had(h head) bool
}

// ask asks one other node, and returns [ErrRollback] if it has seen more of this
// node's ledger than there was at the start, other than what was added since. The
// head of now would not do: it moves while the question is under way, and an old
// ledger that catches up would soon be as long as the lost one.
func (w *witness) ask(ctx context.Context, p *nodeClient, l own) (newer bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, witnessCall)
	defer cancel()
	self, hash, _ := w.others()
	a, _, err := question(ctx, p, hash, self.ID)
	if err != nil {
		return false, err
	}
	if a.Code == CodeManifest {
		return false, w.compare(ctx, p)
	}
	if len(a.Record) != 0 {
		var mine signed
		if err := decode(a.Record, &mine); err != nil {
			return false, err
		}
		h, ok := readHead(self, &mine)
		if first := l.began(); ok && h.count >= first.count && !l.had(h) {
			return false, fmt.Errorf("node %s has seen %d entries of this ledger, which had %d: %w", p.node.ID, h.count, first.count, ErrRollback)
		}
	}
	w.mu.Lock()
	if w.hash == hash {
		w.heard[p.node.ID] = true
	}
	w.mu.Unlock()
	// What is kept is an answer that shows no other: else each would hold the one
	// before, which holds the one before, until none fits an answer any more.
	_, sg, err := question(ctx, p, hash, "")
	if err != nil {
		return false, err
	}
	return w.note(p.node, sg), nil
}

// compare is for a node that follows another manifest: the newer one of the two is for both.
func (w *witness) compare(ctx context.Context, p *nodeClient) error {
	file, err := p.manifest(ctx, witnessCall)
	if err != nil {
		return err
	}
	newer, err := w.force.Follow(file)
	if newer {
		w.log.Info("another node has a newer manifest, which is followed", zap.String("node", p.node.ID))
	}
	if newer || err != nil {
		return err
	}
	return p.hand(ctx, w.force.inForce().file, witnessCall)
}

// question asks a node for its head, and for what it has seen of another, "" for none.
func question(ctx context.Context, p *nodeClient, hash [32]byte, of string) (*Answer, *signed, error) {
	a, sg, err := p.ask(ctx, &Request{Version: version, Kind: KindHead, Manifest: hash, Body: encode(&HeadBody{of})})
	if err == nil && a.Code != CodeOK && a.Code != CodeManifest {
		err = fmt.Errorf("vault: it answers %q", a.Code)
	}
	return a, sg, err
}

// save writes what was seen.
func (w *witness) save() error {
	f := witnessFile{Version: version}
	w.mu.Lock()
	for _, p := range w.peers {
		if sg := w.seen[p.node.ID]; sg != nil {
			f.Seen = append(f.Seen, *sg)
		}
	}
	w.mu.Unlock()
	return durable.WriteFile(w.path, encode(&f), 0o600)
}

// run asks the others until ctx ends. It returns [ErrRollback] if one has seen more
// of this node's ledger than there is.
func (w *witness) run(ctx context.Context, l own) error {
	for wait := witnessFirst; ; wait = min(2*wait, w.every) {
		changed := false
		_, _, peers := w.others()
		for _, p := range peers {
			newer, err := w.ask(ctx, p, l)
			if errors.Is(err, ErrRollback) {
				return err
			}
			if err != nil && ctx.Err() == nil {
				w.log.Debug("another node's ledger is not seen", zap.String("node", p.node.ID), zap.Error(err))
			}
			changed = changed || newer
		}
		if changed {
			if err := w.save(); err != nil {
				w.log.Error("the other nodes' heads are not kept", zap.Error(err))
			}
		}
		if w.enough() {
			wait = w.every
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil
		}
	}
}
