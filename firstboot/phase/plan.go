// SPDX-License-Identifier: Apache-2.0

package phase

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
)

// Step is the printable form of a phase.
type Step struct {
	Name     string   `json:"name"`
	Purpose  string   `json:"purpose"`
	Needs    []string `json:"needs"`
	Roles    []string `json:"roles,omitempty"`
	Timeout  string   `json:"timeout"`
	Attempts int      `json:"attempts"`
	OnChange string   `json:"onChange"`
}

// Plan returns the phases of a role as steps, needs first.
func (g *Graph[S]) Plan(role string) []Step {
	var out []Step
	for _, p := range g.For(role) {
		s := Step{Name: p.Name, Purpose: p.Purpose, Needs: p.Needs, Roles: p.Roles, Timeout: p.Timeout.String(), Attempts: max(p.Attempts, 1), OnChange: "refuse"}
		if p.OnChange == Redo {
			s.OnChange = "redo"
		}
		if s.Needs == nil {
			s.Needs = []string{}
		}
		out = append(out, s)
	}
	return out
}

// Table formats steps in columns.
func Table(steps []Step) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PHASE\tNEEDS\tTIMEOUT\tPURPOSE")
	for _, s := range steps {
		needs := strings.Join(s.Needs, ",")
		if needs == "" {
			needs = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", s.Name, needs, s.Timeout, s.Purpose)
	}
	w.Flush()
	return b.String()
}

// DOT formats steps as a Graphviz graph; an arrow points from a need to what needs it.
func DOT(steps []Step) string {
	var b strings.Builder
	b.WriteString("digraph firstboot {\n  rankdir=LR;\n")
	for _, s := range steps {
		fmt.Fprintf(&b, "  %q [tooltip=%q];\n", s.Name, s.Purpose)
		for _, n := range s.Needs {
			fmt.Fprintf(&b, "  %q -> %q;\n", n, s.Name)
		}
	}
	b.WriteString("}\n")
	return b.String()
}

// JSON formats steps as an indented JSON array.
func JSON(steps []Step) string {
	b, err := json.MarshalIndent(steps, "", "  ")
	if err != nil {
		panic(err) // steps hold strings and numbers only
	}
	return string(b) + "\n"
}
