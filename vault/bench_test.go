package vault

import (
	"context"
	"testing"
	"time"
)

// BenchmarkMachineAttempt is what one attempt costs each node before any disk or HSM.
func BenchmarkMachineAttempt(b *testing.B) {
	f := newFleet(b, 1, func(m *Manifest) { m.Policy.Budget, m.Policy.Lifetime = 30, 1000 })
	defer f.close()
	c := f.client("anna")
	f.register(c, "right")
	var m Machine
	kv := f.nodes[0].kv.clone()
	a, _, err := loadAccount(kv, c.uid)
	if err != nil {
		b.Fatal(err)
	}
	fresh := kv.clone()
	body := &AttemptBody{UID: c.uid, Epoch: a.Current.Epoch, Element: randomPoint()}
	for i := 0; b.Loop(); i++ {
		body.ID[0], body.ID[1], body.ID[2] = byte(i), byte(i>>8), byte(i>>16)
		out := m.Apply(kv, 1, encodeCommand(&Command{Kind: KindAttempt, Time: time.Now().UnixMilli(), Token: []byte(c.c.Token), Body: encode(body)}))
		var o outcome
		if err := decode(out, &o); err != nil {
			b.Fatal(err)
		}
		if o.Code == CodeDestroyed {
			kv = fresh.clone()
		}
	}
}

// BenchmarkLedgerAppend is a count on disk, alone and with 64 at once.
func BenchmarkLedgerAppend(b *testing.B) {
	for name, parallel := range map[string]int{"alone": 1, "64": 64} {
		b.Run(name, func(b *testing.B) {
			l, err := openLedger(context.Background(), b.TempDir(), FleetID{}, "n1", newSoftHSM(b), newMemoryIndex())
			if err != nil {
				b.Fatal(err)
			}
			defer l.close()
			if parallel == 1 {
				for i := 0; b.Loop(); i++ {
					if err := l.append(context.Background(), testEntry(byte(i))); err != nil {
						b.Fatal(err)
					}
				}
				return
			}
			b.SetParallelism(parallel)
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					if err := l.append(context.Background(), testEntry(byte(i))); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// BenchmarkRecover is a whole recovery from three nodes without network, Argon2 and HSM.
func BenchmarkRecover(b *testing.B) {
	f := newFleet(b, 3, func(m *Manifest) { m.Policy.Lifetime = 1000 })
	defer f.close()
	c := f.client("anna")
	f.register(c, "right")
	for b.Loop() {
		if _, err := c.Recover(context.Background(), "right"); err != nil {
			b.Fatal(err)
		}
	}
}
