// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Measure is one quantity, measured once or several times in one run of the benchmark.
type Measure struct {
	Name string `json:"name"`
	// Unit is "s", "bytes" or "ratio".
	Unit string    `json:"unit"`
	Runs []float64 `json:"runs"`
	// Median is that of Runs.
	Median float64 `json:"median"`
	// Target is what the median should not exceed; 0 means there is none.
	Target float64 `json:"target,omitempty"`
	Note   string  `json:"note,omitempty"`
}

// Met says whether a target is reached; it is true without one.
func (m Measure) Met() bool { return m.Target == 0 || m.Median <= m.Target }

// Report is everything one run of the benchmark found.
type Report struct {
	Host     Host      `json:"host"`
	Measures []Measure `json:"measures"`
	// Contributors are the largest origins of bytes in the root file system.
	Contributors []Contributor `json:"contributors,omitempty"`
	// Timelines holds the last boot of each kind.
	Timelines map[string]any `json:"timelines,omitempty"`
}

// Host says where the numbers come from.
type Host struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
	// Load is the load average of the last minute when the benchmark began.
	Load string `json:"load"`
	Date string `json:"date"`
	Tool string `json:"imgbuild"`
}

// Contributor is an origin of bytes: a package, a component, a step.
type Contributor struct {
	Origin string `json:"origin"`
	Size   int64  `json:"size"`
}

// add records a measure and returns its median.
func (r *Report) add(m Measure) float64 {
	m.Median = median(m.Runs)
	r.Measures = append(r.Measures, m)
	return m.Median
}

// median of an even number of values is the mean of the two in the middle; of none, 0.
func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	switch n := len(v); {
	case n == 0:
		return 0
	case n%2 == 1:
		return v[n/2]
	default:
		return (v[n/2-1] + v[n/2]) / 2
	}
}

// Table prints the report for people.
func (r *Report) Table(w io.Writer) error {
	fmt.Fprintf(w, "%s, %d cores, Linux %s, load %s, %s\n\n", r.Host.CPU, r.Host.Cores, r.Host.Kernel, r.Host.Load, r.Host.Date)
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
		var runs []string
		for _, v := range m.Runs {
			runs = append(runs, format(v, m.Unit))
		}
		text := strings.Join(runs, "  ")
		if len(runs) == 1 {
			text = ""
		}
		if m.Note != "" {
			text = strings.TrimSpace(text + "  (" + m.Note + ")")
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", m.Name, format(m.Median, m.Unit), target, verdict, text)
	}
	if err := t.Flush(); err != nil {
		return err
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

func format(v float64, unit string) string {
	switch unit {
	case "bytes":
		return fmt.Sprintf("%.1f MB", v/1e6)
	case "ratio":
		return fmt.Sprintf("%.2f x", v)
	}
	return fmt.Sprintf("%.2f %s", v, unit)
}
