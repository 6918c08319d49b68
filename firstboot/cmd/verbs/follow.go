// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"context"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"

	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phases"
)

var followVerb = verb{
	name: "follow", purpose: "keep what carries the endpoint in step with the cluster's control planes",
	flags: func(fs *pflag.FlagSet) {
		fs.Duration("patience", 5*time.Minute, "how long to wait for an API server; a control plane that may not carry the address yet waits longer")
		fs.Duration("pause", 2*time.Second, "between two attempts")
		fs.String("node", node.Path, "node document")
	},
	run: func(ctx context.Context, e *Env, fs *pflag.FlagSet, args []string) error {
		if err := noArgs(args); err != nil {
			return err
		}
		patience, _ := fs.GetDuration("patience")
		pause, _ := fs.GetDuration("pause")
		doc, _ := fs.GetString("node")
		s, err := e.state(ctx, filepath.Join(e.Root, doc))
		if err != nil {
			return err
		}
		return phases.NewFollower(s).Run(ctx, patience, pause)
	},
}
