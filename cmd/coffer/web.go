package main

import (
	"context"
	"fmt"
	"html"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"coffer/daemon"
	"coffer/internal/durable"
)

// webName is the name in the links of the daemon; not every system knows that
// names below "localhost" are this machine.
const webName = "//coffer.localhost:"

func (a *app) webCommand() *cobra.Command {
	var print, numeric bool
	cmd := &cobra.Command{
		Use:   "web",
		Short: "Open the local page of the daemon",
		Long: "web prints a link to the local page of cofferd and opens it in a browser when there is a screen.\n" +
			"The link works once, within five minutes: do not show it to others. Through a tunnel, use the\n" +
			"same port on both sides, as in ssh -L 9921:127.0.0.1:9921.",
		Args: atMost(0, "web takes flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.web(cmd.Context(), print, numeric) },
	}
	cmd.Flags().BoolVar(&print, "print", false, "only print the link")
	cmd.Flags().BoolVar(&numeric, "numeric", false, "127.0.0.1 in the link, for a browser that does not find coffer.localhost")
	return cmd
}

func (a *app) web(ctx context.Context, print, numeric bool) error {
	u, err := a.load()
	if err != nil {
		return err
	}
	url, err := daemon.NewClient(u.Control).LoginURL(ctx)
	if err != nil {
		return err
	}
	if numeric {
		url = strings.Replace(url, webName, "//127.0.0.1:", 1)
	}
	if a.json {
		return a.printJSON(pageLink{url})
	}
	if _, err := fmt.Fprintln(a.out, url); err != nil {
		return err
	}
	if print || !isTerminal(a.out) || os.Getenv("DISPLAY") == "" && os.Getenv("WAYLAND_DISPLAY") == "" {
		return nil
	}
	if err := openBrowser(ctx, u.CacheDir, url); err != nil {
		a.say("no browser could be started: open the link yourself")
	}
	return nil
}

// openBrowser has the browser opened at a file that leads on to url: others see
// what is in argv, but not what is in the file.
func openBrowser(ctx context.Context, dir, url string) error {
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	file := filepath.Join(dir, "login.html")
	text := `<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=` + html.EscapeString(url) + `"><title>coffer</title>`
	if err := durable.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	return exec.CommandContext(ctx, "xdg-open", file).Run()
}
