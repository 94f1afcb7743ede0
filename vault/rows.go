package vault

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"maps"
	"slices"
)

// Keys of the state. The slot, the first two bytes of the UID, leads every key of
// an account, so that a later split into groups moves ranges.
//
//	a  slot UID          core
//	r  slot UID epoch    registration: current and former
//	s  slot UID          side: what is staged, the last proof, the disable
//	t  slot UID id       attempt that counts
//	d  time slot UID     what is due: time in Unix ms, big-endian
//	f  index             feed: number (8 bytes) and UID of a change, at number mod feedSize
//	m  "feed"            number of the feed's last entry
const feedSize = 4096

func rowKey(kind byte, uid UID, rest ...byte) []byte {
	k := make([]byte, 0, 3+len(uid)+len(rest))
	k = append(append(k, kind, uid[0], uid[1]), uid[:]...)
	return append(k, rest...)
}

func coreKey(uid UID) []byte { return rowKey('a', uid) }

func attemptKey(uid UID, id AttemptID) []byte { return rowKey('t', uid, id[:]...) }

func dueKey(at int64, uid UID) []byte {
	k := binary.BigEndian.AppendUint64([]byte{'d'}, uint64(at))
	k = append(k, uid[0], uid[1])
	return append(k, uid[:]...)
}

func feedKey(n uint64) []byte { return binary.BigEndian.AppendUint16([]byte{'f'}, uint16(n%feedSize)) }

var feedHead = []byte("mfeed")

// side is what guesses neither read nor write.
type side struct {
	Staged  *staged    `cbor:"1,keyasint"`
	Proof   *ProveBody `cbor:"2,keyasint"`
	Disable *disable   `cbor:"3,keyasint"`
}

// loadCore returns what a guess needs of an account.
func loadCore(kv KV, uid UID) (c core, known bool, err error) {
	b, ok := kv.Get(coreKey(uid))
	if !ok {
		return c, false, nil
	}
	c, err = decodeCore(b)
	return c, true, err
}

// loadAccount returns the whole account, an empty one if there is none. Bytes that
// do not parse cannot come from this machine; they are answered as CodeHalted.
func loadAccount(kv KV, uid UID) (a *account, known bool, err error) {
	a = &account{Attempts: []attempt{}, stored: make(map[string][]byte)}
	b, ok := kv.Get(coreKey(uid))
	if !ok {
		return a, false, nil
	}
	if a.core, err = decodeCore(b); err != nil {
		return nil, true, err
	}
	a.stored[string(coreKey(uid))] = b
	if a.Current, err = a.loadRegistration(kv, uid, a.core.current); err != nil {
		return nil, true, err
	}
	if a.Former, err = a.loadRegistration(kv, uid, a.core.former); err != nil {
		return nil, true, err
	}
	if b, ok := kv.Get(rowKey('s', uid)); ok {
		var s side
		if err := decodeState(b, &s); err != nil {
			return nil, true, err
		}
		a.stored[string(rowKey('s', uid))] = b
		a.Staged, a.Proof, a.Disable = s.Staged, s.Proof, s.Disable
	}
	if a.counted == 0 {
		return a, true, nil
	}
	prefix := rowKey('t', uid)
	kv.Scan(prefix, func(k, v []byte) bool {
		if len(k) != len(prefix)+len(AttemptID{}) {
			return true
		}
		var t attempt
		if t, err = decodeAttempt(AttemptID(k[len(prefix):]), v); err != nil {
			return false
		}
		a.stored[string(k)] = bytes.Clone(v)
		a.Attempts = append(a.Attempts, t)
		return true
	})
	slices.SortFunc(a.Attempts, func(x, y attempt) int { return cmp.Compare(x.Seq, y.Seq) })
	return a, true, err
}

