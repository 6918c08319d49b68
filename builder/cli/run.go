// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/imgbuild/imgbuild/builder/build"
	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/profile"
	"github.com/imgbuild/imgbuild/builder/tool"
	"github.com/imgbuild/imgbuild/builder/vm"
)

// runFlags are those of the run verb.
type runFlags struct {
	profile, image, dir, ignition, timeline, accel, disk string
	append                                               []string
	cpus, memory                                         int
	timeout                                              time.Duration
	console, once, json                                  bool
}

func (a *app) runCommand() *cobra.Command {
	f, c := &runFlags{}, &clusterFlags{}
	cmd := &cobra.Command{
		Use:   "run --profile NAME | --cluster DIR",
		Short: "Boot an image in QEMU, show its phases, keep it running until Ctrl-C",
		Long: "Run boots the image of a profile, building it first if it is not up to date. The image is\n" +
			"never modified: writes go to an overlay. Without --ignition the node gets a config of its\n" +
			"own with authorities made for this run, and a kubeconfig is written for its administrator.\n" +
			"With --cluster all hosts of a rendered cluster boot on an Ethernet segment of their own, and\n" +
			"the cluster's kubeconfig leads there as long as they run.",
		Example: "  imgbuild run --profile controlplane\n" +
			"  imgbuild run --image node.raw --ignition node.ign --cpus 2 --memory 4096\n" +
			"  imgbuild run --profile controlplane --once --timeline boot.svg\n" +
			"  imgbuild run --cluster demo --only cp-1,cp-2",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.dir != "" {
				return a.runCluster(cmd.Context(), cmd, f, c)
			}
			if err := c.unused(); err != nil {
				return err
			}
			return a.run(cmd.Context(), f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.profile, "profile", "", "profile whose image to boot")
	flags.StringVar(&f.image, "image", "", "image file to boot instead")
	flags.StringVar(&f.dir, "dir", "", "keep the machine's disk and files in this directory and continue with them next time")
	flags.StringVar(&f.ignition, "ignition", "", "Ignition config of the host (default: a single control plane's)")
	flags.StringVar(&f.timeline, "timeline", "", "write how it came up to this .svg or .json file")
	flags.StringVar(&f.accel, "accel", "auto", "accelerator: auto, kvm or tcg")
	flags.StringVar(&f.disk, "disk-size", "8GiB", "size of the machine's disk")
	flags.StringArrayVar(&f.append, "append", nil, "kernel argument to add for this run (repeatable)")
	flags.IntVar(&f.cpus, "cpus", vm.DefaultCPUs, fmt.Sprintf("virtual CPUs; with --cluster of each host, and %d unless given", vm.FleetCPUs))
	flags.IntVar(&f.memory, "memory", vm.DefaultMemoryMiB, fmt.Sprintf("memory in MiB; with --cluster of each host, and %d unless given", vm.FleetMemoryMiB))
	flags.DurationVar(&f.timeout, "timeout", vm.ReadyTimeout, fmt.Sprintf("how long the node may take to be Ready; with --cluster all hosts, and %s unless given", vm.FleetTimeout))
	flags.BoolVar(&f.console, "console", false, "show every console line, not only phases")
	flags.BoolVar(&f.once, "once", false, "stop when the node is Ready")
	flags.BoolVar(&f.json, "json", false, "print the result as JSON when the node is Ready")
	c.register(cmd)
	a.completeProfiles(cmd)
	a.completeValues(cmd, "accel", []string{string(vm.Auto), string(vm.KVM), string(vm.TCG)})
	return cmd
}

// stage is what machines are run with, be it one or several.
type stage struct {
	qemu *tool.Set
	// out takes the result, talk what happens. They are one unless standard output is left to
	// the result by --json. Neither makes anybody wait.
	out, talk *queue
	// terminal is what talk leads to.
	terminal io.Writer
	pipe     chan os.Signal
}

// stage prepares for running machines, after the images and thereby the progress display are
// done. Stop is called when nobody reads any more, as the user's Ctrl-C would be.
func (a *app) stage(ctx context.Context, f *runFlags, stop func()) (*stage, error) {
	env, err := a.env()
	if err != nil {
		return nil, err
	}
	s := &stage{terminal: a.Out, pipe: make(chan os.Signal, 1)}
	if s.qemu, err = build.Tool(ctx, env, "qemu"); err != nil {
		return nil, err
	}
	a.closeProgress()
	// A pager that ends would else end this process before it has cleaned up.
	signal.Notify(s.pipe, syscall.SIGPIPE)
	s.out = newQueue(a.Out, func(error) { stop() })
	s.talk = s.out
	if f.json {
		s.terminal = a.Err
		s.talk = newQueue(a.Err, func(error) { stop() })
	}
	return s, nil
}

// close shows what is left to show. Its error is that of a reader who has gone.
func (s *stage) close() error {
	err := cmp.Or(s.talk.Close(), s.out.Close())
	signal.Stop(s.pipe)
	if err != nil {
		err = fmt.Errorf("nobody takes what the run says: %w", err)
	}
	return err
}

// diskSize reads the size of disks, in bytes.
func (f *runFlags) diskSize() (int64, error) {
	n, err := profile.ParseSize(f.disk)
	return n, fault.Wrap(fault.Usage, err, "give --disk-size as a quantity such as 8GiB")
}

func (a *app) run(ctx context.Context, f *runFlags) (err error) {
	opts := vm.Options{Timeout: f.timeout, Spec: vm.Spec{CPUs: f.cpus, MemoryMiB: f.memory,
		KernelArguments: f.append, Accel: vm.Accel(f.accel), Ignition: f.ignition, Dir: f.dir}}
	if opts.Spec.DiskSize, err = f.diskSize(); err != nil {
		return err
	}
	if err := opts.Check(); err != nil {
		return err
	}
	if err := writable("timeline", f.timeline); err != nil {
		return err
	}
	if opts.Spec.Image, err = a.imageToRun(ctx, f); err != nil {
		return err
	}
	opts.Spec.Name = "imgbuild-" + filepath.Base(opts.Spec.Image)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	s, err := a.stage(ctx, f, stop)
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(s.close(), err) }()
	opts.Events = func(e vm.Event) { printEvent(s.talk, e) }
	if f.console {
		opts.Events, opts.Lines = nil, func(l vm.Line) { fmt.Fprintf(s.talk, "%6.1f  %s\n", l.At.Seconds(), l.Text) }
	}
	return vm.Run(ctx, s.qemu, opts, func(r *vm.Result) error {
		if f.timeline != "" {
			if err := writeTimeline(f.timeline, r); err != nil {
				return err
			}
		}
		if f.once {
			defer stop()
		}
		return f.printReady(s.out, r)
	})
}

