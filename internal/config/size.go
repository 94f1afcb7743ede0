package config

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes, written plain or with a unit: "16MiB", "2GB", "512".
// KiB, MiB, GiB and TiB are powers of 1024; KB, MB, GB and TB powers of 1000.
type Size int64

// units are tried in this order: "B" ends them all.
var units = []struct {
	name string
	size int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"B", 1},
}

// String is exact: it takes the largest unit that divides s.
func (s Size) String() string {
	for _, u := range units {
		if s != 0 && int64(s)%u.size == 0 {
			return strconv.FormatInt(int64(s)/u.size, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// MarshalText writes what UnmarshalText reads.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a size.
func (s *Size) UnmarshalText(text []byte) error {
	digits, unit := string(text), int64(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(digits, u.name); ok {
			digits, unit = strings.TrimSpace(rest), u.size
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return fmt.Errorf("%q is not a size such as 512, 16MiB, 2GB", text)
	}
	*s = Size(n * unit)
	return nil
}

// Rate is bytes a second, written as a [Size] with "/s" behind it: "2MiB/s".
type Rate int64

// MarshalText writes what UnmarshalText reads.
func (r Rate) MarshalText() ([]byte, error) { return []byte(Size(r).String() + "/s"), nil }

// UnmarshalText reads a rate.
func (r *Rate) UnmarshalText(text []byte) error {
	var s Size
	size, ok := bytes.CutSuffix(text, []byte("/s"))
	if !ok || s.UnmarshalText(size) != nil {
		return fmt.Errorf("%q is not a rate such as 500KB/s, 2MiB/s", text)
	}
	*r = Rate(s)
	return nil
}
