package vault

import (
	"errors"
)

// Machine gives the commands of the log their meaning: it numbers attempts,
// keeps the records and remembers what is due. It is deterministic and total,
// and keeps no state but the KV.
type Machine struct {
	// Halt is called with [ErrNewer], before anything is written, for a command
	// of a version that this program does not know. It must not return: the node
	// stops with the command unapplied, and applies it once upgraded. If Halt is
	// nil the command is answered with [CodeHalted] and has no effect, which is
	// for tests only: nodes of both versions would then differ for ever.
	Halt func(err error)

	noted func(change) // what was done, as it is done; see [ServerConfig.Machine]
}

func (m *Machine) note(n uint64, uid UID, at *attempt) {
	if m.noted != nil && n != 0 {
		m.noted(change{n, uid, at})
	}
}

// Apply carries out one command. Every error is an answer, in which the proposer
// finds a [Code]. Nothing depends on index: commands may share one.
func (m *Machine) Apply(kv KV, index uint64, cmd []byte) []byte {
	if c, b, ok := parseAttempt(cmd); ok {
		o, err := m.applyAttempt(kv, b, c)
		if err != nil {
			o = outcome{Code: CodeHalted}
		}
		return o.encode()
	}
	c, err := parseCommand(cmd)
	if errors.Is(err, ErrNewer) {
		if m.Halt != nil {
			m.Halt(err)
		}
		return (&outcome{Code: CodeHalted}).encode()
	}
	if err != nil {
		return (&outcome{Code: CodeMalformed}).encode()
	}
	body, uid, err := parseBody(c.Kind, c.Body)
	if err != nil {
		return (&outcome{Code: CodeMalformed}).encode()
	}
	o, err := m.applyTo(kv, uid, c, body)
	if err != nil { // damage of the store, which must not become an empty account
		return (&outcome{Code: CodeHalted}).encode()
	}
	return o.encode()
}

// applyTo carries out a command on its account.
func (m *Machine) applyTo(kv KV, uid UID, c *Command, body any) (outcome, error) {
	if b, ok := body.(*AttemptBody); ok {
		return m.applyAttempt(kv, b, c)
	}
	a, known, err := loadAccount(kv, uid)
	if err != nil {
		return outcome{}, err
	}
	if !known && c.Kind != KindStart {
		return outcome{Code: CodeNone}, nil
	}
	a.advance(c.Time)
	o := a.order(c, body)
	if o.Code == CodeOK || known {
		// Also after a refusal: what was due by time is done now.
		m.note(a.save(kv, uid), uid, nil)
	}
	o.Left, o.Failed, o.Last = uint8(a.left()), uint8(min(a.used(), 255)), a.Last
	return o, nil
}

// applyAttempt reads and writes two small rows, unless something is due: guesses are
// what a vault is asked most.
func (m *Machine) applyAttempt(kv KV, b *AttemptBody, c *Command) (outcome, error) {
	k, known, err := loadCore(kv, b.UID)
	if err != nil {
		return outcome{}, err
	}
	if !known {
		return outcome{Code: CodeNone}, nil
	}
	if k.Due != 0 && c.Time >= k.Due {
		a, _, err := loadAccount(kv, b.UID)
		if err != nil {
			return outcome{}, err
		}
		a.advance(c.Time)
		m.note(a.save(kv, b.UID), b.UID, nil)
		k = a.core
	}
	o, counted, err := k.attempt(kv, b, c)
	if err != nil {
		return outcome{}, err
	}
	if counted != nil {
		m.note(k.save(kv, b.UID), b.UID, counted)
	}
	o.Left, o.Failed, o.Last = uint8(k.left()), k.counted, k.Last
	return o, nil
}

// order carries out a command on an account.
func (a *account) order(c *Command, body any) outcome {
	switch b := body.(type) {
	case *StartBody:
		return outcome{Code: a.start(b, c)}
	case *CommitBody:
		return outcome{Code: a.commit(b, c)}
	case *ProveBody:
		return outcome{Code: a.prove(b), Seq: b.Seq}
	case *DisableBody:
		return outcome{Code: a.disable(b, c)}
	case *RecordBody: // a sweep: advance has done it
		return outcome{Code: CodeOK}
	}
	return outcome{Code: CodeMalformed} // requests that are no commands
}
