package vault

import (
	"bytes"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// maxMessage is the longest encoding that is read or written: requests, answers,
// commands, records, ledger entries, manifests.
const maxMessage = 16 << 10

var (
	enc = must(encOptions().EncMode())
	dec = must(cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		MaxNestedLevels:   8,
		MaxArrayElements:  128,
		MaxMapPairs:       64,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		UTF8:              cbor.UTF8RejectInvalid,
	}.DecMode())
)

// encOptions writes nil and empty slices alike, else one value had two encodings.
func encOptions() cbor.EncOptions {
	o := cbor.CoreDetEncOptions()
	o.NilContainers = cbor.NilContainerAsEmpty
	return o
}

func must[T any](v T, err error) T {
	if err != nil { // options are constants
		panic(err)
	}
	return v
}

// encode returns the one deterministic encoding of v (RFC 8949, 4.2.1).
func encode(v any) []byte {
	return must(enc.Marshal(v)) // fails only for types that are none of ours
}

// decode reads what [encode] wrote, and nothing else: a second encoding of the
// same value, which would have another signature, is refused.
func decode(data []byte, v any) error {
	if len(data) > maxMessage {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrMalformed, len(data), maxMessage)
	}
	if err := dec.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	again, err := enc.Marshal(v)
	if err != nil || !bytes.Equal(again, data) {
		return fmt.Errorf("%w: not in its deterministic encoding", ErrMalformed)
	}
	return nil
}

// decodeState reads what this program stored itself: longer, as an account holds
// two records and the tokens of its attempts, and not encoded again to compare.
func decodeState(data []byte, v any) error {
	if err := dec.Unmarshal(data, v); err != nil {
		return fmt.Errorf("reading the state: %w: %v", ErrMalformed, err)
	}
	return nil
}
