// Package ppss is the mathematics of the Backup Key Vault: password-protected
// secret sharing over independent OPRF keys, one per node. It does no I/O,
// keeps no state, and knows no message of the protocol; package vault does.
//
// Registration, with n nodes and threshold t:
//
//	pwh    = Argon2id(PRECIS(NFKC(password)), salt bound to fleet and account)   Stretch
//	x      = label, fleet, account, epoch, pwh                                   Input
//	B      = r·HashToGroup(x), one B for all nodes                               Blind
//	P_i    = k_i·B, by the HSM of node i                                         Evaluate, in software
//	rho_i  = RFC 9497 Finalize(x, r^-1·P_i)                                      Blinded.Finalize
//	s      = 32 random bytes; s_1..s_n its shares, any t of which give it        Split
//	e_i    = s_i xor HKDF(rho_i, node, epoch)                                    Mask
//	env    = the backup key under a key from s, with a commitment to s           SealEnvelope
//	sign   = an Ed25519 key from s: who can sign knows the password              SigningKey
//
// [Deal] does the lines from s on. The record that the vault stores is public
// to fewer than t nodes: the e_i are uniformly random without rho_i and carry
// no redundancy, so nothing short of t evaluations of the same guess tells a
// right password from a wrong one. [Recover] takes what the nodes answered,
// searches the subsets of t answers for one that opens the envelope, and says
// which answers were lies.
//
// The OPRF is RFC 9497, P256-SHA256, mode 0x00. PPSS.md gives the encodings,
// the reason of each label and what is not protected; testdata holds vectors.
package ppss

import "errors"

// MaxNodes is the most nodes that hold one account. [Recover] tries at most
// the 35 subsets of four out of seven.
const MaxNodes = 7

var (
	// ErrPoint means that the bytes are no point of P-256 other than the
	// identity, in compressed form. For an evaluated element it means a
	// node that lies or is broken; see RFC 9497, section 2.1.
	ErrPoint = errors.New("ppss: not a P-256 point")

	// ErrScalar means that the bytes are not a number from 1 to the order
	// of P-256 less 1.
	ErrScalar = errors.New("ppss: not a P-256 scalar")

	// ErrSecret means that the envelope was made with another secret or for
	// another header. To a client it says: wrong password, or more nodes lie
	// than the threshold bears; which of the two nobody can tell.
	ErrSecret = errors.New("ppss: secret does not open the envelope")

	// ErrEnvelope means that the bytes are no envelope of a known version,
	// or that it was changed after it was made.
	ErrEnvelope = errors.New("ppss: envelope is malformed")

	// ErrPassword means that the password holds characters that cannot be
	// typed again reliably (control characters, code points that Unicode has
	// not assigned), or is empty or too long.
	ErrPassword = errors.New("ppss: password is not usable")
)
