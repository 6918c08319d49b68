// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/firstboot/host"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
	"github.com/imgbuild/imgbuild/firstboot/phases"
	"github.com/imgbuild/imgbuild/firstboot/status"
)

var runVerb = verb{
	name: "run", purpose: "run the phases of first boot, continuing where an earlier run stopped",
	flags: func(fs *pflag.FlagSet) {
		fs.String("node", node.Path, "node document")
	},
	run: func(ctx context.Context, e *Env, fs *pflag.FlagSet, args []string) error {
		if err := noArgs(args); err != nil {
			return err
		}
		doc, _ := fs.GetString("node")
		return e.run(ctx, filepath.Join(e.Root, doc), nil)
	},
}

// run brings the machine up. Adjust, when not nil, changes the state before the run.
func (e *Env) run(ctx context.Context, document string, adjust func(*phases.State)) (err error) {
	rep := &status.Reporter{
		File: filepath.Join(e.Root, status.Path), Console: e.console(), Redactor: &e.clean, Clock: status.SystemClock(),
	}
	log, tail := newLog(e.Stderr, rep.Redactor)
	n, digest, err := node.Load(document)
	if err != nil {
		return errors.Join(err, e.refuse(ctx, rep, document, err))
	}
	rep.Redactor.Add(n.Secrets()...)
	rep.Log = func() []string { return append(tail.Lines(), unitLog(phases.KubeletUnit)...) }
	graph, err := phases.Graph(n.Timeouts)
	if err != nil {
		return err
	}
	if rep.Callback, err = callback(n.Callback); err != nil {
		return err
	}
	if rep.Callback != nil {
		rep.Callback.Log = log
	}
	// Phase preflight says so if the machine stays unknown.
	_ = host.Recognise(e.Root, n)
	name := n.Node.Name
	if name == "" {
		name = hostname()
	}
	boot := status.BootID()
	rep.Start(name, string(n.Role), boot, imageID(e.Root), graph.Plan(string(n.Role)))
	defer func() {
		rep.End(err)
		if rep.Callback != nil && last(err) {
			rep.Callback.Flush = status.LastFlush
			defer context.AfterFunc(ctx, rep.Callback.Abandon)()
		}
		if cerr := rep.Close(); cerr != nil {
			log.Warn("reporting", "problem", cerr)
		}
	}()

	journal, err := phase.OpenJournal(filepath.Join(e.Root, phase.JournalPath))
	if err != nil {
		return err
	}
	defer journal.Close()
	state := phases.NewState(n, log, rep.Mark)
	state.Root = e.Root
	if adjust != nil {
		adjust(state)
	}
	if err := state.ThawKubelet(); err != nil {
		log.Warn("a kubelet that an earlier run paused stays so", "problem", err)
	}
	runner := &phase.Runner[*phases.State]{
		Graph: graph, Journal: journal, Role: string(n.Role), Document: digest, Boot: boot,
		Observer: observers{rep, logObserver{log}}, Redact: rep.Redactor.Text,
	}
	return runner.Run(ctx, state)
}

// last says that first boot is not started again after a run that ended so. Then nobody waits for
// the process (systemd has what comes after it when it is started, and the kubelet has the node),
// and nobody else tells the callback how it ended. A run that is to be repeated does not wait.
func last(err error) bool {
	return slices.Contains([]int{ExitOK, ExitUsage, ExitDocument, ExitChanged}, ExitCode(err))
}

// refuse says why a document cannot be used, also to the callback if the document has a usable
// one. It returns what went wrong with that.
func (e *Env) refuse(ctx context.Context, rep *status.Reporter, document string, failure error) error {
	var err error
	if rep.Callback, err = callback(e.salvage(document)); rep.Callback != nil {
		// The network may not be up yet, and nothing else is left to do.
		rep.Callback.Flush = 2 * status.LastFlush
		defer context.AfterFunc(ctx, rep.Callback.Abandon)()
	}
	rep.Start(hostname(), "unknown", status.BootID(), imageID(e.Root), nil)
	rep.End(failure)
	return errors.Join(err, rep.Close())
}

// salvage returns the callback of a document that cannot be used; what is secret in it is redacted
// from then on.
func (e *Env) salvage(document string) node.Callback {
	c, secrets := node.Salvage(document)
	e.clean.Add(secrets...)
	return c
}

// callback returns what tells the callback of a document, nil without one.
func callback(c node.Callback) (*status.Callback, error) {
	if c.URL == "" {
		return nil, nil
	}
	return status.NewCallback(c.URL, c.CA, c.Token.Reveal())
}

// console opens the console for writing, or returns nil where there is none.
func (e *Env) console() io.Writer {
	if e.Console == "" {
		return nil
	}
	f, err := os.OpenFile(e.Console, os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return nil
	}
	return f
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}

// imageID returns IMAGE_ID and IMAGE_VERSION from os-release(5).
func imageID(root string) string {
	text, err := os.ReadFile(filepath.Join(root, "/usr/lib/os-release"))
	if err != nil {
		return ""
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(text)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		fields[k] = strings.Trim(v, `"`)
	}
	return strings.TrimSpace(fields["IMAGE_ID"] + " " + fields["IMAGE_VERSION"])
}

// unitLog returns the last lines a unit logged, for the report of a failure.
func unitLog(unit string) []string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "journalctl", "--no-pager", "--quiet", "--output=cat", "--lines=20", "--unit="+unit).Output()
	if err != nil {
		return nil
	}
	var lines []string
	for line := range bytes.Lines(out) {
		lines = append(lines, unit+": "+strings.TrimSpace(string(line)))
	}
	return lines
}

type observers []phase.Observer

func (list observers) Transition(t phase.Transition) {
	for _, o := range list {
		o.Transition(t)
	}
}

// logObserver writes transitions to the log, which the system journal keeps.
type logObserver struct{ log *slog.Logger }

func (l logObserver) Transition(t phase.Transition) {
	attrs := []any{"phase", t.Phase, "state", string(t.State), "took", fmt.Sprintf("%.3fs", t.Took.Seconds())}
	if t.Err != nil {
		attrs = append(attrs, "error", t.Err)
	}
	l.log.Info("phase", attrs...)
}
