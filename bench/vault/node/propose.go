package main

import (
	"encoding/json"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fxamacker/cbor/v2"

	"coffer/raftstore"
	"coffer/vault"
)

// proposers answers a POST of commands (a JSON array of byte strings) by
// proposing them all, from as many goroutines as ?n= says, and with what it took.
type proposers struct{ store *raftstore.Store }

// Result is the answer.
type Result struct {
	OK      int64         // committed, and counted as attempts
	Refused int64         // the rest
	Took    time.Duration // from the first to the last
}

func (p *proposers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet { // who leads
		id, _, mine := p.store.Leader()
		json.NewEncoder(w).Encode(map[string]any{"leader": id, "mine": mine})
		return
	}
	var cmds [][]byte
	if err := json.NewDecoder(r.Body).Decode(&cmds); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	const proposers = 128
	var next, ok, refused atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for range proposers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(cmds) {
					return
				}
				answer, err := p.store.Propose(r.Context(), cmds[i])
				var o struct {
					Code vault.Code `cbor:"1,keyasint"`
				}
				if err == nil {
					err = cbor.Unmarshal(answer, &o)
				}
				if err == nil && o.Code == vault.CodeOK {
					ok.Add(1)
				} else {
					refused.Add(1)
				}
			}
		})
	}
	wg.Wait()
	json.NewEncoder(w).Encode(Result{ok.Load(), refused.Load(), time.Since(began)})
}
