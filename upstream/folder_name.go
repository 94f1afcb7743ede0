package upstream

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// Names of objects become paths as FOLDER.md says: a segment is escaped and cut
// into pieces, each a folder, and the last piece of the last segment is the file.
const (
	pieceSize  = 120 // escaped bytes that end a piece; eCryptfs takes names of 143
	objectMark = '=' // ends the name of a file
	cutMark    = '+' // ends the name of a folder whose segment goes on inside
	emptyPiece = "%" // a piece of no bytes
	ownFolder  = ".coffer"
)

// encodePath returns the path of the object name, relative to the folder.
func encodePath(name string) string {
	return encodeSegments(name) + string(objectMark)
}

// encodeFolder returns the path of the folder that holds all names with the
// prefix; it ends in "/", or is empty. The rest of the prefix, after the last
// "/", is not part of it.
func encodeFolder(prefix string) string {
	i := strings.LastIndexByte(prefix, '/')
	if i < 0 {
		return ""
	}
	return encodeSegments(prefix[:i]) + "/"
}

func encodeSegments(name string) string {
	var b strings.Builder
	for i, segment := range strings.Split(name, "/") {
		if i > 0 {
			b.WriteByte('/')
		}
		start := b.Len()
		for _, c := range []byte(segment) {
			if b.Len()-start >= pieceSize-2 { // where a piece ends depends on nothing behind it
				b.WriteByte(cutMark)
				b.WriteByte('/')
				start = b.Len()
			}
			if isPlain(c) && (c != '.' || b.Len() > start) {
				b.WriteByte(c)
			} else {
				fmt.Fprintf(&b, "%%%02x", c)
			}
		}
		switch {
		case b.Len() == start:
			b.WriteString(emptyPiece)
		case b.Len()-start >= pieceSize-2:
			b.WriteByte(cutMark)
			b.WriteString("/" + emptyPiece)
		}
	}
	return b.String()
}

// isPlain tells whether c stands for itself. Capital letters do not: there are
// file systems that take "A" and "a" for the same name.
func isPlain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.'
}

// decodePiece undoes the escape of one entry of a folder. It returns what the
// entry adds to the name: for a folder that ends a segment with the "/". What
// encodePath does not make is no entry of ours, and ok is false.
func decodePiece(entry string, isDir bool) (piece string, ok bool) {
	rest, end := entry, ""
	switch {
	case entry == "":
		return "", false
	case !isDir:
		if entry[len(entry)-1] != objectMark {
			return "", false
		}
		rest = entry[:len(entry)-1]
	case entry[len(entry)-1] == cutMark:
		rest = entry[:len(entry)-1]
	default:
		end = "/"
	}
	cut := isDir && end == ""
	if rest == emptyPiece {
		return end, !cut
	}
	var b strings.Builder
	for i := 0; i < len(rest); i++ {
		if c := rest[i]; isPlain(c) && (c != '.' || i > 0) {
			b.WriteByte(c)
			continue
		}
		if rest[i] != '%' || i+3 > len(rest) {
			return "", false
		}
		c, err := hex.DecodeString(rest[i+1 : i+3])
		if err != nil || rest[i+1:i+3] != strings.ToLower(rest[i+1:i+3]) || isPlain(c[0]) && (c[0] != '.' || i > 0) || c[0] == '/' {
			return "", false
		}
		b.WriteByte(c[0])
		i += 2
	}
	if rest == "" || cut != (len(rest) >= pieceSize-2) || len(rest) > pieceSize {
		return "", false
	}
	return b.String() + end, true
}
