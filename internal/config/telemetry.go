package config

// Log says what the programs write to standard error.
type Log struct {
	Level  string `toml:"level,omitempty"`  // "debug", "info" (default), "warn" or "error"
	Format string `toml:"format,omitempty"` // "auto" (default: text on a terminal and to the journal, else JSON), "json" or "text"
}

// Metrics is the local listener for /metrics, /livez, /readyz and /debug/pprof.
type Metrics struct {
	Listen string `toml:"listen,omitempty"` // host:port, loopback only; "" means none
}

func (l *Log) complete(d *document) {
	orElse(&l.Level, "info")
	orElse(&l.Format, "auto")
	d.oneOf("log.level", l.Level, "debug", "info", "warn", "error")
	d.oneOf("log.format", l.Format, "auto", "json", "text")
}

func (m *Metrics) complete(d *document) { d.address("metrics.listen", m.Listen) }
