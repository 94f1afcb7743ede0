package web

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// countText is a number with its thousands apart: "1,234,567".
func countText(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// plural is "1 file" or "2 files".
func plural(n int64, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return countText(n) + " " + one + "s"
}

// tookText is a length of time with the two units that matter: "2 h 5 min".
func tookText(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return "under 1 ms"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return twoUnits(int(d.Seconds()), 60, "min", "s")
	case d < 48*time.Hour:
		return twoUnits(int(d.Minutes()), 60, "h", "min")
	}
	return twoUnits(int(d.Hours()), 24, "d", "h")
}

func twoUnits(n, base int, big, small string) string {
	if n%base == 0 {
		return fmt.Sprintf("%d %s", n/base, big)
	}
	return fmt.Sprintf("%d %s %d %s", n/base, big, n%base, small)
}

// roughly is a length of time with one unit, in words.
func roughly(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "less than a minute"
	case d < time.Hour:
		return plural(int64(d.Minutes()), "minute")
	case d < 48*time.Hour:
		return plural(int64(d.Hours()), "hour")
	}
	return plural(int64(d.Hours()/24), "day")
}

// stamp is a moment: as text for people and exactly for machines.
type stamp struct {
	Text string `json:"text"`
	ISO  string `json:"iso,omitempty"`
	Full string `json:"full,omitempty"`
}

// moment is t as seen from now: "5 minutes ago", "in 2 hours"; never for zero.
func moment(t, now time.Time, never string) stamp {
	if t.IsZero() {
		return stamp{Text: never}
	}
	s := stamp{ISO: t.UTC().Format(time.RFC3339), Full: dateText(t)}
	switch d := now.Sub(t); {
	case d >= 0 && d < time.Minute:
		s.Text = "just now"
	case d >= 0:
		s.Text = roughly(d) + " ago"
	case d > -time.Minute:
		s.Text = "in a moment"
	default:
		s.Text = "in " + roughly(-d)
	}
	return s
}

// clock is t as a clock shows it.
func clock(t, now time.Time) stamp {
	s := stamp{ISO: t.UTC().Format(time.RFC3339), Full: dateText(t), Text: dateText(t)}
	if y, m, d := now.Local().Date(); t.Local().After(time.Date(y, m, d, 0, 0, 0, 0, time.Local)) {
		s.Text = t.Local().Format("15:04:05")
	}
	return s
}

func dateText(t time.Time) string { return t.Local().Format("2 Jan 2006, 15:04") }

// printable is a name that cannot deceive: what is no text, moves the cursor or
// turns the direction of writing becomes a question mark in a box.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c == utf8.RuneError, unicode.IsControl(c), unicode.Is(unicode.Bidi_Control, c), c == '\u2028', c == '\u2029':
			return utf8.RuneError
		}
		return c
	}, strings.ToValidUTF8(s, "\uFFFD"))
}
