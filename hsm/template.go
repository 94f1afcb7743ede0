package hsm

/*
#include <stdlib.h>
#include <string.h>
typedef struct { unsigned long type; void *value; unsigned long size; } attribute;
*/
import "C"

import (
	"bytes"
	"fmt"
	"slices"
	"unsafe"

	"github.com/miekg/pkcs11"
)

// Constants of PKCS#11 3.0 and 2.40 that the module lacks.
const (
	mechKWP = 0x210B // CKM_AES_KEY_WRAP_KWP, RFC 5649
	// mechSoftKWP is CKM_AES_KEY_WRAP_PAD, which is RFC 5649 in SoftHSM and
	// other things elsewhere.
	mechSoftKWP = 0x210A
)

// oidP256 is the DER of prime256v1's object identifier, as CKA_EC_PARAMS.
var oidP256 = []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}

type attributes []*pkcs11.Attribute

func attr(kind uint, value any) *pkcs11.Attribute { return pkcs11.NewAttribute(kind, value) }

func mechanism(kind uint, param any) []*pkcs11.Mechanism {
	return []*pkcs11.Mechanism{pkcs11.NewMechanism(kind, param)}
}

// uses says every use of a key, true for those named and false for the rest:
// what a template leaves out, SoftHSM sets to true.
func uses(class uint, allowed ...uint) attributes {
	all := []uint{pkcs11.CKA_ENCRYPT, pkcs11.CKA_DECRYPT, pkcs11.CKA_SIGN, pkcs11.CKA_VERIFY, pkcs11.CKA_WRAP, pkcs11.CKA_UNWRAP, pkcs11.CKA_DERIVE}
	if class == pkcs11.CKO_PRIVATE_KEY {
		all = []uint{pkcs11.CKA_DECRYPT, pkcs11.CKA_SIGN, pkcs11.CKA_SIGN_RECOVER, pkcs11.CKA_UNWRAP, pkcs11.CKA_DERIVE}
	}
	if class == pkcs11.CKO_PUBLIC_KEY {
		all = []uint{pkcs11.CKA_ENCRYPT, pkcs11.CKA_VERIFY, pkcs11.CKA_VERIFY_RECOVER, pkcs11.CKA_WRAP}
	}
	var as attributes
	for _, use := range all {
		as = append(as, attr(use, slices.Contains(allowed, use)))
	}
	return as
}

// tokenKey is what all private and secret keys of the token have in common:
// they stay in it, cannot be changed or copied, and serve one mechanism.
func tokenKey(class, kind, mech uint, label string, id []byte, allowed ...uint) attributes {
	return append(uses(class, allowed...),
		attr(pkcs11.CKA_CLASS, class), attr(pkcs11.CKA_KEY_TYPE, kind),
		attr(pkcs11.CKA_LABEL, label), attr(pkcs11.CKA_ID, id),
		attr(pkcs11.CKA_TOKEN, true), attr(pkcs11.CKA_PRIVATE, true),
		attr(pkcs11.CKA_SENSITIVE, true), attr(pkcs11.CKA_EXTRACTABLE, false),
		attr(pkcs11.CKA_MODIFIABLE, false), attr(pkcs11.CKA_COPYABLE, false),
		attr(pkcs11.CKA_ALLOWED_MECHANISMS, attr(0, mech).Value))
}

// publicKey is the public half of a pair; nothing is done with it in the token.
func publicKey(token bool, label string, id []byte) attributes {
	as := append(uses(pkcs11.CKO_PUBLIC_KEY),
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC),
		attr(pkcs11.CKA_TOKEN, token), attr(pkcs11.CKA_PRIVATE, false), attr(pkcs11.CKA_EC_PARAMS, oidP256))
	if token {
		as = append(as, attr(pkcs11.CKA_LABEL, label), attr(pkcs11.CKA_ID, id))
	}
	return as
}

// accountKey is a key of an account at birth: extractable until it is wrapped.
func accountKey() attributes {
	return append(uses(pkcs11.CKO_PRIVATE_KEY, pkcs11.CKA_DERIVE),
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC),
		attr(pkcs11.CKA_TOKEN, false), attr(pkcs11.CKA_PRIVATE, true),
		attr(pkcs11.CKA_SENSITIVE, true), attr(pkcs11.CKA_EXTRACTABLE, true))
}

// unwrapped is what a record may become, and nothing else: the wrapping key
// carries it as CKA_UNWRAP_TEMPLATE, and each unwrapping repeats it, because
// SoftHSM wants every attribute of the former in the latter.
func unwrapped() attributes {
	return attributes{
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC),
		attr(pkcs11.CKA_TOKEN, false), attr(pkcs11.CKA_SENSITIVE, true), attr(pkcs11.CKA_EXTRACTABLE, false),
		attr(pkcs11.CKA_DERIVE, true), attr(pkcs11.CKA_SIGN, false),
	}
}

// derived is the x coordinate that ECDH yields: readable, for it is the answer.
// The empty check value keeps SoftHSM from computing one.
func derived() attributes {
	return attributes{
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET),
		attr(pkcs11.CKA_TOKEN, false), attr(pkcs11.CKA_PRIVATE, true),
		attr(pkcs11.CKA_SENSITIVE, false), attr(pkcs11.CKA_EXTRACTABLE, true),
		attr(pkcs11.CKA_VALUE_LEN, 32), attr(pkcs11.CKA_CHECK_VALUE, nil),
	}
}

// nested encodes as as the value of an attribute that holds attributes. The
// memory is C's, since it holds pointers; free releases it.
func nested(kind uint, as attributes) (a *pkcs11.Attribute, free func()) {
	size := C.size_t(len(as)) * C.size_t(unsafe.Sizeof(C.attribute{}))
	block := C.calloc(1, size)
	entries := unsafe.Slice((*C.attribute)(block), len(as))
	for i, in := range as {
		entries[i] = C.attribute{_type: C.ulong(in.Type), value: C.CBytes(in.Value), size: C.ulong(len(in.Value))}
	}
	free = func() {
		for _, e := range entries {
			C.free(e.value)
		}
		C.free(block)
	}
	return &pkcs11.Attribute{Type: kind, Value: C.GoBytes(block, C.int(size))}, free
}

// checkKey reads back what as asked for and returns [ErrProbe] if the token
// gave a weaker key. CKA_UNWRAP_TEMPLATE is left to the probe, which attacks it.
func (s *session) checkKey(h pkcs11.ObjectHandle, as attributes) error {
	want := append(slices.Clone(as), attr(pkcs11.CKA_LOCAL, true),
		attr(pkcs11.CKA_ALWAYS_SENSITIVE, true), attr(pkcs11.CKA_NEVER_EXTRACTABLE, true))
	for _, a := range want {
		if a.Type == pkcs11.CKA_UNWRAP_TEMPLATE {
			continue
		}
		got, err := s.attribute(h, a.Type)
		if err != nil {
			return fmt.Errorf("%w: reading attribute 0x%x: %w", ErrProbe, a.Type, err)
		}
		if !bytes.Equal(got, a.Value) {
			return fmt.Errorf("%w: attribute 0x%x is %x, want %x", ErrProbe, a.Type, got, a.Value)
		}
	}
	return nil
}

func (s *session) attribute(h pkcs11.ObjectHandle, kind uint) ([]byte, error) {
	as, err := s.p.GetAttributeValue(s.h, h, attributes{attr(kind, nil)})
	if err != nil {
		return nil, err
	}
	return as[0].Value, nil
}
