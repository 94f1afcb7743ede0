package main

import (
	"cmp"
	"fmt"
	"time"

	"coffer/backup"
	"coffer/internal/config"
	"coffer/internal/human"
	"coffer/upstream"
)

// statistics is what "coffer stats" tells.
type statistics struct {
	backup.Stats
	Requests []upstream.Requests `json:"requests"` // sent to S3 by this machine, by upstream and month
	Costs    []cost              `json:"costs"`    // of the upstreams that have a price
}

// cost is an estimate, by the prices in the configuration.
type cost struct {
	Upstream string  `json:"upstream"`
	Currency string  `json:"currency"`
	Storage  float64 `json:"storage"`  // of a month, for what is stored now
	Requests float64 `json:"requests"` // of this month so far
	Egress   float64 `json:"egress"`   // for what was read this month so far
}

// estimate works out what the upstreams cost that have a price.
func estimate(u *config.User, s backup.Stats, all []upstream.Requests, now time.Time) []cost {
	costs := []cost{}
	for _, up := range u.Upstreams {
		p := up.Price
		if p == (config.Price{Currency: p.Currency}) {
			continue
		}
		const gb = 1e9
		c := cost{Upstream: up.Name, Currency: cmp.Or(p.Currency, "USD"), Storage: float64(s.Stored) / gb * p.Storage}
		for _, r := range all {
			if r.Upstream == up.Name && r.Month == now.UTC().Format("2006-01") {
				c.Requests += float64(r.Write)/1000*p.Write + float64(r.Read)/1000*p.Read
				c.Egress += float64(r.Received) / gb * p.Egress
			}
		}
		costs = append(costs, c)
	}
	return costs
}

// printCosts tells of requests and costs, as far as there are any.
func (a *app) printCosts(s statistics) error {
	for _, r := range s.Requests {
		if _, err := fmt.Fprintf(a.out, "%s, %s: %s that write or list, %s that read, %s that remove; %s sent, %s received\n", printable(r.Upstream), r.Month,
			count(int(r.Write), "request"), count(int(r.Read), "request"), count(int(r.Free), "request"), human.Size(r.Sent), human.Size(r.Received)); err != nil {
			return err
		}
	}
	for _, c := range s.Costs {
		if _, err := fmt.Fprintf(a.out, "%s costs about %.2f %s a month for what is stored, and this month so far %.2f for requests and %.2f for reading\n",
			printable(c.Upstream), c.Storage, printable(c.Currency), c.Requests, c.Egress); err != nil {
			return err
		}
	}
	return nil
}
