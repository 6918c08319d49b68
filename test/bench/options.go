// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"

	"github.com/spf13/pflag"

	"github.com/imgbuild/imgbuild/builder/vm"
)

// options are what the command line says.
type options struct {
	// runs is how often each thing is measured, kills how often a thing happens to the virtual
	// address, cuts how often the link of the machine that owns it is cut, and crashes how often
	// that machine is killed.
	runs, kills, cuts, crashes int
	cpus                       []int
	// machineCPUs is the number of virtual CPUs of each machine of a cluster.
	machineCPUs int
	shapes      []shape
	// asked says that parts were named, so that none of them may be left out.
	asked bool
}

// parse reads the command line: flags and the parts to run, in any order.
func parse(args []string) (o options, chosen []part, err error) {
	flags := pflag.NewFlagSet("bench", pflag.ContinueOnError)
	flags.Usage = func() { usage(flags) }
	flags.IntVar(&o.runs, "runs", 3, "how often each thing is measured")
	flags.IntSliceVar(&o.cpus, "cpus", processors(), "boot: virtual CPUs of the machine, one measurement for each")
	shapes := flags.StringSlice("shapes", []string{"1", "3", "3+1"}, "cluster: control planes, or control planes+workers")
	flags.IntVar(&o.machineCPUs, "machine-cpus", vm.FleetCPUs, "cluster: virtual CPUs of each machine; stock kubeadm is measured beside it with 2 or more")
	flags.IntVar(&o.kills, "kills", 20, "failover, cluster: how often the owner of the virtual address loses keepalived, its link or its API server")
	flags.IntVar(&o.cuts, "cuts", 3, "cluster: how often the owner's link is cut and healed")
	flags.IntVar(&o.crashes, "crashes", 3, "cluster: how often the owner's machine is killed and started again, which takes minutes each time")
	if err := flags.Parse(args); err != nil {
		return o, nil, err
	}
	if o.runs < 1 || min(o.kills, o.cuts, o.crashes) < 0 {
		return o, nil, fmt.Errorf("--runs %d, --kills %d, --cuts %d, --crashes %d: at least 1, 0, 0 and 0", o.runs, o.kills, o.cuts, o.crashes)
	}
	for _, n := range o.cpus {
		if n < 1 {
			return o, nil, fmt.Errorf("--cpus %d: not a number of processors", n)
		}
	}
	if o.machineCPUs < 1 {
		return o, nil, fmt.Errorf("--machine-cpus %d: not a number of processors", o.machineCPUs)
	}
	for _, text := range *shapes {
		s, err := parseShape(text)
		if err != nil {
			return o, nil, fmt.Errorf("--shapes: %w", err)
		}
		o.shapes = append(o.shapes, s)
	}
	o.asked = flags.NArg() > 0
	chosen, err = choose(flags.Args())
	return o, chosen, err
}

func usage(flags *pflag.FlagSet) {
	fmt.Fprint(os.Stderr, "Usage: scripts/bench [flags] [PART...]\n\nParts; without one, all run in this order:\n")
	t := tabwriter.NewWriter(os.Stderr, 0, 0, 3, ' ', 0)
	for _, p := range parts {
		fmt.Fprintf(t, "  %s\t%s\n", p.name, p.purpose)
	}
	_ = t.Flush() // nobody to tell
	fmt.Fprintf(os.Stderr, "\nEach prints a table and writes out/bench/PART.json.\n\nFlags:\n%s", strings.TrimRight(flags.FlagUsages(), "\n")+"\n")
}

// processors is what a machine is booted with unless told otherwise. A host with two cores
// shows what it can do and what the target speaks of.
func processors() []int {
	if runtime.NumCPU() < 4 {
		return []int{2, 4}
	}
	return []int{4}
}
