// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phases"
)

var resetVerb = verb{
	name: "reset", args: "--yes", purpose: "leave the cluster and remove what first boot made",
	flags: func(fs *pflag.FlagSet) {
		fs.Bool("yes", false, "confirm that this node's keys, pods and etcd data are removed")
		fs.Bool("force", false, "go on when this machine's etcd member cannot be removed from the cluster")
		fs.String("node", node.Path, "node document")
	},
	run: func(ctx context.Context, e *Env, fs *pflag.FlagSet, args []string) error {
		if err := noArgs(args); err != nil {
			return err
		}
		yes, _ := fs.GetBool("yes")
		force, _ := fs.GetBool("force")
		doc, _ := fs.GetString("node")
		if !yes {
			return fmt.Errorf("%w: reset removes this node's keys, pods and etcd data; confirm with --yes", errUsage)
		}
		s, err := e.state(ctx, filepath.Join(e.Root, doc))
		if err != nil {
			return err
		}
		if e.StopPods == nil {
			e.StopPods = phases.StopPods
		}
		did, err := phases.Leave(ctx, s)
		if err != nil && !force {
			return fmt.Errorf("%w; --force resets this machine anyway", err)
		}
		if err != nil {
			did = err.Error()
		}
		fmt.Fprintln(e.Stdout, did)
		if err := errors.Join(e.StopPods(ctx, s), phases.Forget(s)); err != nil {
			return err
		}
		_, err = fmt.Fprintf(e.Stdout, "this machine is in no cluster any more; first boot runs again when it starts the next time\nremove its node with: kubectl delete node %s\n", s.Config.NodeName)
		return err
	},
}
