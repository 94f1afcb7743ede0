package vault

// retrySeconds rounds milliseconds up to seconds.
func retrySeconds(ms int64) uint32 { return uint32(min((ms+999)/1000, 1<<32-1)) }

// prove restores the attempts up to the one that was right. Later ones still
// count: they may be another's. So do those at the former epoch while it lives,
// if it is not the one that was right: else whoever replaced it by the token
// would pay with proofs of a password of his own for guesses at the owner's.
func (a *account) prove(b *ProveBody) Code {
	if a.Proof != nil && *a.Proof == *b {
		return CodeOK
	}
	if a.Gone != 0 {
		return CodeDestroyed
	}
	r := a.registration(b.Epoch)
	if r == nil {
		return CodeStale
	}
	known := false
	for _, t := range a.Attempts {
		known = known || t.Seq == b.Seq && t.ID == b.ID && t.Epoch == b.Epoch
	}
	if !known {
		return CodeStale
	}
	rec, _, err := parseRecord(r.Record)
	if err != nil || !verify(rec.Public, proveMessage(b, recordHash(r.Record)), b.Sig[:]) {
		return CodeSignature
	}
	a.Proof = b
	if a.senior().Epoch != b.Epoch {
		a.forgive(b.Epoch, b.Seq)
		return CodeOK
	}
	a.restore(b.Seq)
	a.Disable = nil
	return CodeOK
}

// disable destroys the key at once if the proof key says so. Without a signature
// it takes the policy's time, so that a hijacker of the account token cannot
// take the key from its owner unseen. The signature of an epoch that has its place
// by the token alone is worth no more, while the former one lives.
func (a *account) disable(b *DisableBody, c *Command) Code {
	if a.Gone != 0 {
		return CodeOK
	}
	r := a.registration(b.Epoch)
	if r == nil {
		return CodeStale
	}
	d := &disable{Epoch: b.Epoch, Sig: b.Sig, At: c.Time, Token: c.Token}
	if len(b.Sig) == 0 {
		if a.Disable == nil {
			a.Disable = d
		}
		return CodeOK
	}
	rec, _, err := parseRecord(r.Record)
	if err != nil || !verify(rec.Public, disableMessage(b, recordHash(r.Record)), b.Sig) {
		return CodeSignature
	}
	if a.senior().Epoch != b.Epoch {
		if d.Sig = []byte{}; a.Disable == nil {
			a.Disable = d
		}
		return CodeOK
	}
	a.Disable = d
	a.destroy(c.Time)
	return CodeOK
}
