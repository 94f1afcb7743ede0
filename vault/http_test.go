package vault

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// selfSigned returns a certificate and its pin.
func selfSigned(t *testing.T) (tls.Certificate, [32]byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k}, sha256.Sum256(c.RawSubjectPublicKeyInfo)
}

// listeningFleet is one of three nodes that have addresses and certificates.
func listeningFleet(t *testing.T) (f *testFleet, listeners []net.Listener, certs []tls.Certificate) {
	t.Helper()
	certs, pins := make([]tls.Certificate, 3), make([][32]byte, 3)
	for i := range certs {
		certs[i], pins[i] = selfSigned(t)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, l)
	}
	f = newFleet(t, 3, func(m *Manifest) {
		for i := range m.Nodes {
			m.Nodes[i].URL, m.Nodes[i].TLSPin = "https://"+listeners[i].Addr().String(), pins[i]
		}
	})
	return f, listeners, certs
}

// The whole protocol over real TLS: the pin decides, and nothing below 1.3 is spoken.
func TestOverTLS(t *testing.T) {
	f, listeners, certs := listeningFleet(t)
	defer f.close()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 3)
	for i, n := range f.nodes {
		go func() { done <- n.server.Serve(ctx, listeners[i], certs[i]) }()
	}
	network := func(c *ClientConfig) { c.Transport = nil }
	c := f.client("anna", network)
	key := f.register(c, "right")
	if got, err := c.Recover(ctx, "right"); err != nil || got != key {
		t.Fatal(err)
	}
	c.Close()
	if b, err := FetchManifest(ctx, f.manifest.Nodes[1].URL+"/", c.c.Roots); err != nil || !bytes.Equal(b, c.c.Manifest) {
		t.Errorf("a node shows a fleet file of %d bytes, %v", len(b), err)
	}
	strangers, _ := testRoots(1, 0)
	if _, err := FetchManifest(ctx, f.manifest.Nodes[1].URL, strangers); !errors.Is(err, ErrManifest) {
		t.Errorf("a fleet file that the pinned root has not signed: %v, want ErrManifest", err)
	}
	old := &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}
	if conn, err := tls.Dial("tcp", listeners[0].Addr().String(), old); err == nil {
		conn.Close()
		t.Error("TLS 1.2 is spoken")
	}
	// Somebody else's certificate at the right address.
	bad := f.client("anna", network, func(c *ClientConfig) { c.Timeout = time.Second })
	for _, n := range bad.nodes {
		n.node.TLSPin[0] ^= 1
		n.http.Transport, n.line = transport(pinnedTLS(n.node)), newLine(n.node)
	}
	if _, err := bad.Recover(ctx, "right"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("with wrong pins: %v, want ErrUnavailable", err)
	}
	stop()
	for range f.nodes {
		if err := <-done; err != nil {
			t.Errorf("serving ended with %v", err)
		}
	}
}

// Every answer has one size, and what is no request has a plain refusal.
func TestAnswersAreOfOneSize(t *testing.T) {
	f := newFleet(t, 1)
	defer f.close()
	c := f.client("anna")
	f.register(c, "right")
	post := func(path string, body []byte) *http.Response {
		w := httptest.NewRecorder()
		f.nodes[0].server.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body)))
		return w.Result()
	}
	for _, account := range []string{"anna", "nobody"} {
		for kind, body := range map[Kind]any{
			KindRecord:  &RecordBody{UID: AccountUID(f.manifest.Fleet, account)},
			KindEval:    &EvalBody{UID: AccountUID(f.manifest.Fleet, account)},
			KindReceipt: &ReceiptBody{UID: AccountUID(f.manifest.Fleet, account)},
			KindProve:   &ProveBody{UID: AccountUID(f.manifest.Fleet, account)},
		} {
			for _, manifest := range [][32]byte{{}, c.hash} {
				r := &Request{Version: version, Kind: kind, Manifest: manifest, Token: []byte(c.c.Token), Body: encode(body)}
				resp := post(Path, encode(r))
				b, err := io.ReadAll(resp.Body)
				if err != nil || resp.StatusCode != http.StatusOK || len(b) != answerSize {
					t.Errorf("%s, %v: status %d, %d bytes, %v", account, kindNames[kind], resp.StatusCode, len(b), err)
				}
			}
		}
	}
	for _, tt := range []struct {
		path string
		body []byte
		want int
	}{
		{"/", nil, http.StatusNotFound},
		{Path, nil, http.StatusBadRequest},
		{Path, []byte("GET / HTTP/1.1"), http.StatusBadRequest},
		{Path, make([]byte, maxRequest+1), http.StatusBadRequest},
	} {
		if got := post(tt.path, tt.body).StatusCode; got != tt.want {
			t.Errorf("%s with %d bytes: status %d, want %d", tt.path, len(tt.body), got, tt.want)
		}
	}
	w := httptest.NewRecorder()
	f.nodes[0].server.ServeHTTP(w, httptest.NewRequest(http.MethodGet, Path, nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET: status %d", w.Code)
	}
	w = httptest.NewRecorder()
	f.nodes[0].server.ServeHTTP(w, httptest.NewRequest(http.MethodGet, ManifestPath, nil))
	if !bytes.Equal(w.Body.Bytes(), f.file) {
		t.Error("the manifest is not shown as it is")
	}
}

