package proxy

import (
	"fmt"
	"net/http"
	"syscall"
)

// Free bytes that the disk of the state folder must have before the index is
// written: it ends the process when its log cannot be written. To remove objects
// may be what makes room, so less is enough for it.
const (
	roomToWrite  = 64 << 20
	roomToRemove = 8 << 20
)

var errStateFull = errFull.saying("The disk of coffer's state folder is full. Make room on this machine, then try again: nothing was written.")

// room refuses a request that writes where there is no room for what it leaves in
// the state folder.
func (p *Proxy) room(rq *request) error {
	need := uint64(roomToWrite)
	switch {
	case !rq.op.write:
		return nil
	case rq.Method == http.MethodDelete || rq.op.name == "DeleteObjects":
		need = roomToRemove
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(p.dir, &fs); err != nil {
		return fmt.Errorf("looking for room in the state folder: %w", err)
	}
	if free := fs.Bavail * uint64(fs.Bsize); free < need {
		return errStateFull.because(fmt.Errorf("%d bytes are free in %s, want %d", free, p.dir, need))
	}
	return nil
}
