package vault

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// A node's log must not say who was there, nor hold anything that helps to guess;
// a client's must not hold the password or the key.
func TestLogsNameNobody(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.DebugLevel)
		f := newFleet(t, 3)
		defer f.close()
		for _, n := range f.nodes {
			n.log = zap.New(core)
			n.halt()
			n.start()
		}
		c := f.client("anna.canary", func(c *ClientConfig) { c.Log = zap.New(core); c.Timeout = 2 * time.Second })
		const password = "password canary"
		key := f.register(c, password)
		f.wrong(c, "wrong canary")
		f.nodes[1].hsm.lies(true)
		c.Recover(context.Background(), password)
		f.nodes[1].hsm.lies(false)
		f.client("anna.canary", func(c *ClientConfig) { c.Token = "token.canary" }).Recover(context.Background(), password)
		f.forge("anna.canary", func(a *account) { a.Gone = 1 }) // unauthorised
		synctest.Wait()
		f.forge("anna.canary", func(a *account) { *a = account{stored: a.stored} }) // behind the ledger
		c.Recover(context.Background(), password)
		walkFiles(t, f.nodes[0].dir+"/keys", func(p string) { os.Chmod(p, 0); os.Rename(p, p+"x") })
		for _, n := range f.nodes[1:] {
			n.halt()
		}
		time.Sleep(time.Minute)
		_, err := c.Recover(context.Background(), password)
		text := fmt.Sprintf("%v %+v", err, errors.Unwrap(err))
		for _, e := range logs.All() {
			text += "\n" + e.Message + fmt.Sprint(e.ContextMap())
		}
		if logs.Len() < 5 {
			t.Errorf("only %d lines are logged: the test sees nothing", logs.Len())
		}
		secret := map[string][]byte{"uid": c.uid[:], "key": key[:], "account": []byte("anna.canary"), "password": []byte(password),
			"wrong password": []byte("wrong canary"), "token": []byte(c.c.Token), "bad token": []byte("token.canary")}
		for what, b := range secret {
			for _, form := range []string{string(b), hex.EncodeToString(b), base64.StdEncoding.EncodeToString(b), base64.RawURLEncoding.EncodeToString(b), fmt.Sprint(b)} {
				if strings.Contains(text, form) {
					t.Errorf("a log or an error holds the %s", what)
				}
			}
		}
		if strings.Contains(text, "/keys/") {
			t.Error("a log names a key file")
		}
		for _, v := range []any{c.uid, RecordBody{UID: c.uid}} {
			if s := fmt.Sprintf("%v %+v %#v %x %s", v, v, v, v, v); strings.Contains(s, hex.EncodeToString(c.uid[:4])) {
				t.Errorf("%T prints the account's id", v)
			}
		}
	})
}
