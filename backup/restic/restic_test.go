package restic

import (
	"errors"
	"fmt"
	"testing"
)

// What is not a key, or asks for more memory than there is, is refused before
// scrypt runs.
func TestOpenKeyBounds(t *testing.T) {
	for _, bad := range []string{
		``, `{}`, `{"kdf":"md5","N":32768,"r":8,"p":1}`, `{"kdf":"scrypt","N":1,"r":8,"p":1}`, `{"kdf":"scrypt","N":1073741824,"r":8,"p":1}`,
		`{"kdf":"scrypt","N":2,"r":4611686018427387904,"p":1}`, `{"kdf":"scrypt","N":32768,"r":8,"p":65}`, `{"kdf":"scrypt","N":3,"r":8,"p":1}`,
	} {
		if _, err := openKey([]byte(bad), "x"); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if _, err := openKey([]byte(`{"kdf":"scrypt","N":2,"r":1,"p":1,"salt":"AAAA","data":"AAAA"}`), "x"); !errors.Is(err, ErrPassword) {
		t.Errorf("data that does not open: %v", err)
	}
	if got := fmt.Sprintf("%v %+v %s", &key{}, struct{ K *key }{&key{}}, &key{}); got != "restic.key(hidden) {K:restic.key(hidden)} restic.key(hidden)" {
		t.Errorf("a key prints %s", got)
	}
}
