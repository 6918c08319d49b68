// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"context"
	"errors"
	"fmt"
	"os"
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
		r := &phases.Renewal{}
		doc = filepath.Join(e.Root, doc)
		s, err := e.state(ctx, doc)
		if err == nil {
			r, err = phases.Renew(ctx, s, before)
		}
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
		if err != nil && ctx.Err() == nil {
			if terr := e.tell(doc, s, err); terr != nil {
				fmt.Fprintln(e.Stderr, "firstboot: telling of the failure: "+e.clean.Text(terr.Error()))
			}
		}
		return err
	},
}

// renewTold is there since a failure was told. It does not outlive the boot.
const renewTold = "/run/imgbuild/renew-failed"

// tell says on the console and to the document's callback that renewing failed: nobody logs in to
// read it. The timer tries every hour; once per boot and once a day is enough to be told. S is nil
// where the document cannot be used, which may have a usable callback all the same.
func (e *Env) tell(document string, s *phases.State, failure error) error {
	mark := filepath.Join(e.Root, renewTold)
	if st, err := os.Stat(mark); err == nil && time.Since(st.ModTime()).Abs() < 24*time.Hour {
		return nil
	}
	rep := &status.Reporter{Console: e.console(), Redactor: &e.clean, Clock: status.SystemClock()}
	name, role := hostname(), "unknown"
	var to node.Callback
	if s == nil {
		to = e.salvage(document)
	} else {
		to, role = s.Node.Callback, string(s.Node.Role)
		if s.Config != nil {
			name = s.Config.NodeName
		}
	}
	var err error
	if rep.Callback, err = callback(to); rep.Callback != nil {
		// There is one event, and nothing waits.
		rep.Callback.Pause, rep.Callback.Flush = 10*time.Second, status.LastFlush
	}
	rep.Complain(name, role, status.BootID(), "renew", failure)
	err = errors.Join(err, rep.Close(), os.MkdirAll(filepath.Dir(mark), 0o755))
	return errors.Join(err, os.WriteFile(mark, nil, 0o644))
}

// state resolves the document against this machine, for verbs that work on a finished node.
func (e *Env) state(ctx context.Context, document string) (*phases.State, error) {
	n, _, err := node.Load(document)
	if err != nil {
		return nil, err
	}
	e.clean.Add(n.Secrets()...)
	log, _ := newLog(e.Stderr, &e.clean)
	s := phases.NewState(n, log, func(string) {})
	s.Root = e.Root
	if e.Host != nil {
		s.Host = e.Host
	}
	if e.RestartUnit != nil {
		s.RestartUnit = e.RestartUnit
	}
	return s, phases.ResolveConfig(ctx, s)
}
