package vault

import (
	"errors"
	"fmt"

	"go.uber.org/zap"
)

var errBehind = errors.New("vault: state is behind this node's ledger")

// CheckState looks at a whole state that another node sent to replace this node's.
// It refuses one that knows less of an account than this node's
// ledger does, unless the state that it would replace knows less, too. A fleet that began again
// from a backup is behind its ledgers everywhere; that is no reason to refuse it, and
// no account is served for it.
func (s *Server) CheckState(kv KV) error {
	feed := feedPosition(kv)
	return s.ledger.accounts(UID{}, func(uid UID, t *tally) (bool, error) {
		c, _, err := loadCore(kv, uid)
		if err != nil {
			return false, fmt.Errorf("reading a state that was sent: %w", err)
		}
		if !c.lacks(t, feed) {
			return true, nil
		}
		if own, err := s.look(uid); err == nil && own.lacks(t) {
			return true, nil
		}
		s.metrics.regressions.Inc()
		s.regressions.Add(1)
		s.log.Error("a state that was sent is behind this node's ledger: refused", zap.Uint64("feed", feed))
		return false, errBehind
	})
}
