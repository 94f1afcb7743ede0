package seal_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/crypto/chacha20poly1305"
)

// What follows is a second reader of the format, written from FORMAT.md alone
// and sharing no code with the package. It keeps the specification honest.

func h(secret, salt []byte, info string) []byte {
	b, err := hkdf.Key(sha256.New, secret, salt, info, 32)
	if err != nil {
		panic(err)
	}
	return b
}

type decoder struct {
	prk   []byte
	store []byte
}

func (d decoder) expand(info string) []byte {
	b, err := hkdf.Expand(sha256.New, d.prk, info, 32)
	if err != nil {
		panic(err)
	}
	return b
}

func newDecoder(key, store []byte) decoder {
	prk, err := hkdf.Extract(sha256.New, key, append([]byte("coffer store v1"), store...))
	if err != nil {
		panic(err)
	}
	return decoder{prk, store}
}

func aead(suite byte, key []byte) (cipher.AEAD, error) {
	if suite == 2 {
		return chacha20poly1305.NewX(key)
	}
	b, err := aes.NewCipher(key)
	if err != nil || suite != 1 {
		return nil, fmt.Errorf("suite %d: %v", suite, err)
	}
	return cipher.NewGCM(b)
}

func once(suite byte, key, sealed, data []byte) ([]byte, error) {
	a, err := aead(suite, key)
	if err != nil {
		return nil, err
	}
	return a.Open(nil, make([]byte, a.NonceSize()), sealed, data)
}

// object opens a whole object, section 2.
func (d decoder) object(b []byte, name string) ([]byte, error) {
	if len(b) < 208 || string(b[:8]) != "\x89coffer\n" || b[8] != 1 || b[10] != 16 || binary.BigEndian.Uint32(b[12:]) != 192 {
		return nil, errors.New("header")
	}
	suite, flags, salt := b[9], b[11], b[40:72]
	if flags > 7 || flags&4 != 0 && flags&2 == 0 || (flags&1 != 0) != (name != "") {
		return nil, errors.New("flags")
	}
	if !bytes.Equal(b[32:40], d.expand("coffer seal key id v1\x00\x00\x00\x00")[:8]) {
		return nil, errors.New("key id")
	}
	info := "coffer wrap v1" + string(b[:40])
	if name != "" {
		sum := sha256.Sum256([]byte(name))
		info += string(sum[:])
	}
	dek, err := once(suite, h(d.expand("coffer seal wrap v1\x00\x00\x00\x00"), salt, info), b[72:120], b[:72])
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(h(dek, salt, "coffer commit v1"+string(b[:120])), b[120:152]) {
		return nil, errors.New("commitment")
	}
	if flags&2 == 0 {
		return part(b, b[:152], dek, b[152:184], 0)
	}
	return withFooter(b, dek)
}

// withFooter opens an object that ends with a footer, section 2.3.
func withFooter(b, dek []byte) ([]byte, error) {
	suite, tail := b[9], b[len(b)-32:]
	n, count := int(binary.BigEndian.Uint32(tail)), int(binary.BigEndian.Uint32(tail[4:]))
	if string(tail[24:]) != "\x89footer\n" || n%512 != 32 || n < 544 || n > len(b)-208 {
		return nil, errors.New("tail")
	}
	footer, body, data := b[len(b)-n:len(b)-32], b[:len(b)-n], tail
	if b[11]&4 == 0 {
		data = append(bytes.Clone(b[152:184]), tail...)
	}
	plain, err := once(suite, h(dek, footer[:32], "coffer footer v1"+string(b[16:32])), footer[32:], data)
	if err != nil {
		return nil, err
	}
	var record struct {
		Size  int `cbor:"1,keyasint"`
		Parts []struct {
			_      struct{} `cbor:",toarray"`
			Number uint16
			Size   int
			Salt   []byte
			MD5    []byte
			Sum    []byte
		} `cbor:"2,keyasint"`
	}
	if _, err := cbor.UnmarshalFirst(plain, &record); err != nil || len(record.Parts) != count {
		return nil, fmt.Errorf("record: %v", err)
	}
	if b[11]&4 == 0 {
		got, err := part(body, b[:152], dek, b[152:184], 0)
		if err == nil && len(got) != record.Size {
			err = errors.New("size")
		}
		return got, err
	}
	var all []byte
	for _, p := range record.Parts {
		size := 192 + p.Size + 16*max(1, (p.Size+65535)/65536)
		if size > len(body) {
			return nil, errors.New("parts are cut")
		}
		got, err := part(body[:size], b[:152], dek, p.Salt, p.Number)
		if err != nil {
			return nil, err
		}
		all, body = append(all, got...), body[size:]
	}
	if len(body) != 0 || len(all) != record.Size {
		return nil, errors.New("size")
	}
	return all, nil
}

