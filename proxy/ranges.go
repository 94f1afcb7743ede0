package proxy

import (
	"strconv"
	"strings"
)

// span is a part of an object's bytes.
type span struct {
	off, n int64
	whole  bool // no range was asked for, or one that S3 ignores
}

// parseRange reads a Range header for an object of size bytes. Several ranges,
// and what is not a range of bytes, are ignored as S3 does.
func parseRange(header string, size int64) (span, error) {
	all := span{n: size, whole: true}
	spec, ok := strings.CutPrefix(header, "bytes=")
	if !ok || strings.Contains(spec, ",") {
		return all, nil
	}
	first, last, ok := strings.Cut(spec, "-")
	if !ok {
		return all, nil
	}
	if first == "" {
		n, err := strconv.ParseUint(last, 10, 63)
		switch {
		case err != nil:
			return all, nil
		case n == 0:
			return all, errInvalidRange
		case size == 0:
			return all, nil // RFC 9110: all there is, which no Content-Range can say
		}
		n = min(n, uint64(size))
		return span{off: size - int64(n), n: int64(n)}, nil
	}
	off, err := strconv.ParseUint(first, 10, 63)
	if err != nil {
		return all, nil
	}
	end := uint64(size)
	if last != "" {
		n, err := strconv.ParseUint(last, 10, 63)
		if err != nil || n < off {
			return all, nil
		}
		end = min(end, n+1)
	}
	if off >= uint64(size) {
		return all, errInvalidRange
	}
	return span{off: int64(off), n: int64(end - off)}, nil
}
