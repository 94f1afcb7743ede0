package calendar

import (
	"testing"
	"time"
)

func TestNext(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	const layout = "Mon 2006-01-02 15:04 -0700"
	for _, tt := range []struct {
		entries     []string
		after, want string
	}{
		{[]string{"02:30"}, "Wed 2026-11-25 02:29 +0100", "Wed 2026-11-25 02:30 +0100"},
		{[]string{"02:30"}, "Wed 2026-11-25 02:30 +0100", "Thu 2026-11-26 02:30 +0100"},
		{[]string{"Sat 12:00"}, "Sat 2026-11-28 12:00 +0100", "Sat 2026-12-05 12:00 +0100"},
		{[]string{"Mon..Fri 20:15", "sunday 08:00"}, "Fri 2026-11-27 21:00 +0100", "Sun 2026-11-29 08:00 +0100"},
		{[]string{"Fri..Mon 06:00"}, "Mon 2026-11-23 07:00 +0100", "Fri 2026-11-27 06:00 +0100"},
		{[]string{"Mon,Thu 06:00"}, "Tue 2026-12-29 06:00 +0100", "Thu 2026-12-31 06:00 +0100"},
		{[]string{"02:30"}, "Sun 2026-03-29 01:00 +0100", "Sun 2026-03-29 03:30 +0200"}, // there is no 02:30
		{[]string{"02:30"}, "Sun 2026-10-25 01:00 +0200", "Sun 2026-10-25 02:30 +0100"}, // there are two: the later
		{nil, "Wed 2026-11-25 02:29 +0100", "Mon 0001-01-01 00:00 +0000"},
	} {
		s, err := Parse(tt.entries)
		if err != nil {
			t.Fatal(err)
		}
		after, err := time.ParseInLocation(layout, tt.after, berlin)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Next(after.In(berlin)).Format(layout); got != tt.want {
			t.Errorf("%q after %s: got %s, want %s", tt.entries, tt.after, got, tt.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{"", "25:00", "2:3:4", "Mon", "Mo 12:00", "Mon.. 12:00", "Mon Tue 12:00", "Mon,,Tue 12:00", "..Fri 12:00", "12"} {
		if s, err := Parse([]string{text}); err == nil {
			t.Errorf("%q was taken as %+v", text, s)
		}
	}
}