func (a *account) loadRegistration(kv KV, uid UID, u use) (*registration, error) {
	if !u.live {
		return nil, nil
	}
	key := rowKey('r', uid, u.epoch[:]...)
	b, _ := kv.Get(key) // none does not parse
	r := new(registration)
	if err := decodeState(b, r); err != nil {
		return nil, err
	}
	a.stored[string(key)] = b
	r.Epoch, r.Used = u.epoch, u.used
	return r, nil
}

// rows returns all rows of the account, by key. None: there is no account.
func (a *account) rows(uid UID) map[string][]byte {
	rows := make(map[string][]byte)
	if a.Seq == 0 && a.Current == nil && a.Staged == nil && a.Gone == 0 {
		return rows // a registration that was never committed leaves nothing
	}
	for i, r := range []*registration{a.Current, a.Former} {
		u := []*use{&a.core.current, &a.core.former}[i]
		if *u = (use{}); r != nil {
			*u = use{live: true, epoch: r.Epoch, used: r.Used}
			rows[string(rowKey('r', uid, r.Epoch[:]...))] = encode(r)
		}
	}
	for _, t := range a.Attempts {
		rows[string(attemptKey(uid, t.ID))] = t.encode()
	}
	if a.Staged != nil || a.Proof != nil || a.Disable != nil {
		rows[string(rowKey('s', uid))] = encode(&side{a.Staged, a.Proof, a.Disable})
	}
	a.counted, a.rules, a.other = uint8(min(len(a.Attempts), 255)), a.policy(), a.endsBy()
	c := a.core
	c.Due = c.due()
	rows[string(coreKey(uid))] = c.encode()
	return rows
}

// save writes the rows that are not as they were loaded, in the order of their
// keys, and notes a change in the list of what is due and in the feed. It returns the
// change's number in the feed, 0 if there is none.
func (a *account) save(kv KV, uid UID) (n uint64) {
	rows, was := a.rows(uid), a.Due
	a.Due = 0
	if len(rows) != 0 {
		a.Due = a.due()
	}
	changed := false
	for _, k := range slices.Sorted(maps.Keys(a.stored)) {
		if _, ok := rows[k]; !ok {
			kv.Delete([]byte(k))
			changed = true
		}
	}
	for _, k := range slices.Sorted(maps.Keys(rows)) {
		if !bytes.Equal(rows[k], a.stored[k]) {
			kv.Set([]byte(k), rows[k])
			changed = true
		}
	}
	if changed {
		noteDue(kv, uid, was, a.Due)
		n = noteChange(kv, uid)
	}
	a.stored = rows
	return n
}

// save writes the row after an attempt, and returns the change's number in the feed.
func (c *core) save(kv KV, uid UID) uint64 {
	was := c.Due
	c.Due = c.due()
	kv.Set(coreKey(uid), c.encode())
	noteDue(kv, uid, was, c.Due)
	return noteChange(kv, uid)
}

// noteDue moves the account in the list of what is due; 0 means nothing is.
func noteDue(kv KV, uid UID, was, due int64) {
	if was == due {
		return
	}
	if was != 0 {
		kv.Delete(dueKey(was, uid))
	}
	if due != 0 {
		kv.Set(dueKey(due, uid), []byte{})
	}
}

// noteChange adds to the feed.
func noteChange(kv KV, uid UID) uint64 {
	n := feedPosition(kv) + 1
	at := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(uid)), n)
	kv.Set(feedKey(n), append(at, uid[:]...))
	kv.Set(feedHead, at)
	return n
}

// feedPosition returns the number of the last change of any account.
func feedPosition(kv KV) uint64 {
	if b, ok := kv.Get(feedHead); ok && len(b) == 8 {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// changed returns the account of a change, if the feed still has it.
func changed(kv KV, n uint64) (UID, bool) {
	b, ok := kv.Get(feedKey(n))
	if !ok || len(b) != 8+len(UID{}) || binary.BigEndian.Uint64(b) != n {
		return UID{}, false
	}
	return UID(b[8:]), true
}