// part opens one part, sections 2.1 and 2.2.
func part(b, object, dek, salt []byte, number uint16) ([]byte, error) {
	want := append(bytes.Clone(object), salt...)
	want = append(binary.BigEndian.AppendUint16(want, number), 0, 0, 0, 0, 0, 0)
	if len(b) < 208 || !bytes.Equal(b[:192], want) {
		return nil, errors.New("part header")
	}
	a, err := aead(b[9], h(dek, salt, "coffer part v1"+string(b[16:32])+string(want[184:186])))
	if err != nil {
		return nil, err
	}
	var all []byte
	b = b[192:]
	for i := uint32(0); ; i++ {
		n, last := 65552, byte(0)
		if len(b) <= n {
			n, last = len(b), 1
		}
		nonce := make([]byte, a.NonceSize())
		nonce[len(nonce)-1] = last
		binary.BigEndian.PutUint32(nonce[len(nonce)-5:], i)
		got, err := a.Open(nil, nonce, b[:n], nil)
		if err != nil || i > 0 && len(got) == 0 {
			return nil, fmt.Errorf("chunk %d: %v", i, err)
		}
		if all, b = append(all, got...), b[n:]; last == 1 {
			return all, nil
		}
	}
}

func (d decoder) sum(kind byte, bucket, parent, s string) []byte {
	m := hmac.New(sha256.New, d.expand("coffer seal name mac v1"))
	m.Write([]byte{kind, byte(len(bucket) >> 8), byte(len(bucket))})
	m.Write([]byte(bucket))
	m.Write([]byte{byte(len(parent) >> 8), byte(len(parent))})
	m.Write([]byte(parent + s))
	return m.Sum(nil)
}

// name opens a sealed key, section 3.
func (d decoder) name(bucket, sealed string) (string, error) {
	if len(sealed) > 800 || strings.ContainsAny(sealed, "\r\n") {
		return "", errors.New("sealed name")
	}
	key := ""
	for i, s := range strings.Split(sealed, "/") {
		if i > 0 {
			key += "/"
		}
		e := base32.HexEncoding.WithPadding(base32.NoPadding)
		raw, err := e.DecodeString(strings.ToUpper(s))
		if err != nil || strings.ToLower(e.EncodeToString(raw)) != s || len(raw) < 32 || len(raw)%16 != 0 {
			return "", errors.New("base32")
		}
		block, err := aes.NewCipher(d.expand("coffer seal name enc v1"))
		if err != nil {
			return "", err
		}
		cipher.NewCTR(block, raw[:16]).XORKeyStream(raw[16:], raw[16:])
		padded := bytes.TrimRight(raw[16:], "\x00")
		if len(padded) == 0 || padded[len(padded)-1] != 0x80 || len(padded) > 128 || len(padded) <= len(raw)-32 {
			return "", errors.New("padding")
		}
		segment := string(padded[:len(padded)-1])
		if !bytes.Equal(d.sum(1, bucket, key, segment)[:16], raw[:16]) {
			return "", errors.New("mac")
		}
		key += segment
	}
	if key == "" || len(key) > 1024 {
		return "", errors.New("length")
	}
	return key, nil
}

// envelope opens an envelope, section 4, to its generation.
func (d decoder) envelope(bucket, key, s string) (generation uint64, err error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) < 50 || b[0] != 1 || strings.ContainsAny(s, "\r\n") || len(s) > 1920 {
		return 0, fmt.Errorf("form: %v", err)
	}
	if !bytes.Equal(b[2:10], d.expand("coffer seal key id v1\x00\x00\x00\x00")[:8]) {
		return 0, errors.New("key id")
	}
	data := bytes.Join([][]byte{b[:34], d.store, d.sum(3, bucket, "", key)}, nil)
	plain, err := once(b[1], h(d.expand("coffer seal envelope v1"), b[10:34], "coffer envelope v1"), b[34:], data)
	if err != nil {
		return 0, err
	}
	var e struct {
		Generation uint64 `cbor:"2,keyasint"`
	}
	return e.Generation, cbor.Unmarshal(plain, &e)
}

// The second reader agrees with every vector about what opens, and to what. It
// does not check that CBOR is canonical, so it may open the record-... ones.
func TestIndependentDecoder(t *testing.T) {
	files, err := filepath.Glob("testdata/vectors/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors: %v", err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		text, body, _ := bytes.Cut(raw, []byte("\n\n"))
		head := make(map[string]string)
		for line := range strings.SplitSeq(string(text), "\n") {
			name, value, _ := strings.Cut(line, ": ")
			head[name] = value
		}
		field := func(name string) []byte {
			b, err := hex.DecodeString(head[name])
			if err != nil {
				t.Fatalf("%s: %s: %v", f, name, err)
			}
			return b
		}
		d := newDecoder(field("key"), field("store"))
		var plain []byte
		switch head["kind"] {
		case "object":
			plain, err = d.object(body, string(field("name")))
		case "name":
			var s string
			s, err = d.name(string(field("bucket")), string(body))
			plain = []byte(s)
		case "envelope":
			_, err = d.envelope(string(field("bucket")), string(field("name")), string(body))
		}
		good := head["expect"] == "success"
		if good != (err == nil) && !strings.HasPrefix(filepath.Base(f), "record-") {
			t.Errorf("%s: %v", f, err)
		}
		if sum := sha256.Sum256(plain); good && head["kind"] != "envelope" && hex.EncodeToString(sum[:]) != head["plain-sha256"] {
			t.Errorf("%s: other plaintext", f)
		}
	}
}
