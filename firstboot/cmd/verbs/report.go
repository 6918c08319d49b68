// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/imgbuild/imgbuild/firstboot/cluster"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/phases"
	"github.com/imgbuild/imgbuild/firstboot/status"
)

var reportVerb = verb{
	name: "report", purpose: "after first boot: wait until the node is Ready and say so; changes nothing",
	flags: func(fs *pflag.FlagSet) { fs.Duration("timeout", 10*time.Minute, "how long to wait") },
	run: func(ctx context.Context, e *Env, fs *pflag.FlagSet, args []string) error {
		if err := noArgs(args); err != nil {
			return err
		}
		timeout, _ := fs.GetDuration("timeout")
		return e.report(ctx, timeout)
	},
}

func (e *Env) report(ctx context.Context, timeout time.Duration) (err error) {
	var done struct{ Node, Role string }
	text, err := os.ReadFile(filepath.Join(e.Root, phases.DoneMarker))
	if err == nil {
		err = json.Unmarshal(text, &done)
	}
	if err != nil {
		return fmt.Errorf("first boot is not complete: %w", err)
	}
	rep := &status.Reporter{File: filepath.Join(e.Root, status.Path), Console: e.console(), Redactor: &status.Redactor{}, Clock: status.SystemClock()}
	rep.Start(done.Node, done.Role, status.BootID(), imageID(e.Root), nil)
	defer func() {
		rep.End(err)
		err = errors.Join(err, rep.Close())
	}()
	// The kubelet's own identity may read its node on every role.
	c, err := cluster.FromFile(filepath.Join(e.Root, kubeadm.Dir, kubeconfig.Kubelet), "")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := c.WaitReadyThisBoot(ctx, done.Node, strings.TrimSpace(status.BootID())); err != nil {
		return fmt.Errorf("%w: %w", errNotReady, err)
	}
	return nil
}
