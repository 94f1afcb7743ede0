package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Duration is written as Go writes it ("5s", "1h30m") or as a whole number of
// days or weeks ("1d", "2w"). It is never negative.
type Duration time.Duration

const (
	day  = 24 * time.Hour
	week = 7 * day
)

func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText writes what UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a duration.
func (d *Duration) UnmarshalText(text []byte) error {
	s := string(text)
	for suffix, unit := range map[string]time.Duration{"d": day, "w": week} {
		digits, ok := strings.CutSuffix(s, suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 16)
		if err != nil || n < 0 {
			return fmt.Errorf("%q is not a duration such as 5s, 1h30m, 1d", s)
		}
		*d = Duration(time.Duration(n) * unit)
		return nil
	}
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 {
		return fmt.Errorf("%q is not a duration such as 5s, 1h30m, 1d", s)
	}
	*d = Duration(v)
	return nil
}
