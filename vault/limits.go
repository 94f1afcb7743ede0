package vault

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limits bound how often this node is asked. They fail closed: when there is
// no room to count one more caller, he is refused.
type Limits struct {
	Account float64 // requests a second for each account; bursts of ten times that
	Address float64 // requests a second from each IP address (IPv6: /64); bursts of ten times that
	Node    float64 // requests a second in all; bursts of twice that
}

// DefaultLimits let a family or a firm behind one address work.
func DefaultLimits() Limits { return Limits{Account: 5, Address: 50, Node: 5000} }

// maxCallers bounds the callers of one kind that are counted at once.
const maxCallers = 100_000

type limiters struct {
	node      *rate.Limiter
	addresses *limiter[netip.Prefix]
	accounts  *limiter[UID]
}

func newLimiters(l Limits) *limiters {
	return &limiters{
		node:      rate.NewLimiter(rate.Limit(l.Node), int(2*l.Node)+1),
		addresses: newLimiter[netip.Prefix](l.Address),
		accounts:  newLimiter[UID](l.Account),
	}
}

// address takes one request from a network address out of its share and the node's.
func (l *limiters) address(remote string) bool {
	return l.addresses.allow(addressPrefix(remote)) && l.node.Allow()
}

// addressPrefix is what counts as one caller: an IPv4 address, a /64 of IPv6.
// What is no address counts as one caller together.
func addressPrefix(remote string) netip.Prefix {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	a := ap.Addr().Unmap().WithZone("")
	p, err := a.Prefix(min(a.BitLen(), 64))
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// limiter is a token bucket for each of many callers.
type limiter[K comparable] struct {
	rate  rate.Limit
	burst int
	mu    sync.Mutex
	all   map[K]*rate.Limiter
}

func newLimiter[K comparable](perSecond float64) *limiter[K] {
	return &limiter[K]{rate: rate.Limit(perSecond), burst: int(10*perSecond) + 1, all: make(map[K]*rate.Limiter)}
}

func (l *limiter[K]) allow(k K) bool {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.all[k]
	if r == nil {
		if len(l.all) >= maxCallers && !l.forget(now) {
			return false
		}
		r = rate.NewLimiter(l.rate, l.burst)
		l.all[k] = r
	}
	return r.AllowN(now, 1)
}

// forget drops callers whose bucket is full again, which loses nothing.
func (l *limiter[K]) forget(now time.Time) bool {
	for k, r := range l.all {
		if r.TokensAt(now) >= float64(l.burst) {
			delete(l.all, k)
		}
	}
	return len(l.all) < maxCallers
}
