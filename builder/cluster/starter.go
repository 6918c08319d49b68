// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	_ "embed"
	"fmt"
	"regexp"
	"text/template"

	"github.com/imgbuild/imgbuild/builder/fault"
)

//go:embed starter.yaml.tmpl
var starterText string

// StarterOptions say what a starter file is for.
type StarterOptions struct {
	// Name of the cluster, and the beginning of its hosts' names.
	Name                   string
	ControlPlanes, Workers int
}

// Starter returns a commented cluster.yaml to begin with. It passes every check as it is.
func Starter(o StarterOptions) ([]byte, error) {
	const most = 80 // addresses .11 to .90 and .101 to .180
	switch {
	case !regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?$`).MatchString(o.Name):
		return nil, fault.New(fault.Usage, "begin and end with a letter or digit, at most 52 of lower-case letters, digits and dashes", "%q is not a cluster name", o.Name)
	case o.ControlPlanes < 1 || o.ControlPlanes > most:
		return nil, fault.New(fault.Usage, fmt.Sprintf("choose 1 to %d, usually 1 or 3", most), "%d control planes", o.ControlPlanes)
	case o.Workers < 0 || o.Workers > most:
		return nil, fault.New(fault.Usage, fmt.Sprintf("choose 0 to %d; more can be added to the file", most), "%d workers", o.Workers)
	}
	type host struct {
		Name, Role, Address, MAC string
	}
	hosts := func(kind, role string, count, first int) (out []host) {
		for i := range count {
			n := first + i
			out = append(out, host{fmt.Sprintf("%s-%s-%d", o.Name, kind, i+1), role, fmt.Sprintf("192.168.100.%d", n), fmt.Sprintf("52:54:00:64:00:%02x", n)})
		}
		return out
	}
	t := template.Must(template.New("").Parse(starterText))
	var b bytes.Buffer
	err := t.Execute(&b, map[string]any{"Name": o.Name, "Hosts": append(hosts("cp", "control-plane", o.ControlPlanes, 11), hosts("w", "worker", o.Workers, 101)...)})
	return b.Bytes(), err
}
