package vault

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
}

// Apply carries out one command. Every error is an answer, in which the proposer
// finds a [Code].
func (m *Machine) Apply(kv KV, index uint64, cmd []byte) []byte { return nil }
