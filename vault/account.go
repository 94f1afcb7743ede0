package vault

import (
	"encoding/binary"
	"math"
	"slices"
	"time"
)

// account is the machine's state for one account. Attempts are numbered from 1
// over all its epochs for ever: the budget belongs to the account, and a new
// registration starts no new count.
type account struct {
	Version  uint8         `cbor:"1,keyasint"`
	Seq      uint64        `cbor:"2,keyasint"` // number of the last attempt
	Restored uint64        `cbor:"3,keyasint"` // attempts up to this number no longer count; of those above it, Attempts
	Budget   uint8         `cbor:"4,keyasint"`
	Refilled int64         `cbor:"5,keyasint"` // Unix ms of the last refill without proof, or of the first registration
	Last     int64         `cbor:"6,keyasint"` // Unix ms of the last attempt
	Current  *registration `cbor:"7,keyasint"`
	Former   *registration `cbor:"8,keyasint"` // of before an unproven re-registration
	Until    int64         `cbor:"9,keyasint"` // Unix ms when Former ends
	Staged   *staged       `cbor:"10,keyasint"`
	Attempts []attempt     `cbor:"11,keyasint"` // those that count, in order
	Proof    *ProveBody    `cbor:"12,keyasint"` // the last one
	Gone     int64         `cbor:"13,keyasint"` // Unix ms when destroyed, 0 if not
	Disable  *disable      `cbor:"14,keyasint"` // pending or carried out
	Due      int64         `cbor:"15,keyasint"` // Unix ms of this account's entry in the list of what is due, 0 if none
}

// registration is one committed epoch, with all that shows a node's ledger by
// whose authority.
type registration struct {
	Epoch  Epoch    `cbor:"1,keyasint"`
	Record []byte   `cbor:"2,keyasint"`
	Sig    [64]byte `cbor:"3,keyasint"`
	Old    []byte   `cbor:"4,keyasint"` // signature by the epoch before, or empty
	Before Epoch    `cbor:"5,keyasint"` // the epoch before, zero if none
	At     int64    `cbor:"6,keyasint"` // Unix ms
	Used   uint32   `cbor:"7,keyasint"` // attempts in this epoch, proved or not
	Token  []byte   `cbor:"8,keyasint"` // the client's
	Policy Policy   `cbor:"9,keyasint"` // the record's, at hand
}

type staged struct {
	Epoch   Epoch    `cbor:"1,keyasint"`
	Element [33]byte `cbor:"2,keyasint"`
	At      int64    `cbor:"3,keyasint"` // Unix ms
}

type attempt struct {
	Seq     uint64    `cbor:"1,keyasint"`
	ID      AttemptID `cbor:"2,keyasint"`
	Epoch   Epoch     `cbor:"3,keyasint"`
	Element [33]byte  `cbor:"4,keyasint"`
	At      int64     `cbor:"5,keyasint"` // Unix ms
	Token   []byte    `cbor:"6,keyasint"`
}

type disable struct {
	Epoch Epoch  `cbor:"1,keyasint"`
	Sig   []byte `cbor:"2,keyasint"` // empty: delayed
	At    int64  `cbor:"3,keyasint"` // Unix ms
	Token []byte `cbor:"4,keyasint"`
}

// stagedLife is how long a staged epoch waits for its commit.
const stagedLife = 24 * time.Hour

// used is how many attempts count against the budget.
func (a *account) used() int { return len(a.Attempts) }

func (a *account) left() int { return max(0, int(a.Budget)-a.used()) }

// registration returns the committed epoch, nil if it is not (or no longer) one.
func (a *account) registration(e Epoch) *registration {
	for _, r := range []*registration{a.Current, a.Former} {
		if r != nil && r.Epoch == e {
			return r
		}
	}
	return nil
}

// senior is the registration whose key speaks for the account: while a former one
// lives, the current one has its place by the token alone, and speaks for itself.
func (a *account) senior() *registration {
	if a.Former != nil {
		return a.Former
	}
	return a.Current
}

// policy is that of the current epoch.
func (a *account) policy() Policy {
	if a.Current == nil {
		return DefaultPolicy()
	}
	return a.Current.Policy
}

// restore makes the attempts up to seq count no longer.
func (a *account) restore(seq uint64) {
	a.Restored = max(a.Restored, seq)
	kept := a.Attempts[:0]
	for _, t := range a.Attempts {
		if t.Seq > a.Restored {
			kept = append(kept, t)
		}
	}
	a.Attempts = kept
}

