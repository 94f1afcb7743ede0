package config

import (
	"net/mail"
	"time"
)

// Notify says who is told of problems, and when.
type Notify struct {
	After   Duration      `toml:"after,omitempty"`   // a problem is told when it has lasted so long; default 10m
	Remind  Interval      `toml:"remind,omitempty"`  // and again each time it has lasted so long; default 3d
	Details bool          `toml:"details,omitempty"` // also send names of sources and of the machine, errors and hints
	Desktop bool          `toml:"desktop,omitempty"` // show it on the desktop (org.freedesktop.Notifications)
	Webhook NotifyWebhook `toml:"webhook,omitzero"`
	Mail    NotifyMail    `toml:"mail,omitzero"`
}

// NotifyWebhook is an address that is sent each message as JSON.
type NotifyWebhook struct {
	URLFile    string `toml:"url_file,omitempty"`    // file, 0600, that holds the address; "" means none
	SecretFile string `toml:"secret_file,omitempty"` // file, 0600: X-Coffer-Signature is the HMAC-SHA256 of the body under what it holds
}

// NotifyMail is a mail server and who gets the mail.
type NotifyMail struct {
	Server       string   `toml:"server,omitempty"`        // host:port; "" means none
	TLS          string   `toml:"tls,omitempty"`           // "starttls" (default) or "tls": from the first byte
	CAFile       string   `toml:"ca_file,omitempty"`       // PEM file of the only authorities to trust; default the system's
	User         string   `toml:"user,omitempty"`          // "" means without authentication
	PasswordFile string   `toml:"password_file,omitempty"` // file, 0600, that holds the password
	From         string   `toml:"from,omitempty"`          // address of the sender
	To           []string `toml:"to,omitempty"`            // addresses
}

// Power says when automatic work waits.
type Power struct {
	Battery *int  `toml:"battery,omitempty"` // percent: on battery and below, it waits; 0 never, 101 always on battery; default 20
	Metered *bool `toml:"metered,omitempty"` // it waits while NetworkManager says that the network is metered; default true
}

func (n *Notify) complete(d *document) {
	orElse(&n.After, Duration(10*time.Minute))
	orElse(&n.Remind, Interval(3*day))
	d.path("notify.webhook.url_file", &n.Webhook.URLFile)
	d.path("notify.webhook.secret_file", &n.Webhook.SecretFile)
	if n.Webhook.SecretFile != "" && n.Webhook.URLFile == "" {
		d.fail("notify.webhook.url_file", "missing")
	}
	m := &n.Mail
	if m.Server == "" {
		if m.From != "" || len(m.To) > 0 || m.User != "" {
			d.fail("notify.mail.server", "missing")
		}
		return
	}
	orElse(&m.TLS, "starttls")
	d.address("notify.mail.server", m.Server)
	d.oneOf("notify.mail.tls", m.TLS, "starttls", "tls")
	d.path("notify.mail.ca_file", &m.CAFile)
	d.path("notify.mail.password_file", &m.PasswordFile)
	if (m.User == "") != (m.PasswordFile == "") {
		d.fail("notify.mail.user", "user and password_file belong together")
	}
	if len(m.To) == 0 {
		d.fail("notify.mail.to", "missing: who gets the mail")
	}
	for field, addresses := range map[string][]string{"notify.mail.from": {m.From}, "notify.mail.to": m.To} {
		for _, a := range addresses {
			if _, err := mail.ParseAddress(a); err != nil {
				d.fail(field, "%q is not a mail address", a)
			}
		}
	}
}

func (p *Power) complete(d *document) {
	if p.Battery == nil {
		p.Battery = new(int)
		*p.Battery = 20
	}
	if p.Metered == nil {
		p.Metered = new(bool)
		*p.Metered = true
	}
	if *p.Battery < 0 || *p.Battery > 101 {
		d.fail("power.battery", "%d is not a percentage", *p.Battery)
	}
}
