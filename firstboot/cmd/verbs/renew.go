// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phases"
	"github.com/imgbuild/imgbuild/firstboot/status"
)

// renewBefore is a third of a year, the leaves' usual life: eight months in, a timer that
// fails has four months left to be noticed.
const renewBefore = 120 * 24 * time.Hour

var renewVerb = verb{
	name: "renew", purpose: "make certificates again that expire soon, and keep tokens usable if the document says so",
	flags: func(fs *pflag.FlagSet) {
		fs.Duration("before", renewBefore, "renew what expires within this time; at most two thirds of a certificate's life")
		fs.String("node", node.Path, "node document")
	},
	run: func(ctx context.Context, e *Env, fs *pflag.FlagSet, args []string) error {
		if err := noArgs(args); err != nil {
			return err
		}
		before, _ := fs.GetDuration("before")
		doc, _ := fs.GetString("node")
		s, err := e.state(ctx, filepath.Join(e.Root, doc))
		if err != nil {
			return err
		}
		r, err := phases.Renew(ctx, s, before)
		for _, part := range []struct {
			what string
			list []string
		}{{"certificates renewed", r.Certificates}, {"kubeconfigs renewed", r.Kubeconfigs}, {"components restarted", r.Restarted}, {"tokens extended", r.Tokens}} {
			if len(part.list) > 0 {
				fmt.Fprintf(e.Stdout, "%s: %s\n", part.what, strings.Join(part.list, ", "))
			}
		}
		if err == nil && len(r.Certificates)+len(r.Kubeconfigs) == 0 {
			fmt.Fprintln(e.Stdout, "no certificate is due")
		}
		return err
	},
}

// state resolves the document against this machine, for verbs that work on a finished node.
func (e *Env) state(ctx context.Context, document string) (*phases.State, error) {
	n, _, err := node.Load(document)
	if err != nil {
		return nil, err
	}
	clean := &status.Redactor{}
	clean.Add(n.Secrets()...)
	log, _ := newLog(e.Stderr, clean)
	s := phases.NewState(n, log, func(string) {})
	s.Root = e.Root
	if e.Host != nil {
		s.Host = e.Host
	}
	return s, phases.ResolveConfig(ctx, s)
}
