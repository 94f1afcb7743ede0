package vault

import (
	"bytes"
	"math"
	"reflect"
	"testing"
)

// The quick readers and writers must agree with those by reflection on every byte string.
func FuzzAnswer(f *testing.F) {
	for _, v := range readVectors(f) {
		f.Add(v.data)
	}
	for _, n := range []uint64{0, 23, 24, 255, 256, 65535, 65536, math.MaxUint32, math.MaxUint32 + 1, math.MaxUint64} {
		a := &Answer{Version: uint8(n), Node: "ü", Code: Code(n), Leader: "n2", Retry: uint32(n), Left: uint8(n), Failed: uint8(n), Last: n,
			Disable: n, Seq: n, Record: make([]byte, n%1000), Former: make([]byte, n%30), Used: uint32(n)}
		if !bytes.Equal(a.encode(), encode(a)) {
			f.Errorf("%+v is %x, want %x", a, a.encode(), encode(a))
		}
		f.Add(a.encode())
		a.Node = "\xff"
		f.Add(a.encode())
		for _, last := range []int64{int64(n), -int64(n), math.MinInt64, math.MaxInt64} {
			f.Add((&outcome{Code: Code(n), Left: uint8(n), Failed: uint8(n), Last: last, Retry: uint32(n), Seq: n}).encode())
		}
		at := &attested{Answer: make([]byte, n%1000), Sides: uint8(n), Path: make([]byte, n%300)}
		full := encode(at)
		if b, err := at.encode(len(full)); err != nil || !bytes.Equal(b, full) {
			f.Errorf("%+v is %x, %v, want %x", at, b, err, full)
		}
		if _, err := at.encode(len(full) - 1); err == nil {
			f.Error("an answer is cut to its size")
		}
		f.Add(full)
		r := &Request{Version: uint8(n), Kind: Kind(n), Token: make([]byte, n%1000), Body: make([]byte, n%30)}
		if !bytes.Equal(r.encode(), encode(r)) {
			f.Errorf("%+v is %x, want %x", r, r.encode(), encode(r))
		}
		f.Add(r.encode())
		c := &Command{Kind: Kind(n), Time: int64(n), Token: make([]byte, n%1000), Body: make([]byte, n%30)}
		if want := append([]byte{writtenCommand}, encode(c)...); !bytes.Equal(c.encode(), want) {
			f.Errorf("%+v is %x, want %x", c, c.encode(), want)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > maxMessage {
			return // each has a lower limit of its own
		}
		var a, b Answer
		alike(t, "answer", data, a.decode(data), decode(data, &b), &a, &b)
		var r, s Request
		alike(t, "request", data, r.decode(data), decode(data, &s), &r, &s)
		var o, p outcome
		alike(t, "outcome", data, o.decode(data), decode(data, &p), &o, &p)
		var x, y attested
		errX := x.decode(data)
		rest, errY := dec.UnmarshalFirst(data, &y)
		if errY == nil && (!bytes.Equal(encode(&y), data[:len(data)-len(rest)]) || len(bytes.Trim(rest, "\x00")) != 0) {
			errY = ErrMalformed
		}
		alike(t, "attested", data, errX, errY, &x, &y)
	})
}

func alike(t *testing.T, what string, data []byte, quickly, otherwise error, a, b any) {
	t.Helper()
	if (quickly == nil) != (otherwise == nil) {
		t.Errorf("%s %x: read quickly: %v, otherwise: %v", what, data, quickly, otherwise)
	}
	if quickly == nil && !reflect.DeepEqual(a, b) {
		t.Errorf("%s %x: %+v and %+v", what, data, a, b)
	}
}
