// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 2, 100}, 3}} {
		if got := median(c.in); got != c.want {
			t.Errorf("median(%v) = %v, want %v", c.in, got, c.want)
		}
	}
}

func TestTable(t *testing.T) {
	r := &Report{Host: Host{CPU: "chip", Cores: 4}, Contributors: []Contributor{{"component:kubernetes", 139e6}}}
	r.add(Measure{Name: "power-on to Ready", Unit: "s", Runs: []float64{50.5, 49, 52}, Target: 50})
	r.add(Measure{Name: "root", Unit: "bytes", Runs: []float64{596e6}, Target: 600e6, Note: "EROFS"})
	r.add(Measure{Name: "ratio", Unit: "ratio", Runs: []float64{0.4, 0.5}})
	var b strings.Builder
	if err := r.Table(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"power-on to Ready  50.50 s", "MISSED  50.50 s  49.00 s  52.00 s", "met     (EROFS)", "0.45 x", "139.0 MB    component:kubernetes"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
}
