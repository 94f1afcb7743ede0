package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"errors"
	"sync"

	"coffer/ppss"
)

// memoryHSM is the interface of an HSM without one.
type memoryHSM struct {
	identity *ecdsa.PrivateKey
	mu       sync.Mutex
	anchor   [40]byte
}

func newMemoryHSM(k *ecdsa.PrivateKey) *memoryHSM { return &memoryHSM{identity: k} }

// NewKey returns the key itself as its record.
func (*memoryHSM) NewKey(context.Context, []byte) ([]byte, [33]byte, error) {
	k, public := ppss.GenerateKey()
	return k[:], public, nil
}

func (*memoryHSM) Evaluate(_ context.Context, _, record []byte, blinded [33]byte) ([33]byte, error) {
	if len(record) != 32 {
		return [33]byte{}, errors.New("no record of this HSM")
	}
	return ppss.Evaluate([32]byte(record), blinded)
}

func (h *memoryHSM) Sign(_ context.Context, digest [32]byte) (sig [64]byte, err error) {
	r, s, err := ecdsa.Sign(rand.Reader, h.identity, digest[:])
	if err != nil {
		return sig, err
	}
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return sig, nil
}

func (h *memoryHSM) SetAnchor(_ context.Context, a [40]byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.anchor = a
	return nil
}

func (h *memoryHSM) Anchor(context.Context) ([40]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.anchor, nil
}
