package vault

import (
	"bytes"
	"math"
	"reflect"
	"testing"
)

// The two readers of an attempt must agree on every byte string: nodes that took one
// for another would part for ever.
func FuzzAttempt(f *testing.F) {
	b := &AttemptBody{UID: UID{1}, Epoch: Epoch{2}, ID: AttemptID{3}, Element: [33]byte{2, 4}}
	for _, at := range []int64{0, 23, 24, 255, 256, 65535, 65536, 1 << 32, maxTime, maxTime + 1} {
		for _, token := range [][]byte{{}, make([]byte, 23), make([]byte, 24), make([]byte, 255), make([]byte, 256), make([]byte, maxToken), make([]byte, maxToken+1)} {
			f.Add(encodeCommand(&Command{Kind: KindAttempt, Time: at, Token: token, Body: encode(b)}))
		}
	}
	f.Add(encodeCommand(&Command{Kind: KindStart, Token: []byte{}, Body: encode(b)}))
	f.Add(encodeCommand(&Command{Kind: KindAttempt, Time: -1, Token: []byte{}, Body: encode(b)}))
	good := encodeCommand(&Command{Kind: KindAttempt, Time: 1767225600000, Token: []byte("token"), Body: encode(b)})
	for i := range good {
		bad := bytes.Clone(good)
		bad[i]++
		f.Add(bad)
		f.Add(good[:i])
	}
	f.Add(append(bytes.Clone(good), 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		quickC, quickB, ok := parseAttempt(data)
		c, err := parseCommand(data)
		var body any
		if err == nil && c.Kind == KindAttempt {
			b := new(AttemptBody)
			body, err = b, decode(c.Body, b)
		}
		want := err == nil && c.Kind == KindAttempt
		if ok != want {
			t.Fatalf("read quickly: %v, otherwise: %v (%v)", ok, want, err)
		}
		if ok && (!reflect.DeepEqual(c, quickC) || !reflect.DeepEqual(body, quickB)) {
			t.Error("the same bytes are read as two commands")
		}
	})
}

func TestOutcomeIsEncodedAlike(t *testing.T) {
	numbers := []uint64{0, 1, 23, 24, 255, 256, 65535, 65536, math.MaxUint32, math.MaxUint32 + 1, math.MaxInt64}
	for _, n := range numbers {
		for _, sign := range []int64{1, -1} {
			o := &outcome{Code: Code(n), Left: uint8(n), Failed: uint8(n), Last: int64(n) * sign, Retry: uint32(n), Seq: n}
			if !bytes.Equal(o.encode(), encode(o)) {
				t.Errorf("%+v is %x, want %x", o, o.encode(), encode(o))
			}
		}
	}
}
