// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAdd(t *testing.T) {
	twenty := make([]float64, 20)
	for i := range twenty {
		twenty[i] = float64(20 - i)
	}
	for _, c := range []struct {
		in                    []float64
		min, median, p90, max float64
	}{
		{[]float64{3}, 3, 3, 3, 3},
		{[]float64{9, 1, 5}, 1, 5, 9, 9},
		{[]float64{4, 1, 2, 100}, 1, 3, 100, 100},
		{twenty, 1, 10.5, 18, 20},
	} {
		var r Report
		r.add(Measure{Runs: c.in})
		if m := r.Measures[0]; m.Min != c.min || m.Median != c.median || m.P90 != c.p90 || m.Max != c.max {
			t.Errorf("%v: %v, %v, %v, %v", c.in, m.Min, m.Median, m.P90, m.Max)
		}
	}
	if twenty[0] != 20 {
		t.Error("the runs are not in the order in which they were made any more")
	}
}

func TestTable(t *testing.T) {
	r := &Report{Part: "boot", Host: Host{CPU: "chip", Cores: 4}, Contributors: []Contributor{{"component:kubernetes", 139e6}}}
	r.add(Measure{Name: "power-on to Ready", Unit: "s", Runs: []float64{50.5, 49, 52}, Target: 50})
	r.add(Measure{Name: "root", Unit: "bytes", Runs: []float64{596e6}, Target: 600e6, Note: "EROFS"})
	r.add(Measure{Name: "ratio", Unit: "ratio", Runs: []float64{0.4, 0.5}})
	r.add(Measure{Name: "address back", Unit: "s", Runs: []float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}})
	r.Memory = []Machine{{Name: "imgbuild", Total: 4e9, Used: 1e9, Programs: []Program{{"etcd", 60e6, 50e6, 40e6}}}}
	var b strings.Builder
	if err := r.Table(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"boot: chip, 4 cores", "power-on to Ready  50.50 s", "MISSED  50.50 s  49.00 s  52.00 s", "met     (EROFS)", "0.45 x",
		"1.00 s to 10.00 s, 90 % within 9.00 s, 10 runs", "imgbuild: 1000.0 MB of 4000.0 MB used", "60.0  50.0       40.0  etcd", "139.0 MB    component:kubernetes"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
}

// What is written can be read back by programs.
func TestWrite(t *testing.T) {
	r := &Report{Part: "failover"}
	r.add(Measure{Name: "address back", Unit: "s", Runs: []float64{1, 2}, Target: 3})
	file := filepath.Join(t.TempDir(), "failover.json")
	if err := r.Write(file); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(text, &back); err != nil || back.Part != "failover" || len(back.Measures) != 1 || back.Measures[0].Median != 1.5 {
		t.Errorf("%+v, %v from\n%s", back, err, text)
	}
}
