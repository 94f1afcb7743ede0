package config

import "time"

// Keep says which snapshots of a source are kept: those that any of its rules
// keeps. Without rules all are.
type Keep struct {
	Last    int      `toml:"last,omitempty"`    // the newest so many
	Hourly  int      `toml:"hourly,omitempty"`  // the newest of each of the last so many hours that have one
	Daily   int      `toml:"daily,omitempty"`   // of days
	Weekly  int      `toml:"weekly,omitempty"`  // of weeks
	Monthly int      `toml:"monthly,omitempty"` // of months
	Yearly  int      `toml:"yearly,omitempty"`  // of years
	Within  Duration `toml:"within,omitempty"`  // younger than this, seen from the newest
	Tags    []string `toml:"tags,omitempty"`    // those with any of these tags
}

func (k *Keep) complete(d *document, at string) {
	sum := 0
	for name, n := range map[string]int{"last": k.Last, "hourly": k.Hourly, "daily": k.Daily, "weekly": k.Weekly, "monthly": k.Monthly, "yearly": k.Yearly} {
		if n < 0 {
			d.fail(at+name, "%d snapshots cannot be kept", n)
		}
		sum += max(n, 0)
	}
	if len(k.Tags) > 0 && sum == 0 && k.Within == 0 {
		d.fail(at+"tags", "alone, it would forget every snapshot without such a tag: add a rule as last = 1")
	}
}

// Maintenance is what comes round beside the backups.
type Maintenance struct {
	Forget  Interval `toml:"forget,omitempty"`   // apply the rules of [source.keep]; default 1d
	Prune   Interval `toml:"prune,omitempty"`    // free what no snapshot needs; default 1w
	Check   Interval `toml:"check,omitempty"`    // check that all objects are there; default 1w
	Read    Interval `toml:"read,omitempty"`     // read a part of the data back; default 1w
	ReadAll Duration `toml:"read_all,omitempty"` // all data is read back within this time; default 26w, at least read
	Drill   Interval `toml:"drill,omitempty"`    // restore a random sample and compare it; default 1w
}

func (m *Maintenance) complete(d *document) {
	orElse(&m.Forget, Interval(day))
	for _, i := range []*Interval{&m.Prune, &m.Check, &m.Read, &m.Drill} {
		orElse(i, Interval(week))
	}
	orElse(&m.ReadAll, Duration(26*week))
	for name, i := range map[string]Interval{"forget": m.Forget, "prune": m.Prune, "check": m.Check, "read": m.Read, "drill": m.Drill} {
		if i > 0 && time.Duration(i) < time.Hour {
			d.fail("maintenance."+name, "%v is too often: at least 1h", i)
		}
	}
	if m.Read > 0 && time.Duration(m.ReadAll) < time.Duration(m.Read) {
		d.fail("maintenance.read_all", "%v is less than read, %v", m.ReadAll, m.Read)
	}
}

// Interval is a [Duration], or "never", which is less than 0.
type Interval time.Duration

const never Interval = -1

func (i Interval) String() string {
	if i < 0 {
		return "never"
	}
	return time.Duration(i).String()
}

// MarshalText writes what UnmarshalText reads.
func (i Interval) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// UnmarshalText reads an interval.
func (i *Interval) UnmarshalText(text []byte) error {
	if string(text) == "never" {
		*i = never
		return nil
	}
	var d Duration
	if err := d.UnmarshalText(text); err != nil {
		return err
	}
	if *i = Interval(d); d == 0 {
		*i = never
	}
	return nil
}
