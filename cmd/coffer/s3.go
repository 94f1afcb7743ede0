package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"coffer/internal/config"
)

func (a *app) s3Command() *cobra.Command {
	cmd := a.group("s3", "Use the local S3 endpoint")
	var id string
	env := &cobra.Command{
		Use:     "env",
		Short:   "Print what an S3 program needs: endpoint, region and access key",
		Example: "  eval \"$(coffer s3 env)\"; aws s3 ls",
		Args:    atMost(0, "env takes none"),
		RunE:    func(*cobra.Command, []string) error { return a.s3Env(id) },
	}
	env.Flags().StringVar(&id, "key", "", "access key (default the first)")
	cmd.AddCommand(env, a.s3KeyCommand())
	return cmd
}

// s3Access is the answer of "s3 env".
type s3Access struct {
	Endpoint  string `json:"endpoint"`
	Region    string `json:"region"`
	AccessKey string `json:"access_key"`
	SecretKey string `json:"secret_key"`
}

func (a *app) s3Env(id string) error {
	u, err := a.load()
	if err != nil {
		return err
	}
	if u.Gateway.Listen == "" || len(u.Gateway.Keys) == 0 {
		return hint(fmt.Errorf("%s sets up no S3 endpoint with an access key", a.configFile), "add [gateway] with listen, and \"coffer s3 key add\", or set up with --gateway 127.0.0.1:9421")
	}
	i := 0
	if id != "" {
		i = slices.IndexFunc(u.Gateway.Keys, func(k config.GatewayKey) bool { return k.AccessKey == id })
	}
	if i < 0 {
		return hint(usagef("there is no access key %q", id), `"coffer s3 key list" lists them`)
	}
	k := u.Gateway.Keys[i]
	secret, err := readSecret(a.in, k.SecretFile)
	if err != nil {
		return fmt.Errorf("reading the secret key of the S3 endpoint: %w", err)
	}
	scheme := "http://"
	if u.Gateway.TLSCert != "" {
		scheme = "https://"
	}
	e := s3Access{scheme + u.Gateway.Listen, u.Gateway.Region, k.AccessKey, secret}
	if a.json {
		return a.printJSON(e)
	}
	_, err = fmt.Fprintf(a.out, "export AWS_ENDPOINT_URL=%s\nexport AWS_REGION=%s\nexport AWS_ACCESS_KEY_ID=%s\nexport AWS_SECRET_ACCESS_KEY=%s\n",
		e.Endpoint, e.Region, e.AccessKey, e.SecretKey)
	return err
}
