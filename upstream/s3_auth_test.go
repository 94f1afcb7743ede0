package upstream_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coffer/internal/testminio"
	"coffer/upstream"
)

// keyService gives the key of a real store to whoever asks as EC2's metadata
// service and STS are asked.
func keyService(t *testing.T, s *testminio.Server) *httptest.Server {
	expires := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /latest/api/token", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "session") })
	mux.HandleFunc("GET /latest/meta-data/iam/security-credentials/{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "role") })
	mux.HandleFunc("GET /latest/meta-data/iam/security-credentials/role", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-aws-ec2-metadata-token") != "session" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprintf(w, `{"Code":"Success","Expiration":%q,"AccessKeyId":%q,"SecretAccessKey":%q}`, expires, s.Access, s.Secret)
	})
	mux.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("Action") != "AssumeRoleWithWebIdentity" || r.FormValue("WebIdentityToken") != "a.token" || r.FormValue("RoleArn") != "arn:x" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials>`+
			`<AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><Expiration>%s</Expiration>`+
			`</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, s.Access, s.Secret, expires)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

// TestAuth: every way to a key, against a real store.
func TestAuth(t *testing.T) {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
		}
	}
	server := testminio.StartServer(t)
	base := s3Config(t, server)
	if _, err := upstream.Open(t.Context(), base); err != nil {
		t.Fatal(err)
	}
	service := keyService(t, server)
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file(".aws/credentials", fmt.Sprintf("[default]\naws_access_key_id = x\naws_secret_access_key = wrong\n[backup]\naws_access_key_id = %s\naws_secret_access_key = %s\n", server.Access, server.Secret))
	for name, tt := range map[string]struct {
		auth upstream.Auth
		ok   bool
	}{
		"profile":            {upstream.Auth{Profile: "backup"}, true},
		"default profile":    {upstream.Auth{}, false},
		"iam":                {upstream.Auth{Type: "iam", IAMEndpoint: service.URL}, true},
		"web identity":       {upstream.Auth{Type: "web-identity", STSEndpoint: service.URL, TokenFile: file("token", "a.token\n"), RoleARN: "arn:x"}, true},
		"another's token":    {upstream.Auth{Type: "web-identity", STSEndpoint: service.URL, TokenFile: file("other", "b.token\n"), RoleARN: "arn:x"}, false},
		"no token":           {upstream.Auth{Type: "web-identity", STSEndpoint: service.URL, TokenFile: "/none", RoleARN: "arn:x"}, false},
		"assume role":        {upstream.Auth{Type: "assume-role", Profile: "backup", STSEndpoint: server.Endpoint, RoleARN: "arn:x:x:x:x"}, true},
		"assume wrong role":  {upstream.Auth{Type: "assume-role", STSEndpoint: server.Endpoint, RoleARN: "arn:x:x:x:x"}, false},
		"anonymous":          {upstream.Auth{Type: "anonymous"}, false},
		"a form that is not": {upstream.Auth{Type: "kerberos"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			c := base
			c.AccessKey, c.SecretKey, c.Create, c.Retries = "", upstream.Secret{}, false, -1
			c.Auth = tt.auth
			b, err := upstream.Open(t.Context(), c)
			if (err == nil) != tt.ok {
				t.Fatalf("opened: %v", err)
			}
			if err == nil {
				put(t, b, "object", randomBytes(1000), upstream.PutOptions{})
			}
		})
	}
	t.Run("environment", func(t *testing.T) {
		t.Setenv("AWS_ACCESS_KEY_ID", server.Access)
		t.Setenv("AWS_SECRET_ACCESS_KEY", server.Secret)
		c := base
		c.AccessKey, c.SecretKey, c.Create = "", upstream.Secret{}, false
		if _, err := upstream.Open(t.Context(), c); err != nil {
			t.Error(err)
		}
	})
}

// TestClientCertificate: a store that wants a certificate gets ours, and an old
// version of TLS is refused.
func TestClientCertificate(t *testing.T) {
	store := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) != 1 {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	store.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, MaxVersion: tls.VersionTLS12}
	store.StartTLS()
	defer store.Close()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ca := write("ca.pem", "CERTIFICATE", store.Certificate().Raw)
	key, err := x509.MarshalPKCS8PrivateKey(store.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	keyFile := write("key.pem", "PRIVATE KEY", key)
	for name, tt := range map[string]struct {
		tls  upstream.TLS
		want string // in the error; "" means none
	}{
		"with":         {upstream.TLS{CAFile: ca, ClientCert: ca, ClientKey: keyFile}, ""},
		"without":      {upstream.TLS{CAFile: ca}, "Access Denied"},
		"no key":       {upstream.TLS{CAFile: ca, ClientCert: ca}, "needs a private key"},
		"wrong key":    {upstream.TLS{CAFile: ca, ClientCert: ca, ClientKey: ca}, "client certificate"},
		"old version":  {upstream.TLS{CAFile: ca, ClientCert: ca, ClientKey: keyFile, Min: "1.3"}, "protocol version"},
		"no version":   {upstream.TLS{Min: "1.1"}, "want 1.2 or 1.3"},
		"no authority": {upstream.TLS{CAFile: keyFile}, "holds no certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := upstream.Open(t.Context(), upstream.Config{Type: "s3", Endpoint: store.URL, Bucket: "bucket", Region: "us-east-1",
				AccessKey: "a", SecretKey: upstream.NewSecret("b"), PathStyle: true, Retries: -1, TLS: tt.tls})
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
