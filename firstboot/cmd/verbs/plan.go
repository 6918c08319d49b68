// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/pflag"

	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
	"github.com/imgbuild/imgbuild/firstboot/phases"
)

var planVerb = verb{
	name: "plan", purpose: "print the phases, what they need and how long they may take",
	flags: func(fs *pflag.FlagSet) {
		fs.String("role", string(node.ControlPlane), "role to plan for: control-plane or worker")
		fs.StringP("output", "o", "table", "form: table, dot or json")
	},
	run: func(_ context.Context, e *Env, fs *pflag.FlagSet, args []string) error {
		if err := noArgs(args); err != nil {
			return err
		}
		role, _ := fs.GetString("role")
		if !slices.Contains([]string{string(node.ControlPlane), string(node.Worker)}, role) {
			return fmt.Errorf("%w: --role %q; allowed: control-plane, worker", errUsage, role)
		}
		output, _ := fs.GetString("output")
		form, ok := map[string]func([]phase.Step) string{"table": phase.Table, "dot": phase.DOT, "json": phase.JSON}[output]
		if !ok {
			return fmt.Errorf("%w: --output %q; allowed: table, dot, json", errUsage, output)
		}
		var n node.Node
		node.SetDefaults(&n)
		graph, err := phases.Graph(n.Timeouts)
		if err != nil {
			return err
		}
		_, err = io.WriteString(e.Stdout, form(graph.Plan(role)))
		return err
	},
}
