// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/imgbuild/imgbuild/builder/timeline"
)

// Report is everything one part of the benchmark found.
type Report struct {
	Part     string    `json:"part"`
	Host     Host      `json:"host"`
	Measures []Measure `json:"measures"`
	// Contributors are the largest origins of bytes in the root file system.
	Contributors []Contributor `json:"contributors,omitempty"`
	// Memory is what the programs of idle machines use, by machine.
	Memory []Machine `json:"memory,omitempty"`
	// Timelines holds the last boot of each kind.
	Timelines map[string]*timeline.Timeline `json:"timelines,omitempty"`
}

// Measure is one quantity, measured once or several times in one run of the benchmark.
type Measure struct {
	Name string `json:"name"`
	// Unit is "s", "bytes" or "ratio".
	Unit string    `json:"unit"`
	Runs []float64 `json:"runs"`
	// Min, Median, P90 and Max are those of Runs. P90 is the smallest run that nine of ten do
	// not exceed.
	Min    float64 `json:"min"`
	Median float64 `json:"median"`
	P90    float64 `json:"p90"`
	Max    float64 `json:"max"`
	// Target is what the median should not exceed; 0 means there is none.
	Target float64 `json:"target,omitempty"`
	Note   string  `json:"note,omitempty"`
}

// Contributor is an origin of bytes: a package, a component, a step.
type Contributor struct {
	Origin string `json:"origin"`
	Size   int64  `json:"size"`
}

// Met says whether a target is reached; it is true without one.
func (m Measure) Met() bool { return m.Target == 0 || m.Median <= m.Target }

// add records a measure that has at least one run.
func (r *Report) add(m Measure) {
	v := slices.Sorted(slices.Values(m.Runs))
	m.Min, m.Median, m.Max = v[0], median(v), v[len(v)-1]
	m.P90 = v[int(math.Ceil(0.9*float64(len(v))))-1]
	r.Measures = append(r.Measures, m)
}

// line keeps a time line.
func (r *Report) line(name string, t *timeline.Timeline) {
	if r.Timelines == nil {
		r.Timelines = map[string]*timeline.Timeline{}
	}
	r.Timelines[name] = t
}

// median of an even number of sorted values is the mean of the two in the middle.
func median(v []float64) float64 { return (v[(len(v)-1)/2] + v[len(v)/2]) / 2 }

// ratios divides run by run, so that what slows both down cancels out.
func ratios(a, b []float64) []float64 {
	out := make([]float64, len(a))
	for i := range a {
		out[i] = a[i] / b[i]
	}
	return out
}

// Write keeps the report as JSON.
func (r *Report) Write(file string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

// Table prints the report for people.
func (r *Report) Table(w io.Writer) error {
	fmt.Fprintf(w, "\n%s: %s, %d cores, Linux %s, load %s, %s\n\n", r.Part, r.Host.CPU, r.Host.Cores, r.Host.Kernel, r.Host.Load, r.Host.Date)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WHAT\tMEDIAN\tTARGET\t\tRUNS")
	for _, m := range r.Measures {
		target, verdict := "", ""
		if m.Target != 0 {
			target = format(m.Target, m.Unit)
			if verdict = "met"; !m.Met() {
				verdict = "MISSED"
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", m.Name, format(m.Median, m.Unit), target, verdict, m.details())
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, m := range r.Memory {
		if err := m.table(w); err != nil {
			return err
		}
	}
	if len(r.Contributors) > 0 {
		fmt.Fprintln(w, "\nLargest contributors to the root file system")
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		for _, c := range r.Contributors {
			fmt.Fprintf(t, "%s\t  %s\t\n", format(float64(c.Size), "bytes"), c.Origin)
		}
		return t.Flush()
	}
	return nil
}

// listed is how many runs are shown one by one; of more, how they are spread.
const listed = 5

// details are the single runs and the note.
func (m Measure) details() string {
	var words []string
	switch n := len(m.Runs); {
	case n > listed:
		words = append(words, fmt.Sprintf("%s to %s, 90 %% within %s, %d runs", format(m.Min, m.Unit), format(m.Max, m.Unit), format(m.P90, m.Unit), n))
	case n > 1:
		for _, v := range m.Runs {
			words = append(words, format(v, m.Unit))
		}
	}
	if m.Note != "" {
		words = append(words, "("+m.Note+")")
	}
	return strings.Join(words, "  ")
}

func format(v float64, unit string) string {
	switch unit {
	case "bytes":
		return fmt.Sprintf("%.1f MB", v/1e6)
	case "ratio":
		return fmt.Sprintf("%.2f x", v)
	}
	return fmt.Sprintf("%.2f %s", v, unit)
}
