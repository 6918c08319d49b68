// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"github.com/imgbuild/imgbuild/firstboot/node"
)

var nodeVerb = verb{
	name: "node", args: "validate FILE | validate --from-ignition FILE", purpose: "validate a node document, or the one in an Ignition config",
	flags: func(fs *pflag.FlagSet) {
		fs.Bool("from-ignition", false, "FILE is an Ignition config that holds the document")
	},
	run: func(_ context.Context, e *Env, fs *pflag.FlagSet, args []string) error {
		if len(args) != 2 || args[0] != "validate" {
			return fmt.Errorf("%w: firstboot node %s", errUsage, "validate [--from-ignition] FILE")
		}
		data, err := os.ReadFile(args[1])
		if err != nil {
			return err
		}
		name := args[1]
		if ign, _ := fs.GetBool("from-ignition"); ign {
			if data, err = node.FromIgnition(args[1], data); err != nil {
				return err
			}
			name += ":" + node.Path
		}
		n, err := node.Parse(name, data)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(e.Stdout, "%s: a valid %s document\n", name, n.Role)
		return err
	},
}
