package config

import "net"

// Web is the local page.
type Web struct {
	Listen string `toml:"listen,omitempty"` // IP:port, loopback only; "" means no page
}

// loopback checks an address that nobody on another machine may reach.
func (d *document) loopback(field, v string) {
	if v == "" {
		return
	}
	d.address(field, v)
	host, _, err := net.SplitHostPort(v)
	if ip := net.ParseIP(host); err == nil && (ip == nil || !ip.IsLoopback()) {
		d.fail(field, "%q is not an address of loopback, as 127.0.0.1 is", v)
	}
}
