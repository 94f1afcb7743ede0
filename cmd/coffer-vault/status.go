package main

import (
	"fmt"
	"net/http"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Ask the node that runs how it and its group are", Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.load()
			if err != nil {
				return err
			}
			var st nodeStatus
			if err := ask(cmd.Context(), c, http.MethodGet, "/status", nil, &st); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(st)
			}
			return a.printStatus(st)
		},
	}
}

func (a *app) printStatus(st nodeStatus) error {
	ready := "ready"
	if !st.Ready {
		ready = "not ready: " + st.Reason
	}
	leader := st.Leader
	if leader == "" {
		leader = "unknown"
	}
	fmt.Fprintf(a.out, "node %s: %s, %s\n", st.Node, st.Raft.State, ready)
	fmt.Fprintf(a.out, "leader %s, term %d; entry %d of %d applied; ledger %d entries, %d regressions\n",
		leader, st.Raft.Term, st.Raft.Applied, st.Raft.Commit, st.Ledger, st.Regress)
	w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tADDRESS\tVOTES\tHOLDS")
	for _, m := range st.Raft.Members {
		votes, holds := "no", "?"
		if m.Voter {
			votes = "yes"
		}
		if m.Acked > 0 {
			holds = fmt.Sprint(m.Acked)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", m.ID, m.Addr, votes, holds)
	}
	return w.Flush()
}
