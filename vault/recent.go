package vault

import "sync"

// change is one of an account in the state, with its number in the feed.
type change struct {
	n   uint64
	uid UID
	at  *attempt // if it was an attempt that counts, and nothing else
}

// recent holds the newest changes that this node's machine has made, so that they
// need not be read again to be followed. It is a help, not a promise: what it does not
// have is read from the state.
type recent struct {
	mu      sync.Mutex
	changes []change // without a gap
}

// maxRecentChanges is how many are kept, of some 200 bytes.
const maxRecentChanges = 1 << 15

// add notes a change that is applied, and perhaps not to be seen yet.
func (r *recent) add(c change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.changes); n >= maxRecentChanges || n > 0 && r.changes[n-1].n+1 != c.n {
		r.changes = nil // nobody follows, or another state was put in the place of this one
	}
	r.changes = append(r.changes, c)
}

// take returns the accounts of the changes after from up to to, each with its
// changes in order, and forgets those. ok is false if it has not all of them.
func (r *recent) take(from, to uint64) (uids []UID, changes map[UID][]change, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.changes) == 0 || r.changes[0].n > from+1 || r.changes[len(r.changes)-1].n < to {
		return nil, nil, false
	}
	first := r.changes[0].n
	if to < first { // from is, too
		return nil, nil, to == from
	}
	changes = make(map[UID][]change)
	for _, c := range r.changes[:to+1-first] {
		if c.n <= from {
			continue
		}
		if changes[c.uid] == nil {
			uids = append(uids, c.uid)
		}
		changes[c.uid] = append(changes[c.uid], c)
	}
	r.changes = r.changes[to+1-first:]
	return uids, changes, true
}
