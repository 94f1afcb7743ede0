// Package vault keeps backup keys behind passwords that nobody can guess
// offline. It holds both ends of the protocol: the node ([Machine], [Server])
// and the client ([Client]), with the signed description of the nodes that the
// client trusts ([Manifest]). PROTOCOL.md is the specification.
//
// A fleet has n nodes, any t of which recover a key. A guess passes three gates:
//
//	order    the attempt, with its blinded element, is committed by the replicated Machine
//	count    each node checks its own ledger, appends to it, fsyncs, anchors the head in its HSM
//	compute  the node's HSM evaluates that element and no other; the answer is signed
//
// The Machine orders, it does not authorise: a node evaluates only what its own
// ledger allows, and the ledger believes only what clients signed or
// authorised. So a forged state, a hostile leader or a restored disk
// wins no guess from an honest node. The package knows neither raft nor PKCS#11:
// [Log] and [HSM] are all it asks of them.
package vault

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
)

// FleetID names a fleet for ever, through all its manifests.
type FleetID [16]byte

// UID stands for an account inside one fleet; see [AccountUID]. It prints as
// hidden: a node's logs must not say who was there.
type UID [32]byte

// Format keeps the id out of logs and errors.
func (UID) Format(f fmt.State, _ rune) { io.WriteString(f, "vault.UID(hidden)") }

// Epoch names one registration of an account. The client chooses it at random,
// so that a repeated registration is seen to be the same one.
type Epoch [16]byte

// AttemptID names one guess. The client chooses it at random: asking again with
// the same id and element is the same guess.
type AttemptID [16]byte

// AccountUID returns the UID of an account name, e.g. the subject of a JWT.
func AccountUID(fleet FleetID, account string) UID {
	h := sha256.New()
	h.Write([]byte("coffer vault 1 account"))
	h.Write(fleet[:])
	binary.Write(h, binary.BigEndian, uint32(len(account)))
	h.Write([]byte(account))
	return UID(h.Sum(nil))
}

// Log puts commands into the order that all nodes agree on; raftstore.Store is
// one. No error of Propose says that a command had no effect: every command of
// this package may be proposed again, and is carried out once.
type Log interface {
	// Propose returns the answer of [Machine.Apply] on this node once a majority
	// holds cmd.
	Propose(ctx context.Context, cmd []byte) ([]byte, error)
	// View calls fn with the state as this node has applied it.
	View(fn func(KV) error) error
	// Leader returns the id of the node that takes proposals, "" if unknown, and
	// whether that is this node.
	Leader() (id, addr string, mine bool)
}

// KV is the replicated state: an ordered map. Reads inside Apply see its writes.
// Slices given to fn by Scan are valid only inside it.
type KV interface {
	Get(key []byte) (value []byte, ok bool)
	Set(key, value []byte)
	Delete(key []byte)
	Scan(prefix []byte, fn func(key, value []byte) bool)
}

// HSM makes and uses the keys of one node; hsm.Token is one. Points are
// compressed (SEC 1). A record is an HSM's private key, wrapped and bound to owner.
type HSM interface {
	NewKey(ctx context.Context, owner []byte) (record []byte, public [33]byte, err error)
	Evaluate(ctx context.Context, owner, record []byte, blinded [33]byte) ([33]byte, error)
	// Sign signs with the node's identity key, P-256: r and s, 32 bytes each.
	Sign(ctx context.Context, digest [32]byte) ([64]byte, error)
	// SetAnchor stores the head of the ledger inside the HSM; Anchor returns it,
	// all zeros if none was stored yet.
	SetAnchor(ctx context.Context, head [40]byte) error
	Anchor(ctx context.Context) ([40]byte, error)
}
