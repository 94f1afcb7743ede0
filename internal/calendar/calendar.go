// Package calendar knows times that come round: "02:30", "Sat 12:00",
// "Mon..Fri 20:15", "Mon,Thu 06:00". They are those of the local clock.
package calendar

import (
	"fmt"
	"strings"
	"time"
)

// Entry is one such time.
type Entry struct {
	Days         [7]bool // by time.Weekday
	Hour, Minute int
}

// Schedule is several of them.
type Schedule []Entry

var days = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// Parse reads the entries.
func Parse(texts []string) (Schedule, error) {
	var s Schedule
	for _, text := range texts {
		e, err := parse(text)
		if err != nil {
			return nil, err
		}
		s = append(s, e)
	}
	return s, nil
}

func parse(text string) (e Entry, err error) {
	wrong := fmt.Errorf(`%q is not a time such as "02:30", "Sat 12:00", "Mon..Fri 20:15"`, text)
	fields := strings.Fields(text)
	if len(fields) == 0 || len(fields) > 2 {
		return e, wrong
	}
	at, err := time.Parse("15:04", fields[len(fields)-1])
	if err != nil {
		return e, wrong
	}
	e.Hour, e.Minute = at.Hour(), at.Minute()
	if len(fields) == 1 {
		e.Days = [7]bool{true, true, true, true, true, true, true}
		return e, nil
	}
	for part := range strings.SplitSeq(fields[0], ",") {
		from, to, span := strings.Cut(part, "..")
		first, last := day(from), day(to)
		if !span {
			last = first
		}
		if first < 0 || last < 0 {
			return e, wrong
		}
		for d := first; ; d = (d + 1) % 7 {
			e.Days[d] = true
			if d == last {
				break
			}
		}
	}
	return e, nil
}

// day is the number of a weekday, -1 for what is none.
func day(name string) int {
	for i, d := range days {
		if name = strings.ToLower(name); name == d || len(name) > 3 && name == strings.ToLower(time.Weekday(i).String()) {
			return i
		}
	}
	return -1
}

// Next is the first time of the schedule after t, in t's location; the zero time
// when there is none. A time that a change of the clock leaves out that day comes
// as much later as the clock was moved.
func (s Schedule) Next(t time.Time) (next time.Time) {
	for _, e := range s {
		for d := range 8 {
			at := time.Date(t.Year(), t.Month(), t.Day()+d, e.Hour, e.Minute, 0, 0, t.Location())
			if e.Days[time.Date(t.Year(), t.Month(), t.Day()+d, 12, 0, 0, 0, t.Location()).Weekday()] && at.After(t) {
				if next.IsZero() || at.Before(next) {
					next = at
				}
				break
			}
		}
	}
	return next
}
