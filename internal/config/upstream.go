package config

import (
	"fmt"
	"strings"
	"time"
)

// Upstream is an untrusted place for sealed objects.
type Upstream struct {
	Name          string `toml:"name,omitempty"`            // shown in status and metrics; default the type; unique
	Type          string `toml:"type"`                      // "folder" or "s3"
	Path          string `toml:"path,omitempty"`            // folder: the folder
	Endpoint      string `toml:"endpoint,omitempty"`        // s3: URL, http:// or https://, without bucket
	Bucket        string `toml:"bucket,omitempty"`          // s3
	Region        string `toml:"region,omitempty"`          // s3: default: asked of the service
	Prefix        string `toml:"prefix,omitempty"`          // put before each object name
	AccessKeyFile string `toml:"access_key_file,omitempty"` // s3: file that holds the access key id; default AWS_ACCESS_KEY_ID, else ~/.aws/credentials
	SecretKeyFile string `toml:"secret_key_file,omitempty"` // s3: file that holds the secret key; default AWS_SECRET_ACCESS_KEY, else ~/.aws/credentials
	PathStyle     bool   `toml:"path_style,omitempty"`      // s3: bucket in the path of the URL, not in its host name
	StorageClass  string `toml:"storage_class,omitempty"`   // s3: of what is written; default that of the service
	CAFile        string `toml:"ca_file,omitempty"`         // s3: PEM file of the only authorities to trust; default the system's
	ClientCert    string `toml:"client_cert,omitempty"`     // s3: PEM file of the certificate to show; default none
	ClientKey     string `toml:"client_key,omitempty"`      // s3: PEM file, 0600, of its private key
	TLSMin        string `toml:"tls_min,omitempty"`         // s3: oldest version of TLS, "1.2" (default) or "1.3"

	Auth  Credentials `toml:"auth,omitzero"`  // s3: where the keys come from
	Lock  Lock        `toml:"lock,omitzero"`  // s3: object lock
	Price Price       `toml:"price,omitzero"` // what the service asks for, for the estimate of "coffer stats"
}

// Credentials says where the key for an S3 service comes from.
type Credentials struct {
	Type        string `toml:"type,omitempty"`         // "keys" (default: files, environment, ~/.aws/credentials), "iam", "web-identity", "assume-role" or "anonymous"
	Profile     string `toml:"profile,omitempty"`      // keys, assume-role: section of ~/.aws/credentials; default AWS_PROFILE, else "default"
	STSEndpoint string `toml:"sts_endpoint,omitempty"` // web-identity, assume-role: default https://sts.amazonaws.com; MinIO: the endpoint itself
	IAMEndpoint string `toml:"iam_endpoint,omitempty"` // iam: metadata service; default that of the machine, container or pod
	RoleARN     string `toml:"role_arn,omitempty"`     // web-identity, assume-role
	Session     string `toml:"session,omitempty"`      // assume-role: name in the service's log; default "coffer"
	ExternalID  string `toml:"external_id,omitempty"`  // assume-role
	TokenFile   string `toml:"token_file,omitempty"`   // web-identity: file with the token, read again each time
}

// Lock has the service keep what backups write.
type Lock struct {
	Mode string `toml:"mode,omitempty"` // "governance" or "compliance"; default: no lock
	Days int    `toml:"days,omitempty"` // for so many days from the write, and from each prune while it is needed
}

// Price is what an S3 service asks for.
type Price struct {
	Currency string  `toml:"currency,omitempty"` // default "USD"
	Storage  float64 `toml:"storage,omitempty"`  // a GB and month
	Write    float64 `toml:"write,omitempty"`    // 1000 requests that write or list
	Read     float64 `toml:"read,omitempty"`     // 1000 others; removing is free
	Egress   float64 `toml:"egress,omitempty"`   // a GB read
}

// Limit bounds how fast bytes move at some hours.
type Limit struct {
	From     string `toml:"from,omitempty"`     // time of day, as "08:00"; default "00:00"
	To       string `toml:"to,omitempty"`       // not included; default "24:00"; before from: over midnight
	Upload   Rate   `toml:"upload,omitempty"`   // 0: no limit
	Download Rate   `toml:"download,omitempty"` // 0: no limit
}

