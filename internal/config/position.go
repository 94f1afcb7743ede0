package config

import (
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// textPlace is a place in a text file, counted from 1.
type textPlace struct{ line, column int }

// positions says where each key and table of a TOML file is, by names as
// "gateway.key[0].secret_file". The decoder forgets them, and a fault that only
// the meaning shows (a path that is empty, a name used twice) needs them.
func positions(data []byte) (map[string]textPlace, error) {
	places := make(map[string]textPlace)
	counts := make(map[string]int) // of the array tables seen
	var p unstable.Parser
	p.Reset(data)
	table := ""
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = tableName(&p, e, counts, places)
		case unstable.KeyValue:
			note(&p, e, table, places)
		}
	}
	if err := p.Error(); err != nil {
		return nil, fmt.Errorf("locating keys: %w", err)
	}
	return places, nil
}

// tableName resolves a header as [[a.b]] against the array tables begun so far.
func tableName(p *unstable.Parser, e *unstable.Node, counts map[string]int, places map[string]textPlace) string {
	name := ""
	for it := e.Key(); it.Next(); {
		name = join(name, string(it.Node().Data))
		if e.Kind == unstable.ArrayTable && it.IsLast() {
			counts[name]++
		}
		if n := counts[name]; n > 0 {
			name = fmt.Sprintf("%s[%d]", name, n-1)
		}
		if it.IsLast() {
			places[name] = at(p, it.Node())
		}
	}
	return name
}

// note records a key and, when its value is an inline table or an array, what is inside.
func note(p *unstable.Parser, kv *unstable.Node, table string, places map[string]textPlace) {
	name, place := table, textPlace{}
	for it := kv.Key(); it.Next(); {
		name = join(name, string(it.Node().Data))
		if place.line == 0 {
			place = at(p, it.Node())
		}
	}
	places[name] = place
	noteValue(p, kv.Value(), name, place, places)
}

func noteValue(p *unstable.Parser, v *unstable.Node, name string, place textPlace, places map[string]textPlace) {
	switch v.Kind {
	case unstable.InlineTable:
		for it := v.Children(); it.Next(); {
			note(p, it.Node(), name, places)
		}
	case unstable.Array:
		i := 0
		for it := v.Children(); it.Next(); i++ {
			element := fmt.Sprintf("%s[%d]", name, i)
			places[element] = place
			noteValue(p, it.Node(), element, place, places)
		}
	}
}

func at(p *unstable.Parser, n *unstable.Node) textPlace {
	start := p.Shape(n.Raw).Start
	return textPlace{start.Line, start.Column}
}

func join(table, key string) string { return strings.TrimPrefix(table+"."+key, ".") }
