package config

import (
	"encoding/hex"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// nameForm is what a name may be: it becomes a metric label and part of URLs.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// orElse sets *v to the default when it is the zero value.
func orElse[T comparable](v *T, otherwise T) {
	var zero T
	if *v == zero {
		*v = otherwise
	}
}

func (d *document) required(field, v string) {
	if v == "" {
		d.fail(field, "missing")
	}
}

func (d *document) oneOf(field, v string, allowed ...string) {
	if !slices.Contains(allowed, v) {
		d.fail(field, "%q is not one of %s", v, strings.Join(allowed, ", "))
	}
}

// unique checks the form of a name and that no other of its kind has it.
func (d *document) unique(field, name string, seen map[string]bool) {
	switch {
	case name == "":
		d.fail(field, "missing")
	case !nameForm.MatchString(name):
		d.fail(field, `%q: only letters, digits, "-", "_" and "." may be in a name`, name)
	case seen[name]:
		d.fail(field, "%q is there twice", name)
	}
	seen[name] = true
}

// address checks "host:port"; an empty one is left to required.
func (d *document) address(field, v string) {
	if v == "" {
		return
	}
	host, port, err := net.SplitHostPort(v)
	if err != nil || host == "" {
		d.fail(field, "%q is not host:port", v)
		return
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n > 65535 {
		d.fail(field, "%q: the port is not a number up to 65535", v)
	}
}

// isLoopback says whether only this machine reaches host:port. A name other than
// localhost may mean anything.
func isLoopback(v string) bool {
	host, _, err := net.SplitHostPort(v)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

func (d *document) url(field, v string) {
	u, err := url.Parse(v)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		d.fail(field, "not a http:// or https:// address") // v may hold a password
		return
	}
	if u.User != nil {
		d.fail(field, "holds a user or a password: those belong in a file of their own")
	}
}

// keys checks Ed25519 public keys in hexadecimal.
func (d *document) keys(field string, keys []string) {
	for _, k := range keys {
		if b, err := hex.DecodeString(k); err != nil || len(b) != 32 {
			d.fail(field, "%q is not 64 hexadecimal digits", k)
		}
	}
}
