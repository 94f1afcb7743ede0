package notify

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/wneessen/go-mail"

	"coffer/internal/secret"
)

// Mail is a server that takes messages for people.
type Mail struct {
	Server       string   // host:port; "": none
	TLS          string   // "starttls" or "tls": from the first byte; the certificate must be right
	CAFile       string   // PEM file of the only authorities to trust; "": the system's
	User         string   // "": without authentication
	PasswordFile string   // file that holds the password
	From         string   //
	To           []string //
}

func (c Mail) send(ctx context.Context, m Message) error {
	msg := mail.NewMsg()
	if err := errors.Join(msg.From(c.From), msg.To(c.To...)); err != nil {
		return &refused{fmt.Errorf("addressing a mail: %w", err)}
	}
	msg.Subject(m.subject())
	msg.SetDate()
	msg.SetMessageID()
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetBodyString(mail.TypeTextPlain, m.Text+"\n")
	server, err := c.client()
	if err != nil {
		return err
	}
	if err := server.DialAndSendWithContext(ctx, msg); err != nil {
		err = fmt.Errorf("mail by %s: %w", c.Server, err)
		var sent *mail.SendError
		if errors.As(err, &sent) && !sent.IsTemp() {
			return &refused{err}
		}
		return err
	}
	return nil
}

// client makes one that speaks TLS or not at all.
func (c Mail) client() (*mail.Client, error) {
	host, text, err := net.SplitHostPort(c.Server)
	port, err2 := strconv.Atoi(text)
	if err := errors.Join(err, err2); err != nil {
		return nil, &refused{fmt.Errorf("mail server %q: %w", c.Server, err)}
	}
	conf := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("authorities of the mail server: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, &refused{fmt.Errorf("authorities of the mail server: %s holds no certificate", c.CAFile)}
		}
	}
	o := []mail.Option{mail.WithPort(port), mail.WithTimeout(timeout), mail.WithTLSConfig(conf), mail.WithTLSPolicy(mail.TLSMandatory), mail.WithHELO("localhost")}
	if c.TLS == "tls" {
		o = append(o, mail.WithSSL())
	}
	if c.User != "" {
		password, err := secret.Read(c.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("reading the mail password: %w", err)
		}
		o = append(o, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(c.User), mail.WithPassword(password))
	}
	client, err := mail.NewClient(host, o...)
	if err != nil {
		return nil, &refused{fmt.Errorf("mail server %s: %w", c.Server, err)}
	}
	return client, nil
}
