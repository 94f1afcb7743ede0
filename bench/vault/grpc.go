package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// conn calls etcd's gRPC services: HTTP/2, a frame of five bytes, a protocol
// buffer. That little needs no library.
type conn struct {
	url  string
	http *http.Client
}

func (c *conn) call(ctx context.Context, method string, m message) (message, error) {
	frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(m)))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+"/etcdserverpb."+method, bytes.NewReader(append(frame, m...)))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("TE", "trailers")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	status := resp.Trailer.Get("Grpc-Status")
	if status == "" {
		status = resp.Header.Get("Grpc-Status")
	}
	if resp.StatusCode != http.StatusOK || status != "0" || len(out) < 5 {
		return nil, fmt.Errorf("%s: %s, status %q %s%s", method, resp.Status, status, resp.Trailer.Get("Grpc-Message"), resp.Header.Get("Grpc-Message"))
	}
	if n := binary.BigEndian.Uint32(out[1:]); out[0] != 0 || int(n) != len(out)-5 {
		return nil, errors.New("not one plain frame")
	}
	return out[5:], nil
}

// message is a protocol buffer.
type message []byte

func (m message) bytes(field int, b []byte) message {
	m = binary.AppendUvarint(m, uint64(field)<<3|2)
	m = binary.AppendUvarint(m, uint64(len(b)))
	return append(m, b...)
}

func (m message) varint(field int, v uint64) message {
	return binary.AppendUvarint(binary.AppendUvarint(m, uint64(field)<<3), v)
}

// find returns the first value of a field: a number, or bytes.
func (m message) find(field int) (number uint64, b message, ok bool) {
	for len(m) > 0 {
		tag, n := binary.Uvarint(m)
		if n <= 0 {
			return 0, nil, false
		}
		m = m[n:]
		v, n := binary.Uvarint(m)
		if n <= 0 || tag&7 != 0 && tag&7 != 2 {
			return 0, nil, false
		}
		m = m[n:]
		var value message
		if tag&7 == 2 {
			if v > uint64(len(m)) {
				return 0, nil, false
			}
			value, m = m[:v], m[v:]
		}
		if int(tag>>3) == field {
			return v, value, true
		}
	}
	return 0, nil, false
}

func (m message) number(field int) (uint64, bool) {
	n, _, ok := m.find(field)
	return n, ok
}

func (m message) field(field int) message {
	_, b, _ := m.find(field)
	return b
}
