package vault

import (
	"crypto/sha256"
	"fmt"
)

// version is that of all messages, commands, records and ledger entries.
const version = 1

const (
	answerSize = 4096    // of every answer, whatever it says
	maxRequest = 8 << 10 // of a request's encoding
	maxToken   = 3 << 10 // of an account token
)

// Kind says what a request asks for, and a command does.
type Kind uint8

const (
	KindRecord  Kind = 1  // what is stored for the account
	KindStart   Kind = 2  // stage an epoch: to the leader
	KindKey     Kind = 3  // make this node's key for the staged epoch
	KindCommit  Kind = 4  // make the staged epoch the account's: to the leader
	KindReceipt Kind = 5  // does this node's ledger hold the epoch
	KindAttempt Kind = 6  // count a guess: to the leader
	KindEval    Kind = 7  // evaluate the counted guess
	KindProve   Kind = 8  // the guess was right: to the leader
	KindDisable Kind = 9  // destroy the key: to the leader
	KindSweep   Kind = 10 // command only: what is due by time
	KindHead    Kind = 11 // between nodes: where your ledger is, and where you saw mine
	KindState   Kind = 12 // between nodes: what your state is
)

// Code says how a request ended.
type Code uint8

const (
	CodeOK         Code = 0
	CodeDenied     Code = 1  // the token is not accepted for this account
	CodeNotLeader  Code = 2  // ask the node Answer.Leader
	CodeRetry      Code = 3  // ask again later: no majority, not applied yet, HSM busy; the outcome may be unknown
	CodeMalformed  Code = 4  // no node will ever accept this
	CodeNone       Code = 5  // not registered
	CodeDestroyed  Code = 6  // no attempt is left, or disabled
	CodeWait       Code = 7  // too soon; Answer.Retry seconds
	CodeConflict   Code = 8  // the id or epoch is in use with other content
	CodeSignature  Code = 9  // a signature does not verify
	CodeStale      Code = 10 // the epoch or attempt is not the current one
	CodeWorn       Code = 11 // the epoch's attempts are used up for its life
	CodeManifest   Code = 12 // the node follows another manifest
	CodeLimited    Code = 13 // too many requests; Answer.Retry seconds
	CodeRegression Code = 14 // this node's state is behind its ledger: it refuses
	CodeHalted     Code = 15 // this node must be upgraded
	codeLast            = CodeHalted
)

// Request is what a client sends, encoded, in an HTTP POST to Path.
type Request struct {
	Version  uint8    `cbor:"1,keyasint"`
	Kind     Kind     `cbor:"2,keyasint"`
	Nonce    [16]byte `cbor:"3,keyasint"` // random: no answer fits two requests
	Manifest [32]byte `cbor:"4,keyasint"` // hash of the manifest that the client follows
	Token    []byte   `cbor:"5,keyasint"` // account token, may be empty in mode "open"
	Body     []byte   `cbor:"6,keyasint"` // encoding of the Kind's body, below
}

// Path is where a node takes requests, ManifestPath where it shows its manifest.
const (
	Path         = "/vault/1"
	ManifestPath = "/vault/1/manifest"
)

type (
	// RecordBody asks for an account's record.
	RecordBody struct {
		UID UID `cbor:"1,keyasint"`
	}
	// StartBody stages an epoch; KeyBody asks a node for its key in it.
	StartBody struct {
		UID     UID      `cbor:"1,keyasint"`
		Epoch   Epoch    `cbor:"2,keyasint"`
		Element [33]byte `cbor:"3,keyasint"`
	}
	KeyBody StartBody
	// CommitBody makes the staged epoch current. Old is empty, or the signature
	// by the key of the epoch before: the client knew the password or recovered.
	CommitBody struct {
		UID    UID      `cbor:"1,keyasint"`
		Record []byte   `cbor:"2,keyasint"`
		Sig    [64]byte `cbor:"3,keyasint"`
		Old    []byte   `cbor:"4,keyasint"`
	}
	// ReceiptBody asks whether a node's ledger holds the record with this hash.
	ReceiptBody struct {
		UID   UID      `cbor:"1,keyasint"`
		Epoch Epoch    `cbor:"2,keyasint"`
		Hash  [32]byte `cbor:"3,keyasint"`
	}
	// AttemptBody counts a guess; EvalBody asks a node to evaluate it.
	AttemptBody struct {
		UID     UID       `cbor:"1,keyasint"`
		Epoch   Epoch     `cbor:"2,keyasint"`
		ID      AttemptID `cbor:"3,keyasint"`
		Element [33]byte  `cbor:"4,keyasint"`
	}
	EvalBody AttemptBody
	// ProveBody says that the guess with this number was right.
	ProveBody struct {
		UID   UID       `cbor:"1,keyasint"`
		Epoch Epoch     `cbor:"2,keyasint"`
		ID    AttemptID `cbor:"3,keyasint"`
		Seq   uint64    `cbor:"4,keyasint"`
		Sig   [64]byte  `cbor:"5,keyasint"`
	}
	// DisableBody destroys the key: at once when signed by the epoch's key, with
	// an empty Sig after a delay, in which a proof takes it back.
	DisableBody struct {
		UID   UID    `cbor:"1,keyasint"`
		Epoch Epoch  `cbor:"2,keyasint"`
		Sig   []byte `cbor:"3,keyasint"`
	}
	// HeadBody asks a node for its ledger's head, which every answer has, and for
	// the newest answer to such a request that it has from Node, unless that is "".
	HeadBody struct {
		Node string `cbor:"1,keyasint"`
	}
)

