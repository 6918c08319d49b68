// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/lock"
)

// Want is what a set of packages is resolved for.
type Want struct {
	// Set names the result in errors: "root/controlplane".
	Set string
	// Packages are wanted by name.
	Packages []string
	// Omit maps packages that dependencies may name but that are left out to the reason.
	Omit map[string]string
}

// Resolve returns the closure of w over Depends and Pre-Depends, dependencies before
// dependents. Recommends are never followed.
//
// The choice is deterministic: the newest version of each package; for alternatives, one
// that is in the set already, else the first that can be had; for a virtual package, a
// provider that is in the set already, else the one of highest priority, then by name.
// Alternatives are decided only after everything that leaves no choice is in the set.
// Everything that cannot be satisfied is reported at once, with who wants it.
func (ix *Index) Resolve(w Want) ([]lock.Package, error) {
	r := &resolution{ix: ix, want: w, set: map[string]*Candidate{}}
	for _, name := range slices.Sorted(slices.Values(w.Packages)) {
		r.wantRoot(name)
	}
	for len(r.queue) > 0 || len(r.open) > 0 {
		if len(r.queue) > 0 {
			c := r.queue[0]
			r.queue = r.queue[1:]
			r.visit(c)
			continue
		}
		g := r.open[0]
		r.open = r.open[1:]
		r.decide(g)
	}
	r.checkConflicts()
	if len(r.problems) > 0 {
		return nil, fault.Wrap(fault.Config, fmt.Errorf("packages of %s cannot be resolved:\n%w", w.Set, errors.Join(r.problems...)),
			"add a package that satisfies the dependency, or leave it out under debian.omit with a reason")
	}
	return r.ordered(), nil
}

// resolution is a closure in the making.
type resolution struct {
	ix       *Index
	want     Want
	set      map[string]*Candidate
	queue    []*Candidate // in the set, dependencies not looked at yet
	open     []group      // dependencies that leave a choice
	problems []error
}

// group is one dependency of a package.
type group struct {
	of   *Candidate
	alts Alternatives
}

func (r *resolution) problem(format string, args ...any) {
	r.problems = append(r.problems, fmt.Errorf("  "+format, args...))
}

func (r *resolution) wantRoot(name string) {
	if reason, ok := r.want.Omit[name]; ok {
		r.problem("%s: is wanted and omitted (%q) at once", name, reason)
		return
	}
	list := r.ix.packages[name]
	if len(list) == 0 {
		if via := r.ix.candidates(Relation{Name: name}); len(via) > 0 {
			r.problem("%s: is a virtual package; name one that provides it, such as %s", name, via[0].Name)
		} else {
			r.problem("%s: no archive has a package of this name for %s", name, r.ix.Architecture)
		}
		return
	}
	r.add(list[0])
}

func (r *resolution) add(c *Candidate) {
	if r.set[c.Name] == nil {
		r.set[c.Name] = c
		r.queue = append(r.queue, c)
	}
}

// visit takes the dependencies of c that leave no choice and postpones the others.
func (r *resolution) visit(c *Candidate) {
	groups, err := dependencies(c)
	if err != nil {
		r.problem("%s %s: %w", c.Name, c.Version, err)
		return
	}
	for _, alts := range groups {
		if len(alts) == 1 && len(r.ix.packages[alts[0].Name]) > 0 {
			r.decide(group{c, alts})
		} else {
			r.open = append(r.open, group{c, alts})
		}
	}
}

func dependencies(c *Candidate) ([]Alternatives, error) {
	pre, err := ParseRelations(c.preDepends)
	if err != nil {
		return nil, fmt.Errorf("field Pre-Depends: %w", err)
	}
	deps, err := ParseRelations(c.depends)
	if err != nil {
		return nil, fmt.Errorf("field Depends: %w", err)
	}
	return append(pre, deps...), nil
}

// decide makes sure one alternative of g is in the set.
func (r *resolution) decide(g group) {
	if r.satisfied(g.alts) {
		return
	}
	for _, rel := range g.alts {
		if _, omitted := r.want.Omit[rel.Name]; omitted {
			return
		}
	}
	left := false
	for _, rel := range g.alts {
		for _, c := range r.ix.candidates(rel) {
			if _, omitted := r.want.Omit[c.Name]; omitted {
				left = true
				continue
			}
			if r.set[c.Name] == nil {
				r.add(c)
				return
			}
		}
	}
	if left { // everything that could satisfy it was left out on purpose
		return
	}
	r.problem("%s %s depends on %s: %s", g.of.Name, g.of.Version, g.alts, r.why(g.alts))
}

// satisfied reports whether the set holds a package that satisfies one alternative.
func (r *resolution) satisfied(alts Alternatives) bool {
	for _, rel := range alts {
		for _, c := range r.ix.candidates(rel) {
			if r.set[c.Name] == c {
				return true
			}
		}
	}
	return false
}

// why says what stands in the way of alternatives that cannot be had.
func (r *resolution) why(alts Alternatives) string {
	for _, rel := range alts {
		if c := r.set[rel.Name]; c != nil {
			return fmt.Sprintf("version %s is in the set", c.Version)
		}
	}
	for _, rel := range alts {
		if list := r.ix.packages[rel.Name]; len(list) > 0 {
			return fmt.Sprintf("the newest version is %s", list[0].Version)
		}
	}
	return "no archive has it"
}

// checkConflicts reports members of the set that declare they cannot be together.
func (r *resolution) checkConflicts() {
	for _, name := range slices.Sorted(maps.Keys(r.set)) {
		c := r.set[name]
		for field, value := range map[string]string{"Conflicts": c.conflicts, "Breaks": c.breaks} {
			groups, err := ParseRelations(value)
			if err != nil {
				r.problem("%s %s: %s: %w", c.Name, c.Version, field, err)
				continue
			}
			for _, alts := range groups {
				for _, other := range r.ix.candidates(alts[0]) {
					// A package may conflict with what it provides itself (policy 7.6.2).
					if other.Name != c.Name && r.set[other.Name] == other {
						r.problem("%s %s and %s %s cannot be together: %s: %s", c.Name, c.Version, other.Name, other.Version, field, alts)
					}
				}
			}
		}
	}
}

// ordered returns the set, dependencies first. Cycles are entered at the name that comes
// first in the alphabet.
func (r *resolution) ordered() []lock.Package {
	var out []lock.Package
	seen := map[string]bool{}
	var visit func(c *Candidate)
	visit = func(c *Candidate) {
		if seen[c.Name] {
			return
		}
		seen[c.Name] = true
		groups, _ := dependencies(c) // parsed before without an error
		for _, alts := range groups {
			for _, rel := range alts {
				for _, d := range r.ix.candidates(rel) {
					if r.set[d.Name] == d {
						visit(d)
					}
				}
			}
		}
		out = append(out, c.Package)
	}
	for _, name := range slices.Sorted(maps.Keys(r.set)) {
		visit(r.set[name])
	}
	return out
}
