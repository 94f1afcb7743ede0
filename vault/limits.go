package vault

// Limits bound how often this node is asked. They fail closed: when there is
// no room to count one more caller, he is refused.
type Limits struct {
	Account float64 // requests a second for each account; bursts of ten times that
	Address float64 // requests a second from each IP address (IPv6: /64); bursts of ten times that
	Node    float64 // requests a second in all; bursts of twice that
}

// DefaultLimits let a family or a firm behind one address work.
func DefaultLimits() Limits { return Limits{Account: 5, Address: 50, Node: 5000} }
