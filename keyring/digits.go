package keyring

import (
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"

	"coffer/seal"
)

// A backup key in writing is 16 groups of 4 hexadecimal digits.
const (
	Groups     = 16
	groupSize  = 4
	digitCount = Groups * groupSize
	maxDigits  = 1024 // bytes of input looked at: what a person types, with blanks and marks
)

// digitsMark may stand before the digits, as in the text of a QR code.
const digitsMark = "COFFER1:"

// Digits writes k down: four lines of four groups. It is the secret itself.
func Digits(k seal.Key) string {
	var b strings.Builder
	for i := range Groups {
		switch {
		case i == 0:
		case i%4 == 0:
			b.WriteByte('\n')
		default:
			b.WriteByte(' ')
		}
		b.WriteString(Group(k, i))
	}
	return b.String()
}

// Group is group i, from 0 on, of the digits of k: who can write two of them
// down has them all before his eyes.
func Group(k seal.Key, i int) string {
	raw := k.Bytes()
	return hex.EncodeToString(raw[:])[i*groupSize : (i+1)*groupSize]
}

// ParseDigits reads what [Digits] or [Rows] wrote, as people type it: with blanks, line
// ends, dashes and other marks, or none, in either case, the letter o for 0 and
// l or i for 1. The error says what is wrong without repeating the digits.
func ParseDigits(s string) (seal.Key, error) {
	if len(s) > maxDigits {
		return seal.Key{}, fmt.Errorf("%d characters are no backup key: it has %d digits", len(s), digitCount)
	}
	s = strings.TrimSpace(s)
	if len(s) >= len(digitsMark) && strings.EqualFold(s[:len(digitsMark)], digitsMark) {
		s = s[len(digitsMark):]
	}
	digits := make([]byte, 0, digitCount)
	for _, r := range s {
		switch r = unicode.ToLower(r); {
		case r == 'o':
			r = '0'
		case r == 'l' || r == 'i':
			r = '1'
		case unicode.IsSpace(r) || strings.ContainsRune("-–—_.,:;|/·", r):
			continue
		}
		if !strings.ContainsRune("0123456789abcdef", r) {
			return seal.Key{}, fmt.Errorf("group %d: %q is not one of 0-9 and a-f", len(digits)/groupSize+1, r)
		}
		digits = append(digits, byte(r))
	}
	if len(digits) == digitCount+rowCount {
		var err error
		if digits, err = withoutChecks(digits); err != nil {
			return seal.Key{}, err
		}
	}
	if len(digits) != digitCount {
		return seal.Key{}, fmt.Errorf("%d digits, not %d", len(digits), digitCount)
	}
	raw, err := hex.DecodeString(string(digits))
	if err != nil {
		return seal.Key{}, fmt.Errorf("backup key: %w", err)
	}
	return seal.KeyFromBytes(raw)
}