// forgive makes an epoch's own attempts up to seq count no longer.
func (a *account) forgive(e Epoch, seq uint64) {
	a.Attempts = slices.DeleteFunc(a.Attempts, func(t attempt) bool { return t.Epoch == e && t.Seq <= seq })
}

// due returns when something happens to the account by time alone, as Unix ms,
// and [math.MaxInt64] if never.
func (a *account) due() int64 {
	at := int64(math.MaxInt64)
	if a.Staged != nil {
		at = min(at, a.Staged.At+stagedLife.Milliseconds())
	}
	if a.Gone != 0 || a.Current == nil {
		return at
	}
	p := a.policy()
	if a.left() == 0 {
		at = min(at, a.Last+seconds(p.Deadline).Milliseconds())
	}
	if a.Former != nil {
		at = min(at, a.Until)
	}
	if a.Disable != nil {
		at = min(at, a.Disable.At+seconds(p.Disable).Milliseconds())
	}
	return at
}

// advance does what is due at now, Unix ms.
func (a *account) advance(now int64) {
	if a.Staged != nil && now >= a.Staged.At+stagedLife.Milliseconds() {
		a.Staged = nil
	}
	if a.Gone != 0 || a.Current == nil {
		return
	}
	p := a.policy()
	late := a.left() == 0 && now >= a.Last+seconds(p.Deadline).Milliseconds()
	disabled := a.Disable != nil && now >= a.Disable.At+seconds(p.Disable).Milliseconds()
	if late || disabled {
		a.destroy(now)
		return
	}
	if a.Former != nil && now >= a.Until {
		a.Former, a.Until = nil, 0
	}
}

// destroy forgets the records. The attempts or the disable stay as evidence for
// the nodes' ledgers, until a new registration.
func (a *account) destroy(now int64) {
	a.Gone = now
	a.Current, a.Former, a.Until, a.Staged = nil, nil, 0, nil
}

// Keys of the state. The slot, the first two bytes of the UID, leads every key of
// an account, so that a later split into groups moves ranges.
//
//	a  slot UID        account
//	d  time slot UID   what is due: time in Unix ms, big-endian
//	f  index count     feed: which account a command touched, the last feedSize
//	m  "feed"          number of the feed's last entry
const feedSize = 4096

func accountKey(uid UID) []byte {
	return append([]byte{'a', uid[0], uid[1]}, uid[:]...)
}

func dueKey(at int64, uid UID) []byte {
	k := binary.BigEndian.AppendUint64([]byte{'d'}, uint64(at))
	k = append(k, uid[0], uid[1])
	return append(k, uid[:]...)
}

func feedKey(n uint64) []byte { return binary.BigEndian.AppendUint64([]byte{'f'}, n) }

var feedHead = []byte("mfeed")

// loadAccount returns the account, an empty one if there is none. Bytes that do
// not parse cannot come from this machine; they are answered as CodeHalted.
func loadAccount(kv KV, uid UID) (a *account, known bool, err error) {
	b, ok := kv.Get(accountKey(uid))
	if !ok {
		return &account{Version: version, Attempts: []attempt{}}, false, nil
	}
	a = new(account)
	if err := decodeState(b, a); err != nil {
		return nil, true, err
	}
	return a, true, nil
}

// save writes the account, its entry in the list of what is due, and the feed.
func (a *account) save(kv KV, uid UID) {
	due := a.due()
	if due == math.MaxInt64 {
		due = 0
	}
	if due != a.Due && a.Due != 0 {
		kv.Delete(dueKey(a.Due, uid))
	}
	if due != 0 {
		kv.Set(dueKey(due, uid), []byte{})
	}
	a.Due = due
	if a.Seq == 0 && a.Current == nil && a.Staged == nil && a.Gone == 0 {
		kv.Delete(accountKey(uid)) // a registration that was never committed leaves nothing
	} else {
		kv.Set(accountKey(uid), encode(a))
	}

	n := feedPosition(kv) + 1
	kv.Set(feedKey(n), uid[:])
	if n > feedSize {
		kv.Delete(feedKey(n - feedSize))
	}
	kv.Set(feedHead, binary.BigEndian.AppendUint64(nil, n))
}

// feedPosition returns the number of the last change of any account.
func feedPosition(kv KV) uint64 {
	if b, ok := kv.Get(feedHead); ok && len(b) == 8 {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}
