package main

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"

	"coffer/internal/secret"
)

// certificateAge is how long a certificate is used before its files are looked at
// again.
const certificateAge = 5 * time.Second

// certificate is a TLS certificate in two PEM files, which may change while it is
// used. While they do not hold a pair, as in the moment between two writes, the
// one before stays.
type certificate struct {
	cert, key string // files
	log       *zap.Logger

	mu      sync.Mutex
	pair    *tls.Certificate
	checked time.Time
	state   [2]fileState // that pair was read in
}

// fileState tells one content of a file from another.
type fileState struct {
	modified time.Time
	size     int64
}

func newCertificate(cert, key string, log *zap.Logger) (*certificate, error) {
	c := &certificate{cert: cert, key: key, log: log}
	return c, c.load()
}

// load reads the files; mu is held, or c not yet shared.
func (c *certificate) load() error {
	state, err := c.look()
	if err != nil {
		return fmt.Errorf("certificate of the gateway: %w", err)
	}
	key, err := secret.Read(c.key)
	if err != nil {
		return fmt.Errorf("private key of the gateway's certificate: %w", err)
	}
	cert, err := os.ReadFile(c.cert)
	if err != nil {
		return fmt.Errorf("certificate of the gateway: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, []byte(key))
	if err != nil {
		return fmt.Errorf("certificate of the gateway, %s with %s: %w", c.cert, c.key, err)
	}
	c.pair, c.state = &pair, state
	return nil
}

func (c *certificate) look() (state [2]fileState, err error) {
	for i, file := range []string{c.cert, c.key} {
		info, err := os.Stat(file)
		if err != nil {
			return state, err
		}
		state[i] = fileState{info.ModTime(), info.Size()}
	}
	return state, nil
}

// reload reads the files again at once.
func (c *certificate) reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checked = time.Now()
	return c.load()
}

// get gives the pair that a handshake uses.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.checked) < certificateAge {
		return c.pair, nil
	}
	c.checked = time.Now()
	if state, err := c.look(); err == nil && state == c.state {
		return c.pair, nil
	}
	if err := c.load(); err != nil {
		c.log.Warn("the certificate has changed and cannot be read; the one before stays", zap.Error(err))
	} else {
		c.log.Info("the certificate has changed and was read again")
	}
	return c.pair, nil
}
