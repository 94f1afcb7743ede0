package vault

import (
	"context"
	"encoding/hex"
	"testing"
)

// The tree is that of RFC 6962: these are the roots of its reference implementation's test.
func TestTreeIsThatOfRFC6962(t *testing.T) {
	var leaves [][32]byte
	roots := map[int]string{
		1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
		3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
		4: "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
		5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
		6: "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
		7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
		8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	}
	for _, s := range []string{"", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"} {
		leaves = append(leaves, leafHash(must(hex.DecodeString(s))))
		if root, _ := hashTree(leaves); hex.EncodeToString(root[:]) != roots[len(leaves)] {
			t.Errorf("root of %d leaves: %x, want %s", len(leaves), root, roots[len(leaves)])
		}
	}
}

// Each answer of a batch leads to what is signed, and nothing else does.
func TestPaths(t *testing.T) {
	h := newSoftHSM(t)
	identity := must(IdentityKey(&h.identity.PublicKey))
	for _, n := range []int{1, 2, 3, 7, 8, 100, maxLeaves} {
		var answers [][]byte
		var leaves [][32]byte
		for i := range n {
			answers = append(answers, []byte{byte(i), byte(n)})
			leaves = append(leaves, leafHash(answers[i]))
		}
		root, paths := hashTree(leaves)
		sig := must(h.Sign(context.Background(), treeDigest(root)))
		verify := func(at attested) bool {
			r, err := at.root()
			return err == nil && r.Verify(identity)
		}
		for i := range n {
			good := attested{answers[i], sig, paths[i].sides, paths[i].hashes}
			if !verify(good) {
				t.Fatalf("answer %d of %d is not believed", i, n)
			}
			bad := good
			bad.Answer = []byte{byte(i), byte(n), 0}
			if verify(bad) {
				t.Errorf("another answer than %d of %d is believed", i, n)
			}
			if bad = good; n > 1 {
				bad.Sides ^= 1
				if verify(bad) {
					t.Errorf("answer %d of %d is believed with the sides exchanged", i, n)
				}
				bad = good
				bad.Path = bad.Path[32:]
				if bad.Sides >>= 1; verify(bad) {
					t.Errorf("answer %d of %d is believed without its sibling", i, n)
				}
			}
		}
		if _, err := (&attested{Path: make([]byte, 32*maxPath+32)}).root(); err == nil {
			t.Error("a path of nine hashes is followed")
		}
	}
}

// What is hashed for a node of the tree must not be an answer: who can make two answers be
// neighbours would else have a third one signed. Nor must a root's signature be one of an answer by HTTP.
func TestTreeHashesAreApart(t *testing.T) {
	a, b := leafHash([]byte("a")), leafHash([]byte("b"))
	if leafHash(append(a[:], b[:]...)) == nodeHash(a[:], b[:]) {
		t.Error("a node of the tree is an answer, too")
	}
	if treeDigest(a) == answerDigest(a[:]) {
		t.Error("a root is signed like an answer")
	}
}