// printReady shows the result of a run. One that ends now and keeps no directory takes its
// files and its machine with it, so it names neither.
func (f *runFlags) printReady(w io.Writer, r *vm.Result) error {
	if f.once && f.dir == "" {
		ended := *r
		ended.Kubeconfig, ended.Console, ended.API, ended.PID = "", "", "", 0
		r = &ended
	}
	if f.json {
		return writeJSON(w, r)
	}
	fmt.Fprintf(w, "\n%s\nReady in %.1f s\n", r.Timeline.Table(), r.Ready.D().Seconds())
	if r.Kubeconfig != "" {
		fmt.Fprintf(w, "kubeconfig: %s\n", r.Kubeconfig)
	}
	if r.Console != "" {
		fmt.Fprintf(w, "console:    %s\n", r.Console)
	}
	if !f.once {
		fmt.Fprintln(w, "running until Ctrl-C")
	}
	return nil
}

var errTwoImages = fault.New(fault.Usage, "leave one of them out", "--image and --profile both name an image")

// imageToRun returns the image that the flags name, built when it is not up to date.
func (a *app) imageToRun(ctx context.Context, f *runFlags) (string, error) {
	switch {
	case f.image != "" && f.profile != "":
		return "", errTwoImages
	case f.image != "":
		if info, err := os.Stat(f.image); err != nil || info.IsDir() {
			return "", fault.New(fault.Usage, "name an image file with --image, or a profile to build and boot with --profile", "there is no image file %s", f.image)
		}
		return f.image, nil
	}
	p, err := a.project(ctx, f.profile, "")
	if err != nil {
		return "", err
	}
	_, _, err = p.Make(ctx, false)
	return p.Output, err
}

// printEvent shows what the console or the API told, with the seconds since power-on.
func printEvent(w io.Writer, e vm.Event) {
	text := e.Text
	switch e.Kind {
	case vm.LoaderStarted:
		text = "firmware starts the boot loader"
	case vm.KernelStarted:
		text = "kernel"
	case vm.InitStarted:
		text = "initrd"
	case vm.RootSwitched:
		text = "sealed root"
	case vm.PhaseEnded:
		text = fmt.Sprintf("%-22s %s %.2f s", e.Name, e.State, e.Took.Seconds())
		if e.Reason != "" {
			text += ": " + e.Reason
		}
	case vm.APIAnswered:
		text = "the API answers"
	case vm.ReadySeen:
		text = "the node is Ready"
	}
	fmt.Fprintf(w, "%6.1f  %s\n", e.At.Seconds(), text)
}

func writeTimeline(path string, r *vm.Result) error {
	if filepath.Ext(path) == ".json" {
		doc, err := r.JSON()
		if err != nil {
			return err
		}
		return os.WriteFile(path, append(doc, '\n'), 0o644)
	}
	return os.WriteFile(path, r.Timeline.SVG(), 0o644)
}
