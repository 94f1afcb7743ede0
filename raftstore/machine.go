package raftstore

// KV is the replicated state: an ordered map of byte strings. Inside
// [Machine.Apply] reads see the writes of the same and all earlier commands.
// Keys are 1 to 1,024 bytes. Slices given to fn by Scan are valid only inside
// it; what Get returns is the caller's.
type KV interface {
	Get(key []byte) (value []byte, ok bool)
	Set(key, value []byte)
	Delete(key []byte)
	// Scan calls fn for each key with the prefix, in byte order, until fn
	// returns false. fn must not write.
	Scan(prefix []byte, fn func(key, value []byte) bool)
}

// Machine gives commands their meaning. It must be deterministic and total: the
// same state, index and command give the same writes and answer on every node,
// whatever the bytes; no clock, no randomness, no map order, no panic. What
// needs those is put into the command by its proposer.
type Machine interface {
	// Apply carries out cmd at a position in the log. Commands that were
	// committed together share an index. The answer goes to the proposer.
	Apply(kv KV, index uint64, cmd []byte) (answer []byte)
}
