package keyring

import (
	"fmt"
	"strings"

	"coffer/seal"
)

// On the recovery sheet the digits are four rows of four groups, each with a
// digit that checks the row: Luhn's sum to the base 16, which sees any one digit
// that is wrong and nearly any two that have changed places.
const (
	rowCount  = 4
	rowDigits = digitCount / rowCount
)

// Rows are the digits of k in four rows as "aaaa bbbb cccc dddd - e".
func Rows(k seal.Key) []string {
	rows := strings.Split(Digits(k), "\n")
	for i, row := range rows {
		rows[i] = fmt.Sprintf("%s - %x", row, luhn(strings.ReplaceAll(row, " ", "")))
	}
	return rows
}

// luhn is the digit that checks lower-case hexadecimal digits.
func luhn(digits string) int {
	sum := 0
	for i := range len(digits) {
		d := strings.IndexByte("0123456789abcdef", digits[len(digits)-1-i])
		if i%2 == 0 {
			d *= 2
		}
		sum += d/16 + d%16
	}
	return (16 - sum%16) % 16
}

// withoutChecks takes the check digits out of digits of which each row has one,
// and says which row is wrong.
func withoutChecks(digits []byte) ([]byte, error) {
	var all []byte
	for i := range rowCount {
		row := digits[i*(rowDigits+1) : (i+1)*(rowDigits+1)]
		if want := "0123456789abcdef"[luhn(string(row[:rowDigits]))]; row[rowDigits] != want {
			return nil, fmt.Errorf("row %d has a wrong digit", i+1)
		}
		all = append(all, row[:rowDigits]...)
	}
	return all, nil
}
