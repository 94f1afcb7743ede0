package proxy

import (
	"encoding/xml"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Modes of retention.
const (
	modeGovernance = "GOVERNANCE"
	modeCompliance = "COMPLIANCE"
)

// lockRequest is the protection that a client asks for with a write.
type lockRequest struct {
	retention *retention
	hold      string // "", ON or OFF
	asked     bool
}

// readLock reads the x-amz-object-lock-* headers of a write.
func readLock(h http.Header) (lockRequest, error) {
	var l lockRequest
	mode, until := h.Get("X-Amz-Object-Lock-Mode"), h.Get("X-Amz-Object-Lock-Retain-Until-Date")
	if (mode == "") != (until == "") {
		return l, badArgument(missingOf(mode, until), "", "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied.")
	}
	if mode != "" {
		if mode != modeGovernance && mode != modeCompliance {
			return l, badArgument("x-amz-object-lock-mode", mode, "Unknown wormMode directive.")
		}
		t, err := time.Parse(time.RFC3339, until)
		if err != nil {
			return l, badArgument("x-amz-object-lock-retain-until-date", until, "The retain until date must be provided in ISO 8601 format")
		}
		l.retention, l.asked = &retention{Mode: mode, Until: t.Unix()}, true
	}
	switch v := h.Get("X-Amz-Object-Lock-Legal-Hold"); v {
	case "":
	case "ON", "OFF":
		l.hold, l.asked = v, true
	default:
		return l, badArgument("x-amz-object-lock-legal-hold", v, "Legal Hold must be either of 'ON' or 'OFF'")
	}
	return l, nil
}

// missingOf is the header that is missing.
func missingOf(mode, until string) string {
	if mode == "" {
		return "x-amz-object-lock-mode"
	}
	return "x-amz-object-lock-retain-until-date"
}

// protect gives a new version the protection that was asked for, or else the
// bucket's default.
func (b *bucketRow) protect(r *row, l lockRequest, now time.Time) error {
	if l.retention != nil && l.retention.Until <= now.Unix() {
		return errRetainedInPast
	}
	if l.asked && !b.Lock {
		return errInvalidRequest.saying("Bucket is missing ObjectLockConfiguration")
	}
	r.Retention, r.Hold = l.retention, l.hold
	if r.Retention == nil && b.LockMode != "" {
		r.Retention = &retention{Mode: b.LockMode, Until: now.AddDate(b.LockYears, 0, b.LockDays).Unix()}
	}
	return nil
}

var errRetainedInPast = badArgument("x-amz-object-lock-retain-until-date", "", "The retain until date must be in the future!")

// mayDelete reports whether a version may be removed. bypass is the client's wish
// to override governance mode.
func (r *row) mayDelete(now time.Time, bypass bool) error {
	if r.Hold == "ON" {
		return errAccessDenied.saying("Access Denied because object protected by object lock.")
	}
	if r.Retention == nil || r.Retention.Until <= now.Unix() || r.Retention.Mode == modeGovernance && bypass {
		return nil
	}
	return errAccessDenied.saying("Access Denied because object protected by object lock.")
}

func bypass(h http.Header) bool {
	return strings.EqualFold(h.Get("X-Amz-Bypass-Governance-Retention"), "true")
}

type lockConfiguration struct {
	XMLName xml.Name  `xml:"ObjectLockConfiguration"`
	Enabled string    `xml:"ObjectLockEnabled,omitempty"`
	Rule    *lockRule `xml:",omitempty"`
}

type lockRule struct {
	Default struct {
		Mode  string
		Days  *int `xml:",omitempty"`
		Years *int `xml:",omitempty"`
	} `xml:"DefaultRetention"`
}

func (p *Proxy) getLockConfiguration(w http.ResponseWriter, rq *request) error {
	b, err := rq.ix.findBucket(rq.bucket)
	if err != nil {
		return err
	}
	if !b.Lock {
		return errNoSuchLock
	}
	out := lockConfiguration{XMLName: xml.Name{Space: xmlNamespace, Local: "ObjectLockConfiguration"}, Enabled: "Enabled"}
	if b.LockMode != "" {
		out.Rule = &lockRule{}
		out.Rule.Default.Mode = b.LockMode
		if b.LockDays > 0 {
			out.Rule.Default.Days = &b.LockDays
		} else {
			out.Rule.Default.Years = &b.LockYears
		}
	}
	return writeXML(w, http.StatusOK, out)
}

func (p *Proxy) putLockConfiguration(w http.ResponseWriter, rq *request) error {
	data, err := p.readSmall(rq, maxXML)
	if err != nil {
		return err
	}
	if len(data) == 0 {
		return errMissingBody
	}
	var in lockConfiguration
	if err := parseXML(data, &in); err != nil {
		return err
	}
	if in.Enabled != "Enabled" {
		return errMalformedXML
	}
	mode, days, years, err := in.rule()
	if err != nil {
		return err
	}
	err = p.changeBucket(rq, func(b *bucketRow) error {
		if b.Versioning != "Enabled" {
			return errInvalidBucketState.saying("Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration")
		}
		b.Lock, b.LockMode, b.LockDays, b.LockYears = true, mode, days, years
		return nil
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// rule reads the default retention: none is an empty mode.
func (l *lockConfiguration) rule() (mode string, days, years int, err error) {
	if l.Rule == nil {
		return "", 0, 0, nil
	}
	d := l.Rule.Default
	if d.Mode != modeGovernance && d.Mode != modeCompliance || (d.Days == nil) == (d.Years == nil) {
		return "", 0, 0, errMalformedXML
	}
	name, n, most := "Days", d.Days, 36500
	if n == nil {
		name, n, most = "Years", d.Years, 100
	}
	switch {
	case *n == 0:
		return "", 0, 0, errInvalidRetention
	case *n < 0:
		return "", 0, 0, badArgument(name, strconv.Itoa(*n), "Default retention period must be a positive integer value.")
	case *n > most:
		return "", 0, 0, badArgument(name, strconv.Itoa(*n), "Default retention period too large.")
	case d.Days != nil:
		return d.Mode, *n, 0, nil
	}
	return d.Mode, 0, *n, nil
}

type retentionXML struct {
	XMLName xml.Name `xml:"Retention"`
	Mode    string
	Until   string `xml:"RetainUntilDate"`
}

// retention is what r asks for, nil for none.
func (r *retentionXML) retention(now time.Time) (*retention, error) {
	if r.Mode == "" && r.Until == "" {
		return nil, nil
	}
	until, err := time.Parse(time.RFC3339, r.Until)
	if err != nil || r.Mode != modeGovernance && r.Mode != modeCompliance {
		return nil, errMalformedXML
	}
	if !until.After(now) {
		return nil, errRetainedInPast
	}
	return &retention{Mode: r.Mode, Until: until.Unix()}, nil
}

type legalHoldXML struct {
	XMLName xml.Name `xml:"LegalHold"`
	Status  string
}

// findLocked finds the object of a request about locks, whose bucket must have
// them. Before the object is looked for, the body is read into in, if there is
// one, and held against check.
func (p *Proxy) findLocked(w http.ResponseWriter, rq *request, in any, check func() error) (*found, error) {
	if _, err := rq.ix.findBucket(rq.bucket); err != nil {
		return nil, err
	}
	if in != nil {
		if err := p.readXML(rq, in); err != nil {
			return nil, err
		}
		if err := check(); err != nil {
			return nil, err
		}
	}
	f, err := p.find(w.Header(), rq)
	if err != nil {
		return nil, err
	}
	if !f.bucket.Lock {
		return nil, errInvalidRequest.saying("Bucket is missing Object Lock Configuration")
	}
	return f, nil
}

func (p *Proxy) getRetention(w http.ResponseWriter, rq *request) error {
	f, err := p.findLocked(w, rq, nil, nil)
	if err != nil {
		return err
	}
	if f.row.Retention == nil {
		return errNoSuchObjectLock
	}
	return writeXML(w, http.StatusOK, retentionXML{
		XMLName: xml.Name{Space: xmlNamespace, Local: "Retention"}, Mode: f.row.Retention.Mode,
		Until: time.Unix(f.row.Retention.Until, 0).UTC().Format("2006-01-02T15:04:05.000Z"),
	})
}

func (p *Proxy) putRetention(w http.ResponseWriter, rq *request) error {
	var in retentionXML
	var want *retention
	f, err := p.findLocked(w, rq, &in, func() (err error) {
		want, err = in.retention(p.now())
		return err
	})
	if err != nil {
		return err
	}
	return p.rewriteLocked(w, rq, f, func(r *row) error {
		now := r.Retention
		weaker := now != nil && now.Until > p.now().Unix() &&
			(want == nil || want.Until < now.Until || now.Mode == modeCompliance && want.Mode != modeCompliance)
		changed := now != nil && want != nil && now.Mode != want.Mode
		if weaker && (now.Mode == modeCompliance || !bypass(rq.Header)) || changed && now.Until > p.now().Unix() && now.Mode == modeGovernance && !bypass(rq.Header) {
			return errAccessDenied.saying("Access Denied because object protected by object lock.")
		}
		r.Retention = want
		return nil
	})
}

func (p *Proxy) getLegalHold(w http.ResponseWriter, rq *request) error {
	f, err := p.findLocked(w, rq, nil, nil)
	if err != nil {
		return err
	}
	if f.row.Hold == "" {
		return errNoSuchObjectLock
	}
	return writeXML(w, http.StatusOK, legalHoldXML{XMLName: xml.Name{Space: xmlNamespace, Local: "LegalHold"}, Status: f.row.Hold})
}

func (p *Proxy) putLegalHold(w http.ResponseWriter, rq *request) error {
	var in legalHoldXML
	f, err := p.findLocked(w, rq, &in, func() error {
		if in.Status != "ON" && in.Status != "OFF" {
			return errMalformedXML
		}
		return nil
	})
	if err != nil {
		return err
	}
	return p.rewriteLocked(w, rq, f, func(r *row) error {
		r.Hold = in.Status
		return nil
	})
}

// rewriteLocked changes the protection of f and answers with nothing.
func (p *Proxy) rewriteLocked(w http.ResponseWriter, rq *request, f *found, change func(*row) error) error {
	if err := p.rewrite(rq.Context(), rq.ix, f, change); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}
