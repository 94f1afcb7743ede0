package proxy

import (
	"cmp"
	"context"
	"errors"
	"net/http/httptest"
	"net/url"
	"testing"
	"testing/synctest"
	"time"
)

// TestAdmission: one too many waits for a place, and not for ever.
func TestAdmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := make(admission, 1)
		leave, err := a.enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := a.enter(t.Context()); !errors.Is(err, errSlowDown) || time.Since(start) != maxWait {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := a.enter(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("a client that went: %v", err)
		}
		time.AfterFunc(time.Second, leave)
		leave, err = a.enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		leave()
		if len(a) != 0 {
			t.Errorf("%d places are still taken", len(a))
		}
	})
}

// TestAdmissionApart: requests that nobody signed hold up none that are signed, nor
// the other way round.
func TestAdmissionApart(t *testing.T) {
	w := newBucket(t, func(c *Config) { c.Public = true })
	w.must(call{method: "PUT", path: "/bucket/key", body: []byte("x")}, 200)
	w.policy(policyOf("Allow", "*", "s3:GetObject"), 204)
	w.must(call{method: "PUT", path: "/bucket", query: "website=", body: []byte("<WebsiteConfiguration><IndexDocument><Suffix>key</Suffix></IndexDocument></WebsiteConfiguration>")}, 200)
	get := func(host string, sign bool, want error) error {
		ctx, cancel := t.Context(), func() {}
		if want != nil { // a client that does not wait for long
			ctx, cancel = context.WithTimeout(ctx, 50*time.Millisecond)
		}
		defer cancel()
		r := w.request(call{method: "GET", path: "/bucket/key"})
		if host != "" {
			r.Host, r.URL.Path = host, "/key"
		}
		if sign {
			w.sign(r)
		}
		r.Host = cmp.Or(r.Host, r.URL.Host)
		return w.g.serve(httptest.NewRecorder(), &request{Request: r.WithContext(ctx), query: url.Values{}, op: unknownOperation})
	}
	const site = "bucket.s3-website.localhost"
	for _, tt := range []struct {
		name             string
		full             admission
		signed, unsigned error
	}{
		{"nobody", make(admission, 1), nil, nil},
		{"those who did not sign", w.g.admitUnsigned, nil, context.DeadlineExceeded},
		{"those who signed", w.g.admit, context.DeadlineExceeded, nil},
	} {
		for range cap(tt.full) {
			tt.full <- struct{}{}
		}
		if err := get("", true, tt.signed); !errors.Is(err, tt.signed) {
			t.Errorf("full of %s: signed: %v, want %v", tt.name, err, tt.signed)
		}
		for _, host := range []string{"", site} {
			if err := get(host, false, tt.unsigned); !errors.Is(err, tt.unsigned) {
				t.Errorf("full of %s: unsigned at %q: %v, want %v", tt.name, host, err, tt.unsigned)
			}
		}
		for range cap(tt.full) {
			<-tt.full
		}
	}
}
