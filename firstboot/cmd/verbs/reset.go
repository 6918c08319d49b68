// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

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
		return e.reset(ctx, s, force)
	},
}

// reset goes on to the next step only when the one before it is done: what is removed must not
// be in use. Until the machine has left its cluster, nothing has changed.
func (e *Env) reset(ctx context.Context, s *phases.State, force bool) error {
	if e.StopPods == nil {
		e.StopPods = phases.StopPods
	}
	if err := phases.StopFirstBoot(ctx, s); err != nil {
		return err
	}
	left, err := phases.Leave(ctx, s)
	switch {
	case err != nil && (!force || ctx.Err() != nil):
		return errors.Join(fmt.Errorf("%w; --force resets this machine anyway", err), phases.StartFirstBoot(ctx, s))
	case err != nil:
		left = &phases.Left{Did: err.Error()}
	}
	fmt.Fprintln(e.Stdout, left.Did)
	if err := e.StopPods(ctx, s); err != nil {
		return fmt.Errorf("%w; nothing was removed from the disk: run firstboot reset again", err)
	}
	if err := phases.Forget(s); err != nil {
		return fmt.Errorf("%w; run firstboot reset again", err)
	}
	_, err = fmt.Fprintf(e.Stdout, "this machine is in no cluster any more; %s\nremove its node with: kubectl delete node %s\n", nextStart(left.Unlisted), s.Config.NodeName)
	return err
}

// nextStart says what the machine will do without its files. A document that does not list the
// members of the cluster may lead to a second one.
func nextStart(unlisted []string) string {
	if len(unlisted) == 0 {
		return "first boot runs again when it starts the next time"
	}
	return fmt.Sprintf("it must not start again with its node document, which does not list %s and may begin a second cluster: wipe its disk, and boot it with a config rendered anew (imgbuild cluster render)", strings.Join(unlisted, ", "))
}
