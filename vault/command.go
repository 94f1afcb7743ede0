package vault

import (
	"fmt"
	"strconv"
)

// The versions of commands: the newest that this program carries out, and the one that
// it writes. A release that knows a new one does not write it yet, the next one does:
// so nodes may be upgraded one by one, whoever leads. They are strings so that a
// test can build another release, with -ldflags "-X coffer/vault.knows=2".
var (
	knows  = "1"
	writes = "1"

	newestCommand  = commandVersion(knows)
	writtenCommand = commandVersion(writes)
)

func commandVersion(s string) byte {
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil || n == 0 {
		panic("vault: this program was built with command version " + s)
	}
	return byte(n)
}

// Command is an entry of the log: what a client asked of the leader, with the
// authority under which it did and the leader's time. Its encoding follows one
// byte, the version, which a program of any version can read.
type Command struct {
	Kind  Kind   `cbor:"1,keyasint"`
	Time  int64  `cbor:"2,keyasint"` // Unix ms
	Token []byte `cbor:"3,keyasint"` // of the client; empty for KindSweep
	Body  []byte `cbor:"4,keyasint"`
}

// encodeCommand returns the bytes that are proposed.
func encodeCommand(c *Command) []byte { return c.encode() }

// parseCommand reads a command. It fails with [ErrNewer] for a later version,
// whatever follows, and with [ErrMalformed].
func parseCommand(data []byte) (*Command, error) {
	if len(data) == 0 || data[0] == 0 {
		return nil, fmt.Errorf("%w: command without version", ErrMalformed)
	}
	if data[0] > newestCommand {
		return nil, fmt.Errorf("%w: %d, this program knows %d", ErrNewer, data[0], newestCommand)
	}
	var c Command
	if err := decode(data[1:], &c); err != nil {
		return nil, err
	}
	if len(c.Token) > maxToken || c.Time < 0 || c.Time > maxTime {
		return nil, fmt.Errorf("%w: command with token of %d bytes, time %d", ErrMalformed, len(c.Token), c.Time)
	}
	return &c, nil
}

// maxTime is the year 9999 in Unix ms. A command beyond could make sums overflow.
const maxTime = 253402300799000

// outcome is the machine's answer.
type outcome struct {
	Code   Code   `cbor:"1,keyasint"`
	Left   uint8  `cbor:"2,keyasint"`
	Failed uint8  `cbor:"3,keyasint"`
	Last   int64  `cbor:"4,keyasint"` // Unix ms
	Retry  uint32 `cbor:"5,keyasint"` // seconds
	Seq    uint64 `cbor:"6,keyasint"`
}
