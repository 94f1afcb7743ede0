// Package seal encrypts one object for a server that is not trusted.
//
//	object       = part+ [footer]
//	part         = part header, chunk+
//
//	offset  size  field of a part header (192 bytes, the same 152 in each part)
//	0       8     magic "\x89coffer\n"
//	8       4     version 1, suite, log2 of the chunk size (16), flags
//	12      4     length of this header, 192
//	16      16    object id, random
//	32      8     id of the backup key
//	40      32    salt, random
//	72      48    data key, sealed under the backup key
//	120     32    commitment to the data key
//	152     32    salt of this part, random for each attempt
//	184     2     number of this part; 0 when the object has only one
//	186     6     zero
//
// Each chunk is 64 KiB of plaintext (the last of a part may be shorter) under
// AES-256-GCM or XChaCha20-Poly1305 with a counter and a last-chunk flag as
// nonce, under a key of that part alone. So a range costs only its own chunks,
// and a cut, moved, repeated or foreign chunk does not open. The footer is a
// sealed record of attributes and the table of parts.
//
// The package also seals names ([Keys.SealName]) and the small envelope that
// binds a gateway object to its name ([Keys.SealEnvelope]). It does no I/O of
// its own. FORMAT.md is the specification, testdata/vectors its proof.
package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// ErrCorrupt means that the bytes are not those the writer wrote, or do not
// belong to the name they were found under. Trying again does not help.
var ErrCorrupt = errors.New("object is corrupt")

// ErrKey means that the object was sealed under another backup key, or for
// another store. It is said before anything is decrypted.
var ErrKey = errors.New("sealed under another backup key")

// ErrVersion means a format that this release does not know.
var ErrVersion = errors.New("unknown format version")

// Seal seals a small whole object, bound to name: under any other name it does
// not open. An empty name binds nothing.
func (k *Keys) Seal(name string, plain []byte) []byte {
	var b bytes.Buffer
	b.Grow(int(SealedSize(int64(len(plain)))))
	w, err := NewWriter(&b, k, Options{Name: name})
	if err == nil {
		_, err = w.Write(plain)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil { // a bytes.Buffer refuses nothing
		panic("seal: internal error: " + err.Error())
	}
	return b.Bytes()
}

// Open is the inverse of [Keys.Seal]. The whole result is authentic or absent.
func (k *Keys) Open(name string, sealed []byte) ([]byte, error) {
	r, err := NewReader(bytes.NewReader(sealed), k, name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	plain := bytes.NewBuffer(make([]byte, 0, len(sealed)))
	if _, err := io.Copy(plain, r); err != nil {
		return nil, fmt.Errorf("opening %q: %w", name, err)
	}
	return plain.Bytes(), nil
}
