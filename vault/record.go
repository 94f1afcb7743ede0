package vault

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"coffer/ppss"
)

// Header is the part of a record that is known before the secret is shared. The
// envelope and the proof key are bound to its encoding.
type Header struct {
	Version   uint8        `cbor:"1,keyasint"`
	Fleet     FleetID      `cbor:"2,keyasint"`
	UID       UID          `cbor:"3,keyasint"`
	Epoch     Epoch        `cbor:"4,keyasint"`
	Salt      [32]byte     `cbor:"5,keyasint"`
	Argon     Argon        `cbor:"6,keyasint"`
	Threshold uint8        `cbor:"7,keyasint"`
	Policy    Policy       `cbor:"8,keyasint"`
	Nodes     []RecordNode `cbor:"9,keyasint"` // those that take part, at least Threshold; sorted by ID
	// Again permits the registration to follow a destruction, and so to begin
	// with a full budget. The client says so only for a new password.
	Again bool `cbor:"10,keyasint"`
}

// RecordNode is a node's part in a record. Its place in the list is its share's.
type RecordNode struct {
	ID     string   `cbor:"1,keyasint"`
	Public [33]byte `cbor:"2,keyasint"` // its key for this epoch times the generator
}

// Record is what the fleet stores for one epoch. Fewer than Threshold nodes
// learn nothing from it.
type Record struct {
	Header   []byte     `cbor:"1,keyasint"`
	Masked   [][32]byte `cbor:"2,keyasint"` // one for each node of the header
	Envelope []byte     `cbor:"3,keyasint"`
	Public   [32]byte   `cbor:"4,keyasint"` // Ed25519 key that verifies commit and proofs
}

// parseRecord reads a record with its header and checks that they fit together.
func parseRecord(data []byte) (*Record, *Header, error) {
	var r Record
	var h Header
	if err := decode(data, &r); err != nil {
		return nil, nil, err
	}
	if err := decode(r.Header, &h); err != nil {
		return nil, nil, err
	}
	n := len(h.Nodes)
	switch {
	case h.Version != version:
		return nil, nil, fmt.Errorf("%w: record of version %d", ErrMalformed, h.Version)
	case n < 1 || n > ppss.MaxNodes || len(r.Masked) != n || h.Threshold < 1 || int(h.Threshold) > n:
		return nil, nil, fmt.Errorf("%w: record for %d nodes, %d shares, threshold %d", ErrMalformed, n, len(r.Masked), h.Threshold)
	case len(r.Envelope) != ppss.EnvelopeSize:
		return nil, nil, fmt.Errorf("%w: envelope of %d bytes", ErrMalformed, len(r.Envelope))
	}
	for i, node := range h.Nodes {
		if !validNodeID(node.ID) || i > 0 && h.Nodes[i-1].ID >= node.ID {
			return nil, nil, fmt.Errorf("%w: nodes of the record are not sorted by id", ErrMalformed)
		}
	}
	if err := h.Argon.ppss().Check(); err != nil {
		return nil, nil, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	if err := h.Policy.Check(); err != nil {
		return nil, nil, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	return &r, &h, nil
}

// node returns this node's part in the record.
func (h *Header) node(id string) (RecordNode, bool) {
	for _, n := range h.Nodes {
		if n.ID == id {
			return n, true
		}
	}
	return RecordNode{}, false
}

func recordHash(record []byte) [32]byte {
	return sha256.Sum256(append([]byte("coffer vault 1 record"), record...))
}

// What the proof keys sign. The labels are of different lengths up to the
// newline, so no message of one kind is one of another.

// commitMessage is signed by the key of the record itself.
func commitMessage(record []byte) []byte {
	return append([]byte("coffer vault 1 commit\n"), record...)
}

// succeedMessage is signed by the key of the epoch before.
func succeedMessage(record []byte) []byte {
	return append([]byte("coffer vault 1 succeed\n"), record...)
}

// proveMessage binds the number of the attempt: a proof restores the attempts up
// to it and none after.
func proveMessage(b *ProveBody, record [32]byte) []byte {
	m := append([]byte("coffer vault 1 prove\n"), b.UID[:]...)
	m = append(m, b.Epoch[:]...)
	m = append(m, b.ID[:]...)
	m = binary.BigEndian.AppendUint64(m, b.Seq)
	return append(m, record[:]...)
}

func disableMessage(b *DisableBody, record [32]byte) []byte {
	m := append([]byte("coffer vault 1 disable\n"), b.UID[:]...)
	m = append(m, b.Epoch[:]...)
	return append(m, record[:]...)
}

func verify(public [32]byte, message, sig []byte) bool {
	return len(sig) == ed25519.SignatureSize && ed25519.Verify(public[:], message, sig)
}
