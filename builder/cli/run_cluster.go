// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
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

func (a *app) runCluster(ctx context.Context, cmd *cobra.Command, f *runFlags, c *clusterFlags) error {
	for _, name := range []string{"ignition", "dir"} {
		if cmd.Flags().Changed(name) {
			return fault.New(fault.Usage, "leave --"+name+" out", "--%s is for a single machine; the cluster's directory has both", name)
		}
	}
	ix, err := cluster.ReadIndex(c.dir)
	if err != nil {
		return err
	}
	opts, err := vm.ClusterFleet(c.dir, ix, c.only)
	if err != nil {
		return err
	}
	if err := a.clusterImages(ctx, f, opts.Hosts); err != nil {
		return err
	}
	s, err := a.stage(ctx, f)
	if err != nil {
		return err
	}
	opts.Machine = vm.Spec{DiskSize: s.diskSize, KernelArguments: f.append, Accel: vm.Accel(f.accel)}
	if cmd.Flags().Changed("cpus") {
		opts.Machine.CPUs = f.cpus
	}
	if cmd.Flags().Changed("memory") {
		opts.Machine.MemoryMiB = f.memory
	}
	if cmd.Flags().Changed("timeout") {
		opts.Timeout = f.timeout
	}
	opts.Dir = filepath.Join(c.dir, "run")
	board := newBoard(s.talk, opts.Hosts, terminalWidth(s.talk))
	opts.Events = board.event
	if f.console {
		opts.Events, opts.Lines = nil, board.line
	}
	return a.runFleet(ctx, f, c, func(ctx context.Context) (*vm.Fleet, error) { return vm.StartFleet(ctx, s.qemu, opts) })
}

// runFleet runs machines until they end or the user ends them, which is success.
func (a *app) runFleet(ctx context.Context, f *runFlags, c *clusterFlags, start func(context.Context) (*vm.Fleet, error)) (err error) {
	fleet, err := start(ctx)
	if err != nil {
		return err
	}
	defer fleet.Close()
	if c.capture != "" {
		file, err := os.OpenFile(c.capture, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			return fault.Wrap(fault.Usage, err, "name a file that can be written with --capture")
		}
		defer file.Close()
		fleet.Capture(file)
	}
	if err := fleet.WaitReady(ctx); err != nil {
		return err
	}
	r := fleet.Result()
	if f.timeline != "" {
		if err := writeFleetTimeline(f.timeline, r); err != nil {
			return err
		}
	}
	if f.json {
		if err := writeJSON(a.Out, r); err != nil {
			return err
		}
	} else {
		printFleet(a.Out, r)
	}
	if f.once {
		return nil
	}
	if !f.json {
		fmt.Fprintln(a.Out, "running until Ctrl-C")
	}
	return fleet.WaitEnd(ctx)
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
