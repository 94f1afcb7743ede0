package vault

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"
)

// callTime bounds one request, from its first byte to the answer.
const callTime = 15 * time.Second

// ServeHTTP answers requests at [Path] and [ManifestPath].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var put bool
	switch {
	case r.URL.Path == ManifestPath && r.Method == http.MethodGet:
		w.Header().Set("Content-Type", "application/cbor")
		w.Write(s.inForce().file)
		return
	case r.URL.Path == ManifestPath && r.Method == http.MethodPut:
		put = true
	case r.URL.Path != Path:
		http.Error(w, "not found", http.StatusNotFound)
		return
	case r.Method != http.MethodPost:
		http.Error(w, "POST only", http.StatusMethodNotAllowed)
		return
	}
	if !s.limits.address(r.RemoteAddr) {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many requests", http.StatusTooManyRequests)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), callTime)
	defer cancel()
	if put {
		s.takeManifest(w, r)
		return
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		http.Error(w, "cannot read the request", http.StatusBadRequest)
		return
	}
	answer, _, err := s.carryOut(ctx, data)
	if err != nil {
		http.Error(w, "malformed request", http.StatusBadRequest)
		return
	}
	out, err := s.sign(ctx, answer)
	if err != nil {
		s.log.Error("an answer was not signed", zap.Error(err))
		http.Error(w, "unavailable", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/cbor")
	w.Write(out)
}

// carryOut does what a request asks for, and returns the answer as it is to be signed.
// The error says that the bytes are no request.
func (s *Server) carryOut(ctx context.Context, data []byte) (answer []byte, kind Kind, err error) {
	req, err := parseRequest(data)
	if err != nil {
		return nil, 0, err
	}
	start := time.Now()
	by := s.inForce()
	a := s.answer(ctx, req, by)
	s.metrics.requests.WithLabelValues(kindNames[req.Kind], a.Code.String()).Inc()
	s.metrics.seconds.WithLabelValues(kindNames[req.Kind]).Observe(time.Since(start).Seconds())
	h := s.shown(req)
	a.Version, a.Node, a.Manifest, a.Request, a.Head = version, s.c.NodeID, by.hash, sha256.Sum256(data), h.bytes()
	return a.encode(), req.Kind, nil
}

// takeManifest follows a newer manifest, whoever hands it in: it speaks for itself.
func (s *Server) takeManifest(w http.ResponseWriter, r *http.Request) {
	file, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
	newer := false
	if err == nil {
		newer, err = s.Follow(file)
	}
	switch {
	case err != nil:
		s.log.Warn("a manifest that was handed in is not followed", zap.Error(err))
		http.Error(w, "not acceptable", http.StatusConflict)
	case newer:
		s.log.Info("a newer manifest was handed in, and is followed", zap.Uint64("number", s.inForce().manifest.Sequence))
	}
}

// shown is the head that an answer to the request shows. Until enough other nodes
// have said what they remember of this one, they are shown the head of the start: had
// this disk been restored, a longer one would make them forget the one that tells.
func (s *Server) shown(r *Request) head {
	if r.Kind == KindHead && !s.witness.enough() {
		return s.ledger.began()
	}
	h, _ := s.ledger.state()
	return h
}

// sign signs an answer. Every one is answerSize bytes long: its length tells
// nobody what it says.
func (s *Server) sign(ctx context.Context, answer []byte) ([]byte, error) {
	sig, err := s.c.HSM.Sign(ctx, answerDigest(answer))
	if err != nil {
		return nil, err
	}
	out := encode(&signed{Answer: answer, Sig: sig})
	if len(out) > answerSize {
		return nil, errTooLong
	}
	return append(out, make([]byte, answerSize-len(out))...), nil
}

// Serve answers clients on l over TLS 1.3, in streams and by HTTP/1.1, until ctx ends, then
// lets the requests in flight finish.
func (s *Server) Serve(ctx context.Context, l net.Listener, cert tls.Certificate) error {
	s.cert.CompareAndSwap(nil, &cert)
	h := &http.Server{
		Handler: s,
		TLSConfig: &tls.Config{
			MinVersion:                  tls.VersionTLS13,
			GetCertificate:              func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.cert.Load(), nil },
			NextProtos:                  []string{streamProtocol, "http/1.1"},
			DynamicRecordSizingDisabled: true, // an answer is one record, not three
		},
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){
			streamProtocol: func(_ *http.Server, conn *tls.Conn, _ http.Handler) { s.serveStream(ctx, conn) },
		},
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       callTime,
		WriteTimeout:      2 * callTime,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          zap.NewStdLog(zap.NewNop()), // net/http's lines name addresses
	}
	done := make(chan error, 1)
	go func() {
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTime)
		defer cancel()
		err := h.Shutdown(stop)
		if errors.Is(err, context.DeadlineExceeded) { // somebody does not take his answer
			err = h.Close()
		}
		done <- err
	}()
	if err := h.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-done
}

// SetCertificate makes new connections of clients see another certificate.
func (s *Server) SetCertificate(cert tls.Certificate) { s.cert.Store(&cert) }
