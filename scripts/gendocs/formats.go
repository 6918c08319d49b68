// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/builder/cluster"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// nodeFiles hold the types of the node document.
var nodeFiles = []string{"firstboot/node/types.go", "firstboot/node/types_parts.go", "firstboot/node/enums.go"}

func nodePage(root string) (string, error) {
	s, err := parse(root, "yaml", nodeFiles...)
	if err != nil {
		return "", err
	}
	s.defaults = nodeDefaults()
	var b strings.Builder
	fmt.Fprintf(&b, "# Node document\n\n"+notice, "firstboot/node")
	fmt.Fprintf(&b, "The node document is the file `%s` that Ignition writes on a host. It has `apiVersion: %s` and\n"+
		"`kind: %s`. Keys that are not listed here are errors; every problem is reported at once with file, line and\n"+
		"column. Durations are written as Go writes them: `90s`, `5m`, `8760h`. Secret text appears in no log, status or error.\n\n",
		node.Path, node.APIVersion, node.Kind)
	if err := s.structs(&b); err != nil {
		return "", err
	}
	return b.String(), nil
}

// clusterPage describes cluster.yaml. What it shares with the node document is described
// there.
func clusterPage(root string) (string, error) {
	s, err := parse(root, "yaml", "builder/cluster/types.go", "builder/cluster/types_network.go")
	if err != nil {
		return "", err
	}
	nodes, err := parse(root, "yaml", nodeFiles...)
	if err != nil {
		return "", err
	}
	s.external = map[string]string{"Duration": "duration"}
	for name := range nodes.docs {
		if values := nodes.values[name]; values != nil {
			s.external[name] = "`" + strings.Join(values, "`, `") + "`"
		} else if s.external[name] == "" {
			s.external[name] = "[" + name + "](node.md#" + strings.ToLower(name) + ")"
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# cluster.yaml\n\n"+notice, "builder/cluster")
	fmt.Fprintf(&b, "`imgbuild cluster render` turns this file into a config for every host: [how](../cluster.md). It has `apiVersion: %s` and\n"+
		"`kind: %s`. Keys that are not listed here are errors; every problem is reported at once with file, line and column.\n"+
		"Durations are written as Go writes them: `90s`, `5m`, `8760h`.\n\n", cluster.APIVersion, cluster.Kind)
	if err := s.structs(&b); err != nil {
		return "", err
	}
	return b.String(), nil
}

// nodeDefaults asks SetDefaults what it fills in, without and with a virtual address.
func nodeDefaults() map[string]string {
	collect := func(n *node.Node) map[string]string {
		n.BootstrapTokens = []node.BootstrapToken{{}}
		node.SetDefaults(n)
		found := map[string]string{}
		values(found, reflect.ValueOf(n))
		return found
	}
	plain := collect(&node.Node{})
	vip := collect(&node.Node{VIP: node.VIP{Provider: node.VIPKeepalived}})
	delete(vip, "VIP.provider")
	for key, value := range vip {
		switch old, ok := plain[key]; {
		case !ok:
			plain[key] = value + " with a `vip`"
		case old != value:
			plain[key] = old + ", " + value + " with a `vip`"
		}
	}
	return plain
}

// values records what is not zero below v, by type and key.
func values(found map[string]string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			values(found, v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			values(found, v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Field(i)
			key, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
			if field.Kind() == reflect.Pointer && !field.IsNil() {
				field = field.Elem()
			}
			switch {
			case field.Kind() == reflect.Struct || field.Kind() == reflect.Slice:
				values(found, field)
			case !field.IsZero():
				found[v.Type().Name()+"."+key] = "`" + plainValue(field.Interface()) + "`"
			}
		}
	}
}

// plainValue writes durations without the units that are zero.
func plainValue(v any) string {
	d, ok := v.(node.Duration)
	if !ok {
		return fmt.Sprint(v)
	}
	text := time.Duration(d).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func componentPage(root string) (string, error) {
	const file = "builder/source/gomod/component.go"
	s, err := parse(root, "yaml", file)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# Component reference\n\n"+notice, file)
	b.WriteString("A component is a directory `assets/components/<name>/`: a small Go module whose `go.mod` and `go.sum` pin upstream,\n" +
		"and a `component.yaml` with the keys below. Keys that are not listed here are errors. [How to add one](../components.md).\n\n")
	if err := s.structs(&b); err != nil {
		return "", err
	}
	return b.String(), nil
}

func statusPage(root string) (string, error) {
	const file = "firstboot/status/status.go"
	s, err := parse(root, "json", file)
	if err != nil {
		return "", err
	}
	s.external = map[string]string{"Time": "RFC 3339 time", "State": "`running`, `retrying`, `ok`, `checked`, `failed`, `cancelled`, or `waiting`"}
	doc, err := packageDoc("firstboot/status", "status.go")
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# First-boot status\n\n"+notice, file)
	b.WriteString(strings.TrimSpace(markdown(strings.Replace(doc, "Package status", "firstboot", 1))) + "\n\n")
	b.WriteString("The callback of the [node document](node.md#callback) receives an [Event](#event) as JSON for every transition.\n\n")
	if err := s.structs(&b); err != nil {
		return "", err
	}
	return b.String(), nil
}

// markdown turns a Go doc comment into Markdown: headings and preformatted blocks.
func markdown(doc string) string {
	var b strings.Builder
	inside := false
	for line := range strings.SplitSeq(doc, "\n") {
		code := strings.HasPrefix(line, "\t")
		switch {
		case code && !inside:
			b.WriteString("```text\n")
		case !code && inside && line != "":
			b.WriteString("```\n\n")
		case strings.HasPrefix(line, "# "):
			line = "#" + line
		}
		if line == "" && inside {
			continue
		}
		inside = code
		b.WriteString(strings.TrimPrefix(line, "\t") + "\n")
	}
	if inside {
		b.WriteString("```\n")
	}
	return b.String()
}
