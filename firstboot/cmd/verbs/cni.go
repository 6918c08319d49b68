// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phases"
)

var cniVerb = verb{
	name: "cni", purpose: "write the CNI configuration from flannel's subnet file",
	flags: func(fs *pflag.FlagSet) { fs.String("node", node.Path, "node document") },
	run: func(_ context.Context, e *Env, fs *pflag.FlagSet, args []string) error {
		if err := noArgs(args); err != nil {
			return err
		}
		path, _ := fs.GetString("node")
		n, _, err := node.Load(filepath.Join(e.Root, path))
		if err != nil {
			return err
		}
		if n.Network.Provider != node.NetworkFlannel {
			return nil
		}
		changed, err := phases.WriteCNI(e.Root)
		if err == nil && changed {
			fmt.Fprintln(e.Stdout, "the CNI configuration was written")
		}
		return err
	},
}
