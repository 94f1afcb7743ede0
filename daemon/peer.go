package daemon

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"

	"golang.org/x/sys/unix"
)

// ErrNotOwner means that another user than the daemon's, or root, asked.
var ErrNotOwner = errors.New("daemon: the control socket is for its owner")

// peerKey is where withPeer puts the user id of the client.
type peerKey struct{}

// withPeer asks the kernel who is at the other end of c. The mode of the socket
// keeps others out already; this holds when the socket was opened by somebody
// else, or its folder is on a file system without modes.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	uid, err := peer(c)
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, uid)
}

func peer(c net.Conn) (uid uint32, err error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return 0, errors.New("not a unix socket")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var inner error
	err = raw.Control(func(fd uintptr) {
		cred, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, inner); err != nil {
		return 0, err
	}
	return cred.Uid, nil
}

// onlyOwner refuses everybody but the daemon's user and root, also those whom
// the kernel did not name.
func onlyOwner(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		uid, known := r.Context().Value(peerKey{}).(uint32)
		if !known || uid != 0 && uid != uint32(os.Geteuid()) {
			fail(w, ErrNotOwner)
			return
		}
		h.ServeHTTP(w, r)
	})
}
