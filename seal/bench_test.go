package seal

import (
	"bytes"
	"fmt"
	"io"
	"testing"
)

func BenchmarkWrite(b *testing.B) {
	k := testKeys(b)
	for _, suite := range []Suite{SuiteAES, SuiteChaCha} {
		for _, size := range []int{1 << 10, 1 << 16, 16 << 20} {
			b.Run(fmt.Sprintf("suite%d/%d", suite, size), func(b *testing.B) {
				plain := make([]byte, size)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					w, err := NewWriter(io.Discard, k, Options{Suite: suite})
					if err == nil {
						_, err = w.Write(plain)
					}
					if err == nil {
						err = w.Close()
					}
					if err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkRead(b *testing.B) {
	k := testKeys(b)
	for _, size := range []int{1 << 10, 1 << 16, 16 << 20} {
		sealed := write(b, k, Options{}, make([]byte, size), 1<<20, Record{})
		m := &memory{b: sealed}
		o, err := OpenObject(b.Context(), m.source, int64(len(sealed)), k, "")
		if err != nil {
			b.Fatal(err)
		}
		read := map[string]func() (io.ReadCloser, error){
			"stream": func() (io.ReadCloser, error) { return NewReader(bytes.NewReader(sealed), k, "") },
			"object": func() (io.ReadCloser, error) { return o.NewReader(b.Context(), 0, -1) },
		}
		for _, how := range []string{"stream", "object"} {
			b.Run(fmt.Sprintf("%s/%d", how, size), func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					r, err := read[how]()
					if err == nil {
						_, err = io.Copy(io.Discard, r)
					}
					if err == nil {
						err = r.Close()
					}
					if err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkName(b *testing.B) {
	k := testKeys(b)
	for b.Loop() {
		if _, err := k.SealName("bucket", "photos/2026/11/anna.jpg"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEnvelope(b *testing.B) {
	k := testKeys(b)
	for b.Loop() {
		s, err := k.SealEnvelope("bucket", "photos/anna.jpg", Envelope{Generation: 1})
		if err == nil {
			_, err = k.OpenEnvelope("bucket", "photos/anna.jpg", s)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
