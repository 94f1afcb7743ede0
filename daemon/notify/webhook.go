package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"coffer/internal/secret"
)

// Webhook is an address that is sent each message as JSON.
type Webhook struct {
	URLFile    string // file that holds the address; "": none
	SecretFile string // file that holds a key: X-Coffer-Signature is the HMAC of the body; "": no signature
}

// client follows no redirect: the message is for the address that was written down.
var client = &http.Client{
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func (w Webhook) send(ctx context.Context, m Message) error {
	body, err := m.encode()
	if err != nil {
		return fmt.Errorf("encoding a notification: %w", err)
	}
	header := http.Header{"Content-Type": {"application/json"}, "User-Agent": {"coffer"}}
	if w.SecretFile != "" {
		key, err := secret.Read(w.SecretFile)
		if err != nil {
			return fmt.Errorf("reading the key of the webhook: %w", err)
		}
		mac := hmac.New(sha256.New, []byte(key))
		mac.Write(body)
		header.Set("X-Coffer-Signature", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	}
	return post(ctx, w.URLFile, "", header, body)
}

// post sends body to the address in a file, with path added to it.
func post(ctx context.Context, file, path string, header http.Header, body []byte) error {
	address, err := secret.Read(file)
	if err != nil {
		return fmt.Errorf("reading the address: %w", err)
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return &refused{fmt.Errorf("%s holds no http:// or https:// address", file)}
	}
	u = u.JoinPath(path)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return &refused{fmt.Errorf("the address in %s cannot be asked", file)}
	}
	req.Header = header
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("the address in %s does not answer: %w", file, withoutAddress(err))
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again
	err = fmt.Errorf("the address in %s answers %s", file, resp.Status)
	switch {
	case resp.StatusCode < 300:
		return nil
	case resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusRequestTimeout:
		return &refused{err}
	}
	return err
}

// withoutAddress takes the address out of an error: it is a secret.
func withoutAddress(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
