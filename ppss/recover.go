package ppss

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
)

// Node is one node at registration: its id as the record names it, and the
// OPRF output under its key for this account.
type Node struct {
	ID  []byte
	Rho [32]byte
}

// Dealt is what a registration stores, and the key it signs the record with.
type Dealt struct {
	Masked   [][32]byte // one for each node, in the order given
	Envelope []byte
	Signing  ed25519.PrivateKey
}

// Format keeps the signing key out of every log.
func (*Dealt) Format(f fmt.State, _ rune) { io.WriteString(f, "ppss.Dealt(hidden)") }

// Deal shares a fresh random secret among the nodes, hides each share under the
// node's rho, and seals the backup key under the secret. t of len(nodes)
// answers will do to recover; header is bound as in [SealEnvelope].
func Deal(header, epoch []byte, key [32]byte, t int, nodes []Node) (*Dealt, error) {
	var secret [32]byte
	rand.Read(secret[:])
	shares, err := Split(secret, len(nodes), t)
	if err != nil {
		return nil, err
	}
	d := &Dealt{
		Envelope: SealEnvelope(secret, key, header),
		Signing:  SigningKey(secret, header),
	}
	for i, n := range nodes {
		d.Masked = append(d.Masked, XOR(shares[i].Y, Mask(n.Rho, n.ID, epoch)))
	}
	return d, nil
}

// Answer is what one node contributes to a recovery.
type Answer struct {
	Index  int      // place of the node in the record, from 0
	ID     []byte   // of the node, as at registration
	Masked [32]byte // its masked share, from the record
	Rho    [32]byte // from its evaluation now
}

// Recovered is what the right password gives.
type Recovered struct {
	Key     [32]byte           // the backup key
	Signing ed25519.PrivateKey // for the proof that restores the budget
	Lied    []int              // indexes of the answers that were wrong, in the order given
}

// Format keeps the keys out of every log.
func (*Recovered) Format(f fmt.State, _ rune) { io.WriteString(f, "ppss.Recovered(hidden)") }

// Recover searches the subsets of t answers for one whose secret opens the
// envelope. It bears any number of wrong answers as long as t are right, and
// names them. [ErrSecret] when no subset fits; [ErrEnvelope] when the envelope
// itself is broken. Answers must come from different nodes, at most [MaxNodes].
func Recover(header, epoch, envelope []byte, t int, answers []Answer) (*Recovered, error) {
	if t < 1 || len(answers) > MaxNodes {
		return nil, fmt.Errorf("ppss: recovering from %d answers with threshold %d", len(answers), t)
	}
	shares := make([]Share, len(answers))
	for i, a := range answers {
		if a.Index < 0 || a.Index >= MaxNodes {
			return nil, fmt.Errorf("ppss: recovering: no node has place %d", a.Index)
		}
		shares[i] = Share{X: byte(a.Index + 1), Y: XOR(a.Masked, Mask(a.Rho, a.ID, epoch))}
	}
	for set := 0; set < 1<<len(shares); set++ {
		some := subset(shares, set)
		if len(some) != t {
			continue
		}
		secret, err := Combine(some)
		if err != nil {
			return nil, err
		}
		key, err := OpenEnvelope(secret, header, envelope)
		if errors.Is(err, ErrSecret) {
			continue
		}
		if err != nil {
			return nil, err
		}
		r := &Recovered{Key: key, Signing: SigningKey(secret, header)}
		r.Lied, err = liars(some, shares)
		return r, err
	}
	return nil, ErrSecret
}

// subset returns the shares whose bits are set in set.
func subset(shares []Share, set int) []Share {
	var some []Share
	for i, s := range shares {
		if set>>i&1 == 1 {
			some = append(some, s)
		}
	}
	return some
}

// liars returns the indexes of the shares that are not on the polynomial that
// good, shares which opened the envelope, determine.
func liars(good, shares []Share) ([]int, error) {
	var lied []int
	for _, s := range shares {
		y, err := interpolate(good, s.X)
		if err != nil {
			return nil, err
		}
		if y != s.Y {
			lied = append(lied, int(s.X)-1)
		}
	}
	return lied, nil
}