func parseAnswer(out []byte, n Node, manifest [32]byte, request []byte) (*Answer, error) {
	sg, err := parseSigned(out, n)
	if err != nil {
		return nil, err
	}
	return readAnswer(sg.Answer, n, manifest, request)
}

// A client believes only what a node has signed for this very request.
func TestAnswersAreBound(t *testing.T) {
	f := newFleet(t, 3)
	defer f.close()
	c := f.client("anna")
	f.register(c, "right")
	r := &Request{Version: version, Kind: KindRecord, Manifest: c.hash, Token: []byte(c.c.Token), Body: encode(&RecordBody{UID: c.uid})}
	data := encode(r)
	w := httptest.NewRecorder()
	f.nodes[0].server.ServeHTTP(w, httptest.NewRequest(http.MethodPost, Path, bytes.NewReader(data)))
	good := w.Body.Bytes()
	n := c.manifest.Nodes[0]
	if _, err := parseAnswer(good, n, c.hash, data); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(good); i++ {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if _, err := parseAnswer(bad, n, c.hash, data); err == nil {
			t.Fatalf("an answer with byte %d changed is believed", i)
		}
	}
	r.Nonce[0]++
	if _, err := parseAnswer(good, n, c.hash, encode(r)); err == nil {
		t.Error("an answer to another request is believed")
	}
	if _, err := parseAnswer(good, c.manifest.Nodes[1], c.hash, data); err == nil {
		t.Error("another node's answer is believed")
	}
	if _, err := parseAnswer(good, n, [32]byte{}, data); err == nil {
		t.Error("an answer by another manifest is believed")
	}
	if _, err := parseAnswer(good[:answerSize-1], n, c.hash, data); err == nil {
		t.Error("an answer of another size is believed")
	}
}

// Limits must hold, and refuse when they can no longer count.
func TestLimits(t *testing.T) {
	inBubble(t, func(t *testing.T) { // on a busy machine a limiter would forget meanwhile
		f := newFleet(t, 1)
		defer f.close()
		f.nodes[0].server.limits = newLimiters(Limits{Account: 1, Address: 2, Node: 1000})
		c := f.client("anna")
		var codes [codeLast + 1]int
		refused := 0
		for range 30 {
			a, err := c.ask(context.Background(), c.nodes[0], KindRecord, &RecordBody{UID: c.uid})
			if err != nil {
				refused++
				continue
			}
			codes[a.Code]++
		}
		if codes[CodeNone] < 10 || codes[CodeNone] > 14 || codes[CodeLimited] < 5 || refused < 5 {
			t.Errorf("%d answered, %d limited, %d refused by address", codes[CodeNone], codes[CodeLimited], refused)
		}
		l := newLimiter[int](1)
		for i := range maxCallers {
			if !l.allow(i) {
				t.Fatalf("caller %d is refused", i)
			}
		}
		if l.allow(-1) {
			t.Error("one caller more than can be counted is let in")
		}
	})
}

func TestAddressPrefix(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.7:1234":          "192.0.2.7/32",
		"[::ffff:192.0.2.7]:1234": "192.0.2.7/32",
		"[2001:db8:1:2:3::4]:5":   "2001:db8:1:2::/64",
		"[fe80::1%eth0]:5":        "fe80::/64",
		"nonsense":                "invalid Prefix",
	} {
		if got := addressPrefix(remote).String(); got != want {
			t.Errorf("%s: %s, want %s", remote, got, want)
		}
	}
}
