package vault

import (
	"crypto/sha256"
	"errors"
	"fmt"
)

// Answers that wait for a node's signature at the same moment share one: they are the
// leaves of a hash tree (RFC 6962, 2.1) whose root is signed. Each is sent with the
// hashes that lead from it to the root. A leaf and a node are hashed differently, so no
// node of the tree can be shown as an answer.

const (
	maxPath   = 8 // hashes from an answer to the root
	maxLeaves = 1 << maxPath
)

// attested is an answer in a stream, followed by zeros up to its size.
type attested struct {
	Answer []byte   `cbor:"1,keyasint"`
	Sig    [64]byte `cbor:"2,keyasint"` // by the node's identity key over Root's digest
	Sides  uint8    `cbor:"3,keyasint"` // bit i: hash i of Path is the left one
	Path   []byte   `cbor:"4,keyasint"` // 32 bytes each, from the answer's sibling up
}

// Root is what a node has signed: that of the tree in which an answer is a leaf.
type Root struct {
	Hash [32]byte
	Sig  [64]byte
}

// Verify says whether the holder of the identity key has signed it.
func (r Root) Verify(identity [33]byte) bool {
	return verifyIdentity(identity, treeDigest(r.Hash), r.Sig)
}

// treeDigest is what is signed for a root.
func treeDigest(root [32]byte) [32]byte {
	return sha256.Sum256(append([]byte("coffer vault 1 tree of answers"), root[:]...))
}

func leafHash(answer []byte) [32]byte {
	return sha256.Sum256(append(append(make([]byte, 0, 1024), 0), answer...))
}

func nodeHash(left, right []byte) [32]byte {
	var b [65]byte
	b[0] = 1
	copy(b[1:], left)
	copy(b[33:], right)
	return sha256.Sum256(b[:])
}

// path is the way from a leaf to the root.
type path struct {
	sides  uint8
	hashes []byte
}

// hashTree returns the root over 1 to maxLeaves leaves, and the path of each.
func hashTree(leaves [][32]byte) (root [32]byte, paths []path) {
	paths = make([]path, len(leaves))
	level := append([][32]byte(nil), leaves...)
	for height := 0; len(level) > 1; height++ {
		for i := range paths {
			at := i >> height
			beside := at ^ 1
			if beside >= len(level) {
				continue // the last of an odd number: it is a node of the next level as it is
			}
			p := &paths[i]
			if beside < at {
				p.sides |= 1 << (len(p.hashes) / 32)
			}
			p.hashes = append(p.hashes, level[beside][:]...)
		}
		next := level[:0]
		for i := 0; i < len(level); i += 2 {
			if i+1 == len(level) {
				next = append(next, level[i])
			} else {
				next = append(next, nodeHash(level[i][:], level[i+1][:]))
			}
		}
		level = next
	}
	return level[0], paths
}

// root returns what the node must have signed for the answer to be believed.
func (at *attested) root() (Root, error) {
	if len(at.Path)%32 != 0 || len(at.Path) > 32*maxPath || at.Sides>>(len(at.Path)/32) != 0 {
		return Root{}, fmt.Errorf("%w: path of %d bytes, sides %x", ErrMalformed, len(at.Path), at.Sides)
	}
	h := leafHash(at.Answer)
	for i := 0; i < len(at.Path)/32; i++ {
		beside := at.Path[32*i : 32*i+32]
		if at.Sides>>i&1 == 1 {
			h = nodeHash(beside, h[:])
		} else {
			h = nodeHash(h[:], beside)
		}
	}
	return Root{h, at.Sig}, nil
}

var errUnsigned = errors.New("vault: answer is not signed by the node")
