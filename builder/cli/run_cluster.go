// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/imgbuild/imgbuild/builder/cluster"
	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/vm"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// clusterFlags are those of run that are about clusters.
type clusterFlags struct {
	dir, capture string
	only         []string
}

func (c *clusterFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&c.dir, "cluster", "", "boot all hosts of this rendered cluster on one Ethernet segment")
	_ = cmd.MarkFlagDirname("cluster")
	flags.StringSliceVar(&c.only, "only", nil, "with --cluster: boot only these hosts (repeatable, or separated by commas)")
	flags.StringVar(&c.capture, "capture", "", "with --cluster: write every frame that hosts send to this pcap file")
}

// unused reports flags that need a cluster and have none.
func (c *clusterFlags) unused() error {
	if len(c.only) > 0 || c.capture != "" {
		return fault.New(fault.Usage, "name a rendered cluster with --cluster", "--only and --capture are about the hosts of a cluster")
	}
	return nil
}

// The profiles of hosts when neither --profile nor --image names an image for all.
const (
	controlPlaneProfile = "controlplane"
	workerProfile       = "worker"
)

func (a *app) runCluster(ctx context.Context, cmd *cobra.Command, f *runFlags, c *clusterFlags) (err error) {
	for _, name := range []string{"ignition", "dir"} {
		if cmd.Flags().Changed(name) {
			return fault.New(fault.Usage, "leave --"+name+" out", "--%s is for a single machine; the cluster's directory has both", name)
		}
	}
	if f.image != "" && f.profile != "" {
		return errTwoImages
	}
	opts, err := clusterOptions(cmd, f, c)
	if err != nil {
		return err
	}
	if err := writable("timeline", f.timeline); err != nil {
		return err
	}
	if err := writable("capture", c.capture); err != nil {
		return err
	}
	if err := a.clusterImages(ctx, f, opts.Hosts); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	s, err := a.stage(ctx, f, stop)
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(s.close(), err) }()
	board := newBoard(s.talk, opts.Hosts, terminalWidth(s.terminal))
	opts.Events = board.event
	if f.console {
		opts.Events, opts.Lines = nil, board.line
	}
	r := &fleetRun{runFlags: f, stage: s}
	if c.capture != "" {
		if r.capture, err = openCapture(c.capture, func(err error) { board.plain("", err.Error()) }); err != nil {
			return err
		}
	}
	return r.run(ctx, opts)
}

// clusterOptions are what follows from the cluster's directory and the flags, checked as far as
// it can be before there are images.
func clusterOptions(cmd *cobra.Command, f *runFlags, c *clusterFlags) (opts vm.FleetOptions, err error) {
	ix, err := cluster.ReadIndex(c.dir)
	if err != nil {
		return opts, err
	}
	if opts, err = vm.ClusterFleet(c.dir, ix, c.only); err != nil {
		return opts, err
	}
	opts.Dir = filepath.Join(c.dir, "run")
	opts.Machine = vm.Spec{KernelArguments: f.append, Accel: vm.Accel(f.accel)}
	if opts.Machine.DiskSize, err = f.diskSize(); err != nil {
		return opts, err
	}
	if cmd.Flags().Changed("cpus") {
		opts.Machine.CPUs = f.cpus
	}
	if cmd.Flags().Changed("memory") {
		opts.Machine.MemoryMiB = f.memory
	}
	if cmd.Flags().Changed("timeout") {
		opts.Timeout = f.timeout
	}
	return opts, opts.Check()
}

// fleetRun is a run of several machines.
type fleetRun struct {
	*runFlags
	*stage
	capture *captureFile // or nil
}

// run lets machines run until they end or the user ends them, which is success. What went wrong
// beside is told when it happens and ends nothing; unless the user ends the run, it is the error.
func (r *fleetRun) run(ctx context.Context, opts vm.FleetOptions) error {
	fleet, err := vm.StartFleet(ctx, r.qemu, opts)
	if err == nil {
		if r.capture != nil {
			r.capture.start()
			fleet.Capture(r.capture)
		}
		err = r.follow(ctx, fleet)
		fleet.Close()
	}
	if r.capture != nil {
		if failed := r.capture.close(); ctx.Err() == nil {
			err = errors.Join(err, failed)
		}
	}
	return err
}

// follow shows how machines come up and returns when the run is over.
func (r *fleetRun) follow(ctx context.Context, fleet *vm.Fleet) error {
	if err := fleet.WaitReady(ctx); err != nil {
		return err
	}
	result := fleet.Result()
	var late error
	if r.timeline != "" {
		if late = writeFleetTimeline(r.timeline, result); late != nil {
			fmt.Fprintf(r.talk, "%s\n", late)
		}
	}
	if r.json {
		if err := writeJSON(r.out, result); err != nil {
			return err
		}
	} else {
		printFleet(r.out, result)
	}
	if r.once {
		return late
	}
	if !r.json {
		fmt.Fprintln(r.out, "running until Ctrl-C")
	}
	err := fleet.WaitEnd(ctx)
	if ctx.Err() == nil {
		return errors.Join(err, late)
	}
	if err != nil {
		fmt.Fprintf(r.talk, "\nhad ended before:\n%s\n", err)
	}
	return nil
}

// clusterImages says which image each host boots, building what is not up to date.
func (a *app) clusterImages(ctx context.Context, f *runFlags, hosts []vm.FleetHost) error {
	images := map[string]string{} // by profile
	for i := range hosts {
		flags := *f
		if f.profile == "" && f.image == "" {
			flags.profile = controlPlaneProfile
			if hosts[i].Role == node.Worker {
				flags.profile = workerProfile
			}
		}
		image, known := images[flags.profile]
		if !known {
			var err error
			if image, err = a.imageToRun(ctx, &flags); err != nil {
				return err
			}
			images[flags.profile] = image
		}
		hosts[i].Image = image
	}
	return nil
}

func printFleet(w io.Writer, r *vm.FleetResult) {
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "HOST\tADDRESS\tREADY\tCONSOLE")
	for _, h := range r.Hosts {
		fmt.Fprintf(t, "%s\t%s\t%.1f s\t%s\n", h.Name, h.Address, h.Ready.D().Seconds(), h.Console)
	}
	_ = t.Flush() // w's own errors show in what follows
	fmt.Fprintf(w, "\nall Ready in %.1f s\n", r.Ready.D().Seconds())
	if r.Kubeconfig != "" {
		fmt.Fprintf(w, "kubeconfig: %s (through a proxy while this runs)\n", r.Kubeconfig)
	}
}

func writeFleetTimeline(path string, r *vm.FleetResult) error {
	if filepath.Ext(path) == ".json" {
		doc, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		return os.WriteFile(path, append(doc, '\n'), 0o644)
	}
	return os.WriteFile(path, r.Timeline.SVG(), 0o644)
}

// terminalWidth is the width of a terminal in columns, or 0 where w is none.
func terminalWidth(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}
