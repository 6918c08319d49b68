// SPDX-License-Identifier: Apache-2.0

// Package verbs is firstboot's command line, a file per verb. It can be called from tests
// with streams and paths of their own.
//
// Exit statuses:
//
//	0    it worked; for status, the node is ready; for check, every check passed
//	1    a phase failed, or something else went wrong; the message says what
//	2    wrong usage
//	3    the node document or Ignition config is absent or invalid
//	4    the node document changed after first boot began
//	5    the node is not ready, or a check failed
//	130  a signal ended the run
package verbs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
	"github.com/imgbuild/imgbuild/firstboot/phases"
	"github.com/imgbuild/imgbuild/firstboot/status"
	"github.com/imgbuild/imgbuild/firstboot/strict"
)

// The exit statuses.
const (
	ExitOK          = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitDocument    = 3
	ExitChanged     = 4
	ExitNotReady    = 5
	ExitInterrupted = 130
)

// Env is what the verbs use of the world.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// clean knows the secrets of the document that was read, if one was.
	clean status.Redactor
	// Root is the directory below which the node's files are.
	Root string
	// Console is the path of the console device; empty uses none.
	Console string
	// Host, StopPods and RestartUnit replace what looks at the machine and what stops and
	// restarts its parts; nil is the real thing.
	Host        func(context.Context, string, *node.Node) (kubeadm.Host, error)
	StopPods    func(context.Context, *phases.State) error
	RestartUnit func(context.Context, string) error
}

// OS returns the real environment.
func OS() *Env {
	return &Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Root: "/", Console: "/dev/console"}
}

// verb is one subcommand.
type verb struct {
	name, args, purpose string
	run                 func(ctx context.Context, e *Env, flags *pflag.FlagSet, args []string) error
	flags               func(*pflag.FlagSet)
}

func verbs() []verb {
	return []verb{runVerb, reportVerb, planVerb, statusVerb, checkVerb, renewVerb, followVerb, resetVerb, cniVerb, nodeVerb, versionVerb}
}

// errUsage marks errors of usage, errNotReady a node or check that is not as it should be.
var (
	errUsage    = errors.New("wrong usage")
	errNotReady = errors.New("not ready")
)

// Main runs one verb and returns the exit status.
func Main(ctx context.Context, e *Env, args []string) int {
	err := dispatch(ctx, e, args)
	if err != nil {
		e.complain(err)
	}
	return ExitCode(err)
}

// ExitCode maps an error to the exit status.
func ExitCode(err error) int {
	var problems strict.Problems
	switch {
	case err == nil, errors.Is(err, pflag.ErrHelp):
		return ExitOK
	case errors.Is(err, errUsage):
		return ExitUsage
	case errors.Is(err, phase.ErrDocumentChanged):
		return ExitChanged
	case errors.As(err, &problems), errors.Is(err, node.ErrAbsent), errors.Is(err, node.ErrIgnition):
		return ExitDocument
	case errors.Is(err, errNotReady):
		return ExitNotReady
	case errors.Is(err, context.Canceled):
		return ExitInterrupted
	}
	return ExitFailed
}

func dispatch(ctx context.Context, e *Env, args []string) error {
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		help(e.Stdout)
		if len(args) == 0 {
			return fmt.Errorf("%w: no verb given", errUsage)
		}
		return nil
	}
	all := verbs()
	i := slices.IndexFunc(all, func(v verb) bool { return v.name == args[0] })
	if i < 0 {
		names := make([]string, len(all))
		for i, v := range all {
			names[i] = v.name
		}
		return fmt.Errorf("%w: unknown verb %q; known: %s", errUsage, args[0], strings.Join(names, ", "))
	}
	v := all[i]
	fs := pflag.NewFlagSet(v.name, pflag.ContinueOnError)
	fs.SetOutput(e.Stdout)
	fs.Usage = func() {
		fmt.Fprintf(e.Stdout, "firstboot %s %s\n\n  %s\n\n%s", v.name, v.args, v.purpose, fs.FlagUsages())
	}
	if v.flags != nil {
		v.flags(fs)
	}
	if err := fs.Parse(args[1:]); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return nil
		}
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	return v.run(ctx, e, fs, fs.Args())
}

func help(w io.Writer) {
	fmt.Fprint(w, "firstboot brings a machine into its Kubernetes cluster\n\n")
	for _, v := range verbs() {
		fmt.Fprintf(w, "  %-36s %s\n", "firstboot "+strings.TrimSpace(v.name+" "+v.args), v.purpose)
	}
}

func noArgs(args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%w: unexpected argument %q", errUsage, args[0])
	}
	return nil
}

// complain prints why a verb failed, without secrets.
func (e *Env) complain(err error) {
	fmt.Fprintln(e.Stderr, "firstboot: "+e.clean.Text(err.Error()))
}