func (u *Upstream) complete(d *document, at string, names map[string]bool) {
	orElse(&u.Name, u.Type)
	d.unique(at+"name", u.Name, names)
	d.oneOf(at+"type", u.Type, "folder", "s3")
	switch u.Type {
	case "folder":
		d.required(at+"path", u.Path)
		if u.Lock.Mode != "" {
			d.fail(at+"lock.mode", "a folder has no object lock")
		}
	case "s3":
		d.url(at+"endpoint", u.Endpoint)
		d.required(at+"bucket", u.Bucket)
	}
	d.pair(at, "access_key_file", u.AccessKeyFile, "secret_key_file", u.SecretKeyFile)
	d.pair(at, "client_cert", u.ClientCert, "client_key", u.ClientKey)
	d.path(at+"path", &u.Path)
	d.path(at+"access_key_file", &u.AccessKeyFile)
	d.path(at+"secret_key_file", &u.SecretKeyFile)
	d.path(at+"ca_file", &u.CAFile)
	d.path(at+"client_cert", &u.ClientCert)
	d.path(at+"client_key", &u.ClientKey)
	if u.TLSMin != "" {
		d.oneOf(at+"tls_min", u.TLSMin, "1.2", "1.3")
	}
	u.Auth.complete(d, at+"auth.")
	u.Lock.complete(d, at+"lock.")
	u.Price.complete(d, at+"price.")
}

// pair complains of one that is there without the other.
func (d *document) pair(at, one, a, other, b string) {
	if (a == "") != (b == "") {
		d.fail(at+one, "%s and %s belong together", one, other)
	}
}

func (a *Credentials) complete(d *document, at string) {
	if a.Type != "" {
		d.oneOf(at+"type", a.Type, "keys", "iam", "web-identity", "assume-role", "anonymous")
	}
	switch a.Type {
	case "web-identity":
		d.required(at+"token_file", a.TokenFile)
	case "assume-role":
		if a.STSEndpoint == "" {
			d.required(at+"role_arn", a.RoleARN) // MinIO takes none
		}
	}
	for field, v := range map[string]string{"sts_endpoint": a.STSEndpoint, "iam_endpoint": a.IAMEndpoint} {
		if v != "" {
			d.url(at+field, v)
		}
	}
	d.path(at+"token_file", &a.TokenFile)
}

func (l *Lock) complete(d *document, at string) {
	if l.Mode != "" {
		d.oneOf(at+"mode", l.Mode, "governance", "compliance")
	}
	if (l.Mode == "") != (l.Days == 0) || l.Days < 0 || l.Days > 36500 {
		d.fail(at+"days", "%d days: a lock has a mode and 1 to 36500 days", l.Days)
	}
}

func (p *Price) complete(d *document, at string) {
	for field, v := range map[string]float64{"storage": p.Storage, "write": p.Write, "read": p.Read, "egress": p.Egress} {
		if v < 0 || v > 1e6 {
			d.fail(at+field, "%g is no price", v)
		}
	}
}

func (l *Limit) complete(d *document, at string) {
	orElse(&l.From, "00:00")
	orElse(&l.To, "24:00")
	for field, v := range map[string]string{"from": l.From, "to": l.To} {
		if _, err := parseClock(v); err != nil {
			d.fail(at+field, "%w", err)
		}
	}
	if l.From == l.To {
		d.fail(at+"to", "%q is from, too", l.To)
	}
}

// Hours are From and To, since midnight.
func (l *Limit) Hours() (from, to time.Duration) {
	from, _ = parseClock(l.From) // complete has looked at both
	to, _ = parseClock(l.To)
	return from, to
}

// parseClock reads a time of day as the time since midnight.
func parseClock(s string) (time.Duration, error) {
	if s == "24:00" {
		return day, nil
	}
	t, err := time.Parse("15:04", s)
	if err != nil || strings.TrimSpace(s) != s {
		return 0, fmt.Errorf("%q is no time of day such as 08:00", s)
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, nil
}