// NodeState is what a node answers to KindState, in Answer.Record. Two nodes that have
// applied as much have the same chain, or one of them is not what it should be.
type NodeState struct {
	Applied     uint64   `cbor:"1,keyasint"` // entries of the log
	Chain       [32]byte `cbor:"2,keyasint"` // over all of them and what they wrote
	Regressions uint64   `cbor:"3,keyasint"` // times the state was behind the ledger, since the start
}

// Answer is what a node says, signed. What does not apply is zero.
type Answer struct {
	Version  uint8     `cbor:"1,keyasint"`
	Node     string    `cbor:"2,keyasint"`
	Manifest [32]byte  `cbor:"3,keyasint"` // hash of the manifest that the node follows
	Request  [32]byte  `cbor:"4,keyasint"` // SHA-256 of the request
	Code     Code      `cbor:"5,keyasint"`
	Leader   string    `cbor:"6,keyasint"`
	Retry    uint32    `cbor:"7,keyasint"`  // seconds
	Left     uint8     `cbor:"8,keyasint"`  // attempts left
	Failed   uint8     `cbor:"9,keyasint"`  // unproved attempts since the last success
	Last     uint64    `cbor:"10,keyasint"` // Unix ms of the last unproved attempt
	Disable  uint64    `cbor:"11,keyasint"` // Unix ms since when an unsigned disable is pending
	UID      UID       `cbor:"12,keyasint"`
	Epoch    Epoch     `cbor:"13,keyasint"`
	ID       AttemptID `cbor:"14,keyasint"`
	Seq      uint64    `cbor:"15,keyasint"` // number of the attempt, over all epochs
	Element  [33]byte  `cbor:"16,keyasint"`
	Result   [33]byte  `cbor:"17,keyasint"` // the element under this node's key
	Public   [33]byte  `cbor:"18,keyasint"` // this node's key times the generator
	Record   []byte    `cbor:"19,keyasint"`
	Former   []byte    `cbor:"20,keyasint"` // the record of the epoch before, while it lives
	Head     [40]byte  `cbor:"21,keyasint"` // of this node's ledger: length, big-endian, and hash
	Used     uint32    `cbor:"22,keyasint"` // attempts in the current epoch's life, proved or not
}

// signed is an answer on the wire, followed by zeros up to answerSize.
type signed struct {
	Answer []byte   `cbor:"1,keyasint"`
	Sig    [64]byte `cbor:"2,keyasint"` // by the node's identity key over answerDigest
}

func answerDigest(answer []byte) [32]byte {
	return sha256.Sum256(append([]byte("coffer vault 1 answer"), answer...))
}

// parseRequest reads a request's envelope.
func parseRequest(data []byte) (*Request, error) {
	if len(data) > maxRequest {
		return nil, fmt.Errorf("%w: request of %d bytes", ErrMalformed, len(data))
	}
	var r Request
	if err := r.decode(data); err != nil {
		return nil, err
	}
	if r.Version != version || r.Kind < KindRecord || r.Kind > KindState || r.Kind == KindSweep || len(r.Token) > maxToken {
		return nil, fmt.Errorf("%w: request version %d, kind %d", ErrMalformed, r.Version, r.Kind)
	}
	return &r, nil
}

// parseBody reads the body of a request or command of any kind. It
// returns a pointer to the body, and the account it is about.
func parseBody(kind Kind, data []byte) (body any, uid UID, err error) {
	switch kind {
	case KindRecord, KindSweep:
		b := new(RecordBody)
		err = decode(data, b)
		return b, b.UID, err
	case KindStart:
		b := new(StartBody)
		err = decode(data, b)
		return b, b.UID, err
	case KindKey:
		b := new(KeyBody)
		err = decode(data, b)
		return b, b.UID, err
	case KindCommit:
		b := new(CommitBody)
		err = decode(data, b)
		return b, b.UID, err
	case KindReceipt:
		b := new(ReceiptBody)
		err = decode(data, b)
		return b, b.UID, err
	case KindAttempt:
		if b, ok := parseAttemptBody(data); ok {
			return b, b.UID, nil
		}
		b := new(AttemptBody)
		err = decode(data, b)
		return b, b.UID, err
	case KindEval:
		b := new(EvalBody)
		err = decode(data, b)
		return b, b.UID, err
	case KindProve:
		b := new(ProveBody)
		err = decode(data, b)
		return b, b.UID, err
	case KindHead, KindState:
		b := new(HeadBody)
		return b, UID{}, decode(data, b)
	case KindDisable:
		b := new(DisableBody)
		err = decode(data, b)
		return b, b.UID, err
	}
	return nil, UID{}, fmt.Errorf("%w: unknown kind %d", ErrMalformed, kind)
}
