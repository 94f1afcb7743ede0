package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"coffer/internal/config"
)

func (a *app) s3KeyCommand() *cobra.Command {
	cmd := a.group("key", "Let S3 programs in")
	var buckets []string
	var readOnly bool
	add := &cobra.Command{
		Use: "add [ACCESSKEY]", Short: "Make a key for an S3 program", Example: "  coffer s3 key add photos --bucket 'photos*' --read-only",
		Long: "add makes an access key; its secret is in a file in the state folder, and \"coffer s3 env\" prints it.",
		Args: atMost(1, "s3 key add takes [ACCESSKEY]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.s3KeyAdd(cmd, firstArg(args), buckets, readOnly)
		},
	}
	add.Flags().StringArrayVar(&buckets, "bucket", nil, "bucket it may use, * at the end stands for anything (default all)")
	add.Flags().BoolVar(&readOnly, "read-only", false, "it may not write")
	cmd.AddCommand(add,
		&cobra.Command{
			Use: "list", Short: "List the keys, without their secrets", Args: atMost(0, "s3 key list takes none"),
			RunE: func(*cobra.Command, []string) error { return a.s3KeyList() },
		},
		&cobra.Command{
			Use: "remove ACCESSKEY", Short: "Let a key in no more", Args: exactly(1, "s3 key remove takes ACCESSKEY"),
			RunE: func(cmd *cobra.Command, args []string) error { return a.s3KeyRemove(cmd, args[0]) },
		})
	return cmd
}

func (a *app) s3KeyAdd(cmd *cobra.Command, id string, buckets []string, readOnly bool) error {
	u, err := a.load()
	if err != nil {
		return err
	}
	if id == "" {
		id = "COFFER" + rand.Text()[:14]
	}
	if slices.ContainsFunc(u.Gateway.Keys, func(k config.GatewayKey) bool { return k.AccessKey == id }) {
		return hint(fmt.Errorf("there is an access key %q already", id), `"coffer s3 key list" lists them`)
	}
	k := config.GatewayKey{AccessKey: id, SecretFile: filepath.Join(u.StateDir, "gateway-"+id+".key"), Buckets: buckets}
	if readOnly {
		k.Rights = "read"
	}
	next := *u
	next.Gateway.Keys = append(slices.Clone(u.Gateway.Keys), k)
	if _, err := complete(&next); err != nil { // before its name becomes one of a file
		return err
	}
	if _, err := os.Lstat(k.SecretFile); !errors.Is(err, fs.ErrNotExist) {
		return hint(fmt.Errorf("%s is there already", k.SecretFile), "remove it, or take another access key")
	}
	if err := writeKey(k.SecretFile, rand.Text()+rand.Text()); err != nil {
		return err
	}
	if err := config.Add(a.configFile, &config.User{Gateway: config.Gateway{Keys: []config.GatewayKey{k}}}); err != nil {
		return errors.Join(err, os.Remove(k.SecretFile))
	}
	if a.json {
		err = a.printJSON(s3KeyAdded{id, k.SecretFile})
	} else {
		_, err = fmt.Fprintln(a.out, id)
		a.say(`Its secret is in %s; "coffer s3 env --key %s" prints both.`, k.SecretFile, id)
		if u.Gateway.Listen == "" {
			a.say(`The S3 endpoint has no address yet: put listen = "127.0.0.1:9421" under [gateway], and start the daemon again.`)
		}
	}
	return errors.Join(err, a.applied(cmd.Context(), u))
}

// s3Key is one line of "s3 key list --json".
type s3Key struct {
	AccessKey  string   `json:"access_key"`
	SecretFile string   `json:"secret_file"`
	Buckets    []string `json:"buckets"` // empty: all
	Rights     string   `json:"rights"`
}

func (a *app) s3KeyList() error {
	u, err := a.load()
	if err != nil {
		return err
	}
	list := []s3Key{}
	for _, k := range u.Gateway.Keys {
		list = append(list, s3Key{k.AccessKey, k.SecretFile, append([]string{}, k.Buckets...), k.Rights})
	}
	if a.json {
		return a.printJSON(list)
	}
	t := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	for _, k := range list {
		buckets := strings.Join(k.Buckets, " ")
		if buckets == "" {
			buckets = "all buckets"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", k.AccessKey, k.Rights, buckets)
	}
	return t.Flush()
}

func (a *app) s3KeyRemove(cmd *cobra.Command, id string) error {
	u, err := a.load()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(u.Gateway.Keys, func(k config.GatewayKey) bool { return k.AccessKey == id })
	if i < 0 {
		return hint(usagef("there is no access key %q", id), `"coffer s3 key list" lists them`)
	}
	if err := config.Remove(a.configFile, "gateway.key", i); err != nil {
		return err
	}
	file := u.Gateway.Keys[i].SecretFile
	if filepath.Dir(file) == filepath.Clean(u.StateDir) { // ours
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	a.say("%s is let in no more.", id)
	return a.applied(cmd.Context(), u)
}
