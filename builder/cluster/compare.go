// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/json"
	"slices"

	"github.com/coreos/ignition/v2/config/v3_5/types"

	"github.com/imgbuild/imgbuild/firstboot/ignition"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// compareConfigs names what differs between two Ignition configs: paths and units, never
// their content.
func compareConfigs(old, new []byte) []string {
	a, b := parts(old), parts(new)
	var out []string
	for name, text := range b {
		if was, ok := a[name]; !ok {
			out = append(out, name+" added")
		} else if was != text {
			out = append(out, name+" changed")
		}
	}
	for name := range a {
		if _, ok := b[name]; !ok {
			out = append(out, name+" removed")
		}
	}
	slices.Sort(out)
	return out
}

// parts splits a config into named pieces, each as JSON.
func parts(config []byte) map[string]string {
	var c types.Config
	if json.Unmarshal(config, &c) != nil {
		return nil
	}
	out := map[string]string{}
	put := func(name string, v any) {
		text, _ := json.Marshal(v) // what was decoded can be encoded
		out[name] = string(text)
	}
	for _, f := range c.Storage.Files {
		put(f.Path, f)
	}
	for _, l := range c.Storage.Links {
		put(l.Path, l)
	}
	for _, d := range c.Storage.Directories {
		put(d.Path, d)
	}
	for _, u := range c.Systemd.Units {
		put(u.Name, u)
	}
	for _, u := range c.Passwd.Users {
		put("user "+u.Name, u)
	}
	c.Storage.Files, c.Storage.Links, c.Storage.Directories, c.Systemd.Units, c.Passwd.Users = nil, nil, nil, nil, nil
	put("other settings", c)
	return out
}

// documentIn returns the node document in a config that was rendered, or nil.
func documentIn(config []byte) *node.Node {
	var c types.Config
	if json.Unmarshal(config, &c) != nil {
		return nil
	}
	for _, f := range c.Storage.Files {
		if f.Path != node.Path {
			continue
		}
		text, err := ignition.Data(f.Contents)
		if err != nil {
			return nil
		}
		if n, err := node.Parse(f.Path, text); err == nil {
			return n
		}
	}
	return nil
}
