package proxy

import (
	"errors"
	"fmt"
	"strings"

	"coffer/seal"
)

// What lies upstream: "s3/BUCKET/.bucket" describes a bucket, "s3/BUCKET/KEY.o" is
// the null version of an object and "s3/BUCKET/KEY.vID" another one. The endings
// keep an object apart from the folder of the same name, which some stores
// cannot hold beside it.
const (
	upstreamPrefix = "s3/"
	bucketObject   = ".bucket"
	nullEnding     = ".o"
	versionEnding  = ".v"
	sealedMark     = "~~"     // a name that has no clear form, sealed instead
	maxClear       = 800      // bytes of a clear name upstream
	maxClearPart   = 200      // bytes of one segment: file systems take 255
	envelopeKey    = "coffer" // of the upstream metadata
)

// bucketFolder is the beginning of all upstream names of a bucket.
func (p *Proxy) bucketFolder(keys *seal.Keys, bucket string) (string, error) {
	if p.clear {
		return upstreamPrefix + bucket + "/", nil
	}
	sealed, err := keys.SealBucket(bucket)
	if err != nil {
		return "", err
	}
	return upstreamPrefix + sealed + "/", nil
}

// objectName is where a version of an object lies; version "" is the null version.
func (p *Proxy) objectName(keys *seal.Keys, bucket, key, version string) (string, error) {
	folder, err := p.bucketFolder(keys, bucket)
	if err != nil {
		return "", err
	}
	name, ok := "", false
	if p.clear {
		name, ok = clearName(key)
	}
	if !ok {
		if name, err = keys.SealName(bucket, key); err != nil {
			return "", err
		}
		if p.clear {
			name = sealedMark + name
		}
	}
	if version == "" {
		return folder + name + nullEnding, nil
	}
	return folder + name + versionEnding + version, nil
}

// upstreamName is an upstream name taken apart.
type upstreamName struct {
	bucket  string
	isRow   bool   // describes the bucket itself
	key     string // "" when only the envelope tells it
	sealed  string // then: the sealed name
	version string
}

// parseUpstream is the inverse of bucketFolder and objectName.
func (p *Proxy) parseUpstream(keys *seal.Keys, name string) (upstreamName, error) {
	var u upstreamName
	rest, ok := strings.CutPrefix(name, upstreamPrefix)
	folder, rest, cut := strings.Cut(rest, "/")
	if !ok || !cut {
		return u, fmt.Errorf("no name of the gateway: %w", seal.ErrCorrupt)
	}
	u.bucket = folder
	if !p.clear {
		var err error
		if u.bucket, err = keys.OpenBucket(folder); err != nil {
			return u, err
		}
	}
	if rest == bucketObject {
		u.isRow = true
		return u, nil
	}
	if base, version, ok := cutLast(rest, versionEnding); ok && isVersionID(version) {
		rest, u.version = base, version
	} else if rest, ok = strings.CutSuffix(rest, nullEnding); !ok {
		return u, fmt.Errorf("name without an ending: %w", seal.ErrCorrupt)
	}
	if p.clear {
		sealed, isSealed := strings.CutPrefix(rest, sealedMark)
		if !isSealed {
			u.key, ok = openClearName(rest)
			if !ok {
				return u, fmt.Errorf("clear name is malformed: %w", seal.ErrCorrupt)
			}
			return u, nil
		}
		rest = sealed
	}
	key, err := keys.OpenName(u.bucket, rest)
	if errors.Is(err, seal.ErrLongName) {
		u.sealed = rest
		return u, nil
	}
	u.key = key
	return u, err
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// isVersionID reports whether s is of the form that newVersion makes.
func isVersionID(s string) bool {
	if len(s) != versionIDSize {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// readVersionID checks a version id that a client names. Ids of other systems are
// answered like unknown ones of ours.
func readVersionID(id string) error {
	ok := len(id) <= 64 && len(id) >= 20
	for i := range len(id) {
		c := id[i]
		ok = ok && ('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z')
	}
	if !ok && id != nullVersion {
		return badArgument("versionId", id, "Invalid version id specified")
	}
	return nil
}

// clearName writes a key as an upstream name that every store and file system
// takes: bytes outside a small set as %XX, an empty segment as "%". Keys that
// become too long have no clear name.
func clearName(key string) (string, bool) {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for i, segment := range strings.Split(key, "/") {
		if i > 0 {
			b.WriteByte('/')
		}
		start := b.Len()
		if segment == "" {
			b.WriteByte('%')
		}
		for i := range len(segment) {
			c := segment[i]
			switch {
			case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9',
				c == '-', c == '_', c == '=', c == '+', c == ',', c == '@', c == '.' && i > 0:
				b.WriteByte(c)
			default:
				b.WriteByte('%')
				b.WriteByte(hexDigits[c>>4])
				b.WriteByte(hexDigits[c&15])
			}
		}
		if b.Len()-start > maxClearPart {
			return "", false
		}
	}
	return b.String(), b.Len() <= maxClear
}

func openClearName(name string) (string, bool) {
	var b strings.Builder
	for i, segment := range strings.Split(name, "/") {
		if i > 0 {
			b.WriteByte('/')
		}
		if segment == "%" {
			continue
		}
		for len(segment) > 0 {
			if segment[0] != '%' {
				b.WriteByte(segment[0])
				segment = segment[1:]
				continue
			}
			if len(segment) < 3 {
				return "", false
			}
			c, ok := unhex(segment[1], segment[2])
			if !ok {
				return "", false
			}
			b.WriteByte(c)
			segment = segment[3:]
		}
	}
	again, ok := clearName(b.String())
	return b.String(), ok && again == name && b.Len() > 0
}

func unhex(hi, lo byte) (byte, bool) {
	digit := func(c byte) (byte, bool) {
		switch {
		case '0' <= c && c <= '9':
			return c - '0', true
		case 'A' <= c && c <= 'F':
			return c - 'A' + 10, true
		}
		return 0, false
	}
	h, ok1 := digit(hi)
	l, ok2 := digit(lo)
	return h<<4 | l, ok1 && ok2
}
