package ppss

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/oprf"
)

// maxInput is the longest OPRF input: RFC 9497 writes its length in two bytes.
const maxInput = 1<<16 - 1

// Blinded is an OPRF input on its way: what is known of it outside is
// [Blinded.Element], which is uniformly random whatever the input.
// It is safe for concurrent use and prints as hidden.
type Blinded struct {
	data    *oprf.FinalizeData
	element [33]byte
	scalar  [32]byte
}

// Format keeps the input and the blind out of every log.
func (*Blinded) Format(f fmt.State, _ rune) { io.WriteString(f, "ppss.Blinded(hidden)") }

// Input encodes what the OPRF is evaluated on. Every field is preceded by its
// length, so that no two sets of fields give the same bytes: the same password
// in another fleet, account or epoch is another input.
func Input(fleet, account, epoch []byte, pwh [32]byte) []byte {
	return frame(labelInput, fleet, account, epoch, pwh[:])
}

// frame joins a label and fields, each preceded by its length in 4 bytes,
// big-endian.
func frame(label string, fields ...[]byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(label)))
	b = append(b, label...)
	for _, f := range fields {
		b = binary.BigEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	return b
}

// Blind blinds input, of at most 65,535 bytes, with a fresh random scalar.
func Blind(input []byte) (*Blinded, error) {
	r := group.P256.RandomNonZeroScalar(rand.Reader)
	return blind(input, r)
}

// Resume blinds input as an earlier [Blind] of the same input did whose
// [Blinded.Scalar] was r. A client that was cut off asks for the answer to its
// attempt again: the vault answers only to the element that it has counted.
func Resume(input []byte, r [32]byte) (*Blinded, error) {
	k, err := parseScalar(r)
	if err != nil {
		return nil, err
	}
	return blind(input, k)
}

func blind(input []byte, r group.Scalar) (*Blinded, error) {
	if len(input) > maxInput {
		return nil, fmt.Errorf("ppss: blinding: input of %d bytes, at most %d", len(input), maxInput)
	}
	// circl keeps the slice that it is given.
	in := append([]byte(nil), input...)
	data, req, err := oprf.NewClient(oprf.SuiteP256).DeterministicBlind([][]byte{in}, []oprf.Blind{r})
	if err != nil {
		return nil, fmt.Errorf("ppss: blinding: %w", err)
	}
	b := &Blinded{data: data}
	e, err := req.Elements[0].MarshalBinaryCompress()
	if err != nil {
		return nil, fmt.Errorf("ppss: blinding: %w", err)
	}
	k, err := r.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("ppss: blinding: %w", err)
	}
	copy(b.element[:], e)
	copy(b.scalar[:], k)
	return b, nil
}

// Element is the blinded element, a compressed point. It is public.
func (b *Blinded) Element() [33]byte { return b.element }

// Scalar is the blind, for [Resume]. Beside the element it makes the input
// guessable, so it is as secret as a hash of the password.
func (b *Blinded) Scalar() [32]byte { return b.scalar }

// Finalize removes the blind from what a node made of the element and returns
// the output of the OPRF, rho. It fails with [ErrPoint] if evaluated is no
// point; it cannot tell whether the right key was used.
func (b *Blinded) Finalize(evaluated [33]byte) (rho [32]byte, err error) {
	if err := CheckPoint(evaluated); err != nil {
		return rho, err
	}
	p := group.P256.NewElement()
	if err := p.UnmarshalBinary(evaluated[:]); err != nil {
		return rho, fmt.Errorf("%w: %w", ErrPoint, err)
	}
	out, err := oprf.NewClient(oprf.SuiteP256).Finalize(b.data, &oprf.Evaluation{Elements: []oprf.Evaluated{p}})
	if err != nil {
		return rho, fmt.Errorf("ppss: finalizing: %w", err)
	}
	copy(rho[:], out[0])
	return rho, nil
}
