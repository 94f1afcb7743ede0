package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
)

// TLS says how to speak to an S3 store over https.
type TLS struct {
	CAFile     string // PEM file of the only authorities to trust; empty means the system's
	ClientCert string // PEM file, certificate first, then intermediates; empty means none
	ClientKey  string // PEM file of its private key
	Min        string // oldest version, "1.2" or "1.3"; empty means 1.2
}

func newTransport(c TLS) (http.RoundTripper, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	switch c.Min {
	case "", "1.2":
	case "1.3":
		config.MinVersion = tls.VersionTLS13
	default:
		return nil, fmt.Errorf("TLS version %q, want 1.2 or 1.3", c.Min)
	}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", c.CAFile)
		}
	}
	if (c.ClientCert == "") != (c.ClientKey == "") {
		return nil, errors.New("a client certificate needs a private key, and the other way round")
	}
	if c.ClientCert != "" {
		if _, err := tls.LoadX509KeyPair(c.ClientCert, c.ClientKey); err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(c.ClientCert, c.ClientKey) // it is renewed while we run
			return &pair, err
		}
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 64
	t.MaxIdleConns = 0
	t.ReadBufferSize, t.WriteBufferSize = 16<<10, 16<<10
	t.DisableCompression = true // the bytes are random, and lengths must be those stored
	t.ForceAttemptHTTP2 = false // many connections carry more than one
	t.TLSClientConfig = config
	return t, nil
}
