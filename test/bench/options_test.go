// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	o, chosen, err := parse([]string{"cluster", "--runs", "1", "--shapes", "3,3+1", "build", "--cpus=2,4", "--kills", "0", "--machine-cpus", "1", "--crashes", "0"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range chosen {
		names = append(names, p.name)
	}
	if !slices.Equal(names, []string{"build", "cluster"}) || o.runs != 1 || o.kills != 0 || o.cuts != 3 || o.crashes != 0 || o.machineCPUs != 1 || !slices.Equal(o.cpus, []int{2, 4}) {
		t.Errorf("%v %+v", names, o)
	}
	if !slices.Equal(o.shapes, []shape{{3, 0}, {3, 1}}) {
		t.Errorf("shapes %v", o.shapes)
	}
	if _, all, err := parse(nil); err != nil || len(all) != len(parts) {
		t.Errorf("without arguments %d parts, %v", len(all), err)
	}
	for want, args := range map[string][]string{
		"choose from build, image, boot, cluster, failover": {"cluser"},
		"--runs 0":     {"--runs", "0"},
		"--cpus 0":     {"--cpus", "0"},
		"--machine-":   {"--machine-cpus", "0"},
		`"0"`:          {"--shapes", "0"},
		`"3+x"`:        {"--shapes", "3+x"},
		`"3+-1"`:       {"--shapes", "3+-1"},
		"--cuts -1":    {"--cuts", "-1"},
		"--crashes -1": {"--crashes", "-1"},
		"--kills -1":   {"--kills", "-1"},
	} {
		if _, _, err := parse(args); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", args, err, want)
		}
	}
}

func TestShape(t *testing.T) {
	for text, want := range map[string]struct {
		words      string
		machines   int
		comparable bool
	}{"1": {"1 control plane", 1, false}, "3": {"3 control planes", 3, true}, "3+1": {"3 control planes, 1 worker", 4, false}, "1+2": {"1 control plane, 2 workers", 3, false}} {
		s, err := parseShape(text)
		if err != nil || s.String() != text || s.words() != want.words || s.machines() != want.machines || s.comparable(2) != want.comparable || s.comparable(1) {
			t.Errorf("%s: %s, %q, %d machines, comparable %v, %v", text, s, s.words(), s.machines(), s.comparable(2), err)
		}
	}
}
