package vault

import (
	"encoding/binary"
	"fmt"
)

const (
	// againSeq is how many attempts of one account may have been counted since a copy of
	// the state was made: far more than any budget, far less than maxGap.
	againSeq = 1000
	// againFeed is likewise for the changes of all accounts.
	againFeed = 1 << 32
)

// BeginAgain changes an old copy of the state into one that a fleet may begin again
// with. The nodes' ledgers have seen more than the copy has: its numbers are set beyond
// all that they can have seen, else they would take it for a rollback and refuse every
// account that was used since. What was spent since, the ledgers know and the copy does
// not; so the copy grants what it has left, less penalty attempts, and each ledger what
// it has left itself. A penalty of the whole budget is for nodes whose ledgers are lost,
// too: whoever has nothing left then must register anew.
//
// The same copy and penalty give the same state on every node.
func BeginAgain(kv KV, penalty uint8) error {
	for slot := range 1 << 16 {
		prefix := []byte{'a', byte(slot >> 8), byte(slot)}
		var uids []UID
		kv.Scan(prefix, func(k, _ []byte) bool {
			if len(k) == len(prefix)+len(UID{}) {
				uids = append(uids, UID(k[len(prefix):]))
			}
			return true
		})
		for _, uid := range uids {
			a, _, err := loadAccount(kv, uid)
			if err != nil {
				return fmt.Errorf("beginning again: %w", err)
			}
			a.Budget = uint8(max(0, a.left()-int(penalty)))
			a.Seq += againSeq
			a.Restored, a.Attempts = a.Seq, nil
			a.save(kv, uid)
		}
	}
	head := binary.BigEndian.AppendUint64(nil, feedPosition(kv)+againFeed)
	kv.Set(feedHead, head)
	return nil
}
