package config

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/pelletier/go-toml/v2"
)

// Setting is one value that is in force.
type Setting struct {
	Field  string `json:"field"`  // as "source[0].path"
	Value  any    `json:"value"`  // a string, number, bool or list
	Origin string `json:"origin"` // "FILE:LINE", or "default"
}

// Settings lists all values of a coffer.toml, those that it leaves out too.
func Settings(file string) ([]Setting, error) {
	u, err := LoadUser(file)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	places, err := positions(data)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := toml.NewEncoder(&b).Encode(u); err != nil {
		return nil, fmt.Errorf("listing the configuration: %w", err)
	}
	tree := make(map[string]any)
	if err := toml.Unmarshal(b.Bytes(), &tree); err != nil {
		return nil, fmt.Errorf("listing the configuration: %w", err)
	}
	var all []Setting
	flatten("", tree, func(field string, v any) {
		origin := "default"
		if p, ok := places[field]; ok {
			origin = fmt.Sprintf("%s:%d", file, p.line)
		}
		all = append(all, Setting{field, v, origin})
	})
	return all, nil
}

// flatten calls fn for each value of a tree, plain ones before tables, in order.
func flatten(at string, v any, fn func(field string, v any)) {
	switch v := v.(type) {
	case map[string]any:
		nested := func(key string) int {
			switch value := v[key].(type) {
			case map[string]any:
				return 1
			case []any:
				if _, ok := tables(value); ok {
					return 1
				}
			}
			return 0
		}
		keys := slices.SortedFunc(maps.Keys(v), func(a, b string) int {
			return cmp.Or(cmp.Compare(nested(a), nested(b)), cmp.Compare(a, b))
		})
		for _, k := range keys {
			flatten(join(at, k), v[k], fn)
		}
	case []any:
		list, ok := tables(v)
		if !ok {
			fn(at, v)
			return
		}
		for i, t := range list {
			flatten(fmt.Sprintf("%s[%d]", at, i), t, fn)
		}
	default:
		fn(at, v)
	}
}

// tables is the list as one of tables, if it is.
func tables(list []any) (all []map[string]any, ok bool) {
	for _, v := range list {
		t, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		all = append(all, t)
	}
	return all, len(all) > 0
}
