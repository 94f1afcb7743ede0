package notify

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority makes a certificate for 127.0.0.1 and the file of who signed it.
func authority(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

// letter is what the local server was given.
type letter struct {
	user, password, from, to, text string
	encrypted                      bool
}

// mailServer speaks as much SMTP as a client needs, with STARTTLS or TLS from the
// first byte.
func mailServer(t *testing.T, cert tls.Certificate, implicit bool) (address string, got <-chan letter) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	letters := make(chan letter, 10)
	conf := &tls.Config{Certificates: []tls.Certificate{cert}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			if implicit {
				c = tls.Server(c, conf)
			}
			go talk(c, conf, implicit, letters)
		}
	}()
	return l.Addr().String(), letters
}

func talk(c net.Conn, conf *tls.Config, encrypted bool, letters chan<- letter) {
	defer c.Close()
	in := bufio.NewReader(c)
	say := func(line string) { fmt.Fprintf(c, "%s\r\n", line) }
	var x letter
	say("220 test")
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch strings.ToUpper(verb) {
		case "EHLO":
			if encrypted {
				say("250-test\r\n250 AUTH PLAIN LOGIN")
			} else {
				say("250-test\r\n250 STARTTLS")
			}
		case "STARTTLS":
			say("220 go on")
			c, encrypted = tls.Server(c, conf), true
			in = bufio.NewReader(c)
		case "AUTH":
			b, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(rest, "PLAIN "))
			if f := strings.Split(string(b), "\x00"); len(f) == 3 {
				x.user, x.password = f[1], f[2]
			}
			say("235 welcome")
		case "MAIL":
			x.from = rest
			say("250 ok")
		case "RCPT":
			x.to += rest
			say("250 ok")
		case "DATA":
			say("354 go on")
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				x.text += line
			}
			x.encrypted = encrypted
			letters <- x
			say("250 ok")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

// TestMail: what is sent is encrypted, says what it must, and names nothing that
// it may not; the password goes to the right server only.
func TestMail(t *testing.T) {
	cert, ca := authority(t)
	for _, how := range []string{"starttls", "tls"} {
		t.Run(how, func(t *testing.T) {
			address, got := mailServer(t, cert, how == "tls")
			c := Config{Host: "laptop", Mail: Mail{Server: address, TLS: how, CAFile: ca, User: "anna", PasswordFile: secretFile(t, canary),
				From: "coffer@example.org", To: []string{"anna@example.org", "ben@example.org"}}}
			n, _, _ := begin(t, c)
			n.Tell(notice)
			x := receive(t, got)
			if !x.encrypted || x.user != "anna" || x.password != canary || !strings.Contains(x.from, "coffer@example.org") || strings.Count(x.to, "@example.org") != 2 {
				t.Errorf("got %+v", x)
			}
			for _, want := range []string{"Subject: coffer: a problem with the backups\r\n", "a source has not been backed up for longer than it may", "Auto-Submitted: auto-generated"} {
				if !strings.Contains(x.text, want) {
					t.Errorf("no %q in\n%s", want, x.text)
				}
			}
			for _, secret := range []string{"letters", "laptop", canary} {
				if strings.Contains(x.text, secret) {
					t.Errorf("%s is in\n%s", secret, x.text)
				}
			}
		})
	}
	_, other := authority(t)
	address, got := mailServer(t, cert, false)
	n := New(Config{Mail: Mail{Server: address, TLS: "starttls", CAFile: other, User: "anna", PasswordFile: secretFile(t, canary), From: "a@example.org", To: []string{"b@example.org"}}})
	if all := n.Test(t.Context()); len(all) != 1 || !strings.Contains(all[0].Error, "certificate") || strings.Contains(all[0].Error, canary) || len(got) > 0 {
		t.Errorf("a server with another certificate: %+v", all)
	}
}
