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
	s.ledger.mu.RLock()
	uids := make([]UID, 0, len(s.ledger.tally))
	for uid := range s.ledger.tally {
		uids = append(uids, uid)
	}
	s.ledger.mu.RUnlock()
	for _, uid := range uids {
		sn, err := lookIn(kv, uid)
		if err != nil {
			return fmt.Errorf("reading a state that was sent: %w", err)
		}
		if !s.lacks(sn) {
			continue
		}
		if own, err := s.look(uid); err == nil && s.lacks(own) {
			continue
		}
		s.metrics.regressions.Inc()
		s.regressions.Add(1)
		s.log.Error("a state that was sent is behind this node's ledger: refused", zap.Uint64("feed", sn.feed))
		return errBehind
	}
	return nil
}

// lacks compares the state with the ledger, which may grow meanwhile.
func (s *Server) lacks(sn snapshot) bool {
	s.ledger.mu.RLock()
	defer s.ledger.mu.RUnlock()
	t := s.ledger.tally[sn.uid]
	return t != nil && sn.lacks(t)
}
