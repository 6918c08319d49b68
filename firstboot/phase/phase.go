// SPDX-License-Identifier: Apache-2.0

// Package phase describes first boot as a graph of small named steps and runs it: ready
// phases in parallel, each one journaled before and after, so that a run that was cut off
// anywhere continues where it stood.
//
// A phase is data. The plan that firstboot prints, the console lines, the status file and
// the journal all derive from it.
package phase

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Change says what a changed node document means for a phase that ran under another one.
// The zero value is invalid.
type Change int

// The answers.
const (
	// Refuse: what the phase made depends on the document and is not safe to make again
	// (keys, cluster state). The run stops before anything happens.
	Refuse Change = iota + 1
	// Redo: the phase writes the same kind of thing again from the new document.
	Redo
)

// Phase is one step. S is the state every phase of a graph works on.
type Phase[S any] struct {
	// Name is kubeadm's where kubeadm has the step: lower case, digits and dashes.
	Name string
	// Purpose says in one line, without a full stop, what is true afterwards.
	Purpose string
	// Needs names the phases that must be done first. Those that do not apply to the
	// role of a run count as done.
	Needs []string
	// Roles limits the phase to these roles; empty means every role.
	Roles []string
	// Check returns nil when the outcome is already there. It is asked on a rerun, of
	// phases that have been started before. It must be quick and change
	// nothing. A nil Check means that the outcome does not outlive the run, or cannot be
	// seen: such a phase runs every time.
	Check func(context.Context, S) error
	// Run makes the outcome true. It is idempotent: a cut at any moment of an earlier run
	// may have left any part of its work behind.
	Run func(context.Context, S) error
	// Timeout bounds one attempt and must be positive.
	Timeout time.Duration
	// Attempts is how often Run is tried; 0 means once. Pause is slept between attempts.
	Attempts int
	Pause    time.Duration
	// OnChange says what a changed node document means.
	OnChange Change
}

// ErrPermanent marks a failure that trying again cannot cure.
var ErrPermanent = errors.New("trying again will not help")

// Permanent marks err so that the phase is not tried again in this run.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanent{err}
}

type permanent struct{ error }

func (p permanent) Unwrap() error        { return p.error }
func (p permanent) Is(target error) bool { return target == ErrPermanent }

// Graph is a validated set of phases.
type Graph[S any] struct {
	phases []Phase[S] // every need stands before the phase that needs it
	index  map[string]int
}

// New validates phases and puts them into an order in which every need comes first, and
// otherwise the given one. Every problem is reported at once.
func New[S any](phases ...Phase[S]) (*Graph[S], error) {
	var errs []error
	bad := func(name, format string, args ...any) {
		errs = append(errs, fmt.Errorf("phase %q: "+format, append([]any{name}, args...)...))
	}
	given := map[string]Phase[S]{}
	for _, p := range phases {
		if _, dup := given[p.Name]; dup {
			bad(p.Name, "is defined twice")
		}
		given[p.Name] = p
		switch {
		case !validName(p.Name):
			bad(p.Name, "name is not lower-case letters, digits and dashes")
		case p.Purpose == "":
			bad(p.Name, "has no purpose")
		case p.Run == nil:
			bad(p.Name, "has nothing to run")
		case p.Timeout <= 0:
			bad(p.Name, "has no timeout")
		case p.OnChange != Refuse && p.OnChange != Redo:
			bad(p.Name, "does not say what a changed node document means")
		}
	}
	for _, p := range phases {
		for _, need := range p.Needs {
			if _, ok := given[need]; !ok {
				bad(p.Name, "needs %q, which does not exist", need)
			}
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	g := &Graph[S]{index: map[string]int{}}
	if cycle := g.sort(phases, given); cycle != nil {
		return nil, fmt.Errorf("phases need each other in a circle: %s", strings.Join(cycle, " -> "))
	}
	return g, nil
}

// sort fills g.phases depth first; it returns a cycle when there is one.
func (g *Graph[S]) sort(phases []Phase[S], given map[string]Phase[S]) []string {
	var path []string
	var visit func(name string) []string
	visit = func(name string) []string {
		if _, done := g.index[name]; done {
			return nil
		}
		if i := slices.Index(path, name); i >= 0 {
			return append(slices.Clone(path[i:]), name)
		}
		path = append(path, name)
		for _, need := range given[name].Needs {
			if cycle := visit(need); cycle != nil {
				return cycle
			}
		}
		path = path[:len(path)-1]
		g.index[name] = len(g.phases)
		g.phases = append(g.phases, given[name])
		return nil
	}
	for _, p := range phases {
		if cycle := visit(p.Name); cycle != nil {
			return cycle
		}
	}
	return nil
}

// For returns the phases that apply to a role, needs first, with Needs reduced to
// phases that apply; an empty role returns all.
func (g *Graph[S]) For(role string) []Phase[S] {
	applies := func(p Phase[S]) bool {
		return role == "" || len(p.Roles) == 0 || slices.Contains(p.Roles, role)
	}
	var out []Phase[S]
	for _, p := range g.phases {
		if !applies(p) {
			continue
		}
		p.Needs = slices.DeleteFunc(slices.Clone(p.Needs), func(n string) bool {
			return !applies(g.phases[g.index[n]])
		})
		out = append(out, p)
	}
	return out
}

func validName(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}
