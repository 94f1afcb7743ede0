package proxy

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"hash"
	"hash/crc32"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/minio/crc64nvme"
	"github.com/zeebo/xxh3"
)

// algorithm is one of S3's object checksums.
type algorithm string

const (
	algCRC32     algorithm = "CRC32"
	algCRC32C    algorithm = "CRC32C"
	algCRC64NVME algorithm = "CRC64NVME"
	algSHA1      algorithm = "SHA1"
	algSHA256    algorithm = "SHA256"
	algSHA512    algorithm = "SHA512"
	algMD5       algorithm = "MD5"
	algXXHash64  algorithm = "XXHASH64"
	algXXHash3   algorithm = "XXHASH3"
	algXXHash128 algorithm = "XXHASH128"
)

// The two meanings of the checksum of a multipart object.
const (
	typeFull      = "FULL_OBJECT" // over the bytes of the object
	typeComposite = "COMPOSITE"   // over the checksums of the parts, "-N" behind
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// hashes makes each of them.
var hashes = map[algorithm]func() hash.Hash{
	algCRC32:     func() hash.Hash { return crc32.NewIEEE() },
	algCRC32C:    func() hash.Hash { return crc32.New(castagnoli) },
	algCRC64NVME: func() hash.Hash { return crc64nvme.New() },
	algSHA1:      sha1.New,
	algSHA256:    sha256.New,
	algSHA512:    sha512.New,
	algMD5:       md5.New,
	algXXHash64:  func() hash.Hash { return xxhash.New() },
	algXXHash3:   func() hash.Hash { return xxh3.New() },
	algXXHash128: func() hash.Hash { return xxh3.New128() },
}

var algorithms = slices.Sorted(maps.Keys(hashes))

// header is the HTTP header that carries a checksum of this algorithm.
func (a algorithm) header() string { return http.CanonicalHeaderKey("X-Amz-Checksum-" + string(a)) }

func (a algorithm) new() hash.Hash { return hashes[a]() }

func (a algorithm) size() int { return a.new().Size() }

// isCRC reports whether checksums of parts can be combined to that of the whole.
func (a algorithm) isCRC() bool { return strings.HasPrefix(string(a), "CRC") }

// parseAlgorithm reads the name of an algorithm, in any case.
func parseAlgorithm(s string) (algorithm, bool) {
	for _, a := range algorithms {
		if strings.EqualFold(s, string(a)) {
			return a, true
		}
	}
	return "", false
}

// checksum is a checksum as S3 writes it: base64, and "-N" behind a composite one.
type checksum struct {
	alg   algorithm
	value string
}

// parseChecksum reads a base64 checksum of one object or part.
func parseChecksum(a algorithm, value string) (checksum, error) {
	raw, err := base64.StdEncoding.DecodeString(value)
	if err != nil || len(raw) != a.size() {
		return checksum{}, errInvalidRequest.saying("Value for %s header is invalid.", strings.ToLower(a.header()))
	}
	return checksum{alg: a, value: value}, nil
}

func sumOf(a algorithm, h hash.Hash) checksum {
	return checksum{alg: a, value: base64.StdEncoding.EncodeToString(h.Sum(nil))}
}

var errUnknownAlgorithm = errInvalidRequest.saying("Checksum algorithm provided is unsupported. Please try again with any of the valid types: " +
	"[CRC32, CRC32C, CRC64NVME, MD5, SHA1, SHA256, SHA512, XXHASH128, XXHASH3, XXHASH64]")

// wanted says which checksum a request brings, or asks for.
type wanted struct {
	alg      algorithm
	value    string // "" when it comes as a trailer, or is only to be computed
	trailer  bool
	declared bool // named by the client, not chosen here
}

// wantedChecksum reads x-amz-checksum-*, x-amz-trailer and
// x-amz-sdk-checksum-algorithm. Without any of them it chooses CRC64NVME, as AWS
// does.
func wantedChecksum(h http.Header) (wanted, error) {
	w := wanted{alg: algCRC64NVME}
	if s := h.Get("X-Amz-Sdk-Checksum-Algorithm"); s != "" {
		a, ok := parseAlgorithm(s)
		if !ok {
			return w, errUnknownAlgorithm
		}
		w.alg, w.declared = a, true
	}
	for name := range h {
		if rest, ok := strings.CutPrefix(name, "X-Amz-Checksum-"); ok && rest != "Mode" && rest != "Type" && rest != "Algorithm" {
			if _, known := parseAlgorithm(rest); !known {
				return w, errInvalidRequest.saying("The algorithm type you specified in x-amz-checksum- header is invalid.")
			}
		}
	}
	var sent []algorithm
	for _, a := range algorithms {
		if len(h.Values(a.header())) > 0 {
			sent = append(sent, a)
		}
	}
	for _, name := range splitList(h.Get("X-Amz-Trailer")) {
		rest, ok := strings.CutPrefix(strings.ToLower(name), "x-amz-checksum-")
		if !ok {
			continue
		}
		a, ok := parseAlgorithm(rest)
		if !ok {
			return w, errInvalidRequest.saying("The value specified in the x-amz-trailer header is not supported")
		}
		sent, w.trailer = append(sent, a), true
	}
	switch {
	case len(sent) == 0:
		return w, nil
	case len(sent) > 1:
		return w, errInvalidRequest.saying("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
	case w.declared && w.alg != sent[0]:
		return w, errInvalidRequest.saying("Value for x-amz-sdk-checksum-algorithm header is invalid.")
	}
	w.alg, w.declared = sent[0], true
	if w.trailer {
		return w, nil
	}
	c, err := parseChecksum(w.alg, h.Get(w.alg.header()))
	w.value = c.value
	return w, err
}

// splitList splits a comma separated header and drops what is empty.
func splitList(s string) []string {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

// sized is the checksum of a part and the number of its bytes.
type sized struct {
	sum  string // base64
	size int64
}

// combine computes the checksum of an object from those of its parts: of the
// whole bytes for typeFull (CRCs only), else the checksum of the checksums.
func combine(a algorithm, kind string, parts []sized) (string, error) {
	h := a.new()
	var crc uint64
	for i, part := range parts {
		raw, err := base64.StdEncoding.DecodeString(part.sum)
		if err != nil || len(raw) != a.size() {
			return "", errInvalidPart
		}
		if kind == typeComposite {
			h.Write(raw)
			continue
		}
		v := crcValue(raw)
		if i == 0 {
			crc = v
		} else {
			crc = crcConcat(a, crc, v, part.size)
		}
	}
	if kind == typeComposite {
		return base64.StdEncoding.EncodeToString(h.Sum(nil)), nil
	}
	out := binary.BigEndian.AppendUint64(nil, crc)
	return base64.StdEncoding.EncodeToString(out[8-a.size():]), nil
}

func crcValue(raw []byte) uint64 {
	var v uint64
	for _, b := range raw {
		v = v<<8 | uint64(b)
	}
	return v
}

// crcConcat returns the CRC of A followed by B, from the CRCs of both and the
// size of B: appending a zero byte is linear over GF(2), so appending size of
// them is a matrix power (the method of zlib's crc32_combine).
func crcConcat(a algorithm, crcA, crcB uint64, size int64) uint64 {
	poly := uint64(crc32.IEEE)
	bits := 32
	switch a {
	case algCRC32C:
		poly = crc32.Castagnoli
	case algCRC64NVME:
		poly, bits = 0x9a6c9329ac4bc9b5, 64
	}
	var odd [64]uint64 // the operator that appends one zero bit
	odd[0] = poly
	for n := 1; n < bits; n++ {
		odd[n] = 1 << (n - 1)
	}
	op := matrixSquare(matrixSquare(matrixSquare(odd, bits), bits), bits) // one zero byte
	for n := size; n > 0; n >>= 1 {
		if n&1 == 1 {
			crcA = matrixTimes(&op, crcA)
		}
		op = matrixSquare(op, bits)
	}
	return crcA ^ crcB
}

func matrixTimes(m *[64]uint64, v uint64) uint64 {
	var sum uint64
	for n := 0; v != 0; n, v = n+1, v>>1 {
		if v&1 == 1 {
			sum ^= m[n]
		}
	}
	return sum
}

func matrixSquare(m [64]uint64, bits int) [64]uint64 {
	var out [64]uint64
	for n := range bits {
		out[n] = matrixTimes(&m, m[n])
	}
	return out
}
