// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/timeline"
	"github.com/imgbuild/imgbuild/builder/tool"
)

// Options describe a run of a node image.
type Options struct {
	// Spec is the machine. An empty Ignition gets a single control plane's config with
	// authorities made for this run, unless Dir holds the config of an earlier one.
	Spec Spec
	// NodeName is the generated config's node; default "cp-1".
	NodeName string
	// Guest, when not nil, replaces the single control plane of the generated config.
	Guest *Guest
	// Files and Units are added to the generated config. The guest reads it byte by byte, at a
	// few ten kilobytes a second when emulated: what is large belongs on a disk (Spec.Disks).
	Files []GuestFile
	Units []GuestUnit
	// Title names the run in its time line; default is the image's file name.
	Title string
	// Timeout bounds the time to Ready; default 10 minutes.
	Timeout time.Duration
	// Events receives what the console and the API tell, Lines every console line; both may
	// be nil and are called one at a time.
	Events func(Event)
	Lines  func(Line)
}

// Result describes a node that is Ready.
type Result struct {
	// Ready is the time from starting QEMU (or from the last reset) to a Ready node.
	Ready timeline.Seconds `json:"ready"`
	// Kubeconfig is an administrator's; empty when the Ignition config does not carry the
	// cluster's authority.
	Kubeconfig string `json:"kubeconfig,omitempty"`
	// API is the loopback address that leads to the API server.
	API string `json:"api,omitempty"`
	// Console is the file with what the machine wrote to its serial port.
	Console  string             `json:"console,omitempty"`
	Accel    Accel              `json:"accelerator"`
	PID      int                `json:"pid,omitempty"`
	Timeline *timeline.Timeline `json:"timeline"`
}

// kubeAPIPort is where the API server of the guest listens.
const kubeAPIPort = 6443

// ReadyTimeout is how long a node may take unless Options say otherwise.
const ReadyTimeout = 10 * time.Minute

func (o Options) withDefaults() Options {
	o.Spec = o.Spec.withDefaults()
	if o.NodeName == "" {
		o.NodeName = "cp-1"
	}
	if o.Title == "" {
		o.Title = filepath.Base(o.Spec.Image)
	}
	if o.Timeout == 0 {
		o.Timeout = ReadyTimeout
	}
	if o.Spec.NICs == nil {
		o.Spec.NICs = []NIC{{Forwards: []int{kubeAPIPort}}}
	}
	return o
}

// Check reports what is wrong with the machine whatever it boots.
func (o Options) Check() error {
	return fault.Wrap(fault.Usage, o.Spec.withDefaults().checkSize(), "correct the machine's description")
}

// config returns the Ignition config of the run, making and keeping one where none is given.
func (n *Node) config() ([]byte, error) {
	o := &n.opts
	if o.Spec.Ignition == "" {
		o.Spec.Ignition = filepath.Join(o.Spec.Dir, ignitionFile)
		if _, err := os.Stat(o.Spec.Ignition); errors.Is(err, os.ErrNotExist) {
			config, err := o.generate(time.Now())
			if err != nil {
				return nil, err
			}
			return config, writeSecret(o.Spec.Ignition, config)
		}
	}
	config, err := os.ReadFile(o.Spec.Ignition)
	if err != nil {
		return nil, fault.Wrap(fault.Usage, err, "name an Ignition config that exists")
	}
	return config, nil
}

// generate makes the Ignition config of a run that brought none.
func (o Options) generate(now time.Time) ([]byte, error) {
	var g Guest
	if o.Guest != nil {
		g = *o.Guest
	} else {
		var err error
		if g, err = SingleNode(o.NodeName, now); err != nil {
			return nil, err
		}
	}
	g.Files = append(slices.Clone(g.Files), o.Files...)
	g.Units = append(slices.Clone(g.Units), o.Units...)
	return g.Ignition()
}

// Run boots an image, calls ready when the node is, and returns when ctx ends or the machine
// does. The caller's interrupt is success: it is how a run is meant to end.
func Run(ctx context.Context, t *tool.Set, o Options, ready func(*Result) error) error {
	n, err := Start(ctx, t, o)
	if err != nil {
		return err
	}
	defer n.Close()
	result, err := n.WaitReady(ctx)
	if err != nil {
		return err
	}
	if ready != nil {
		if err := ready(result); err != nil {
			return err
		}
	}
	<-n.Machine.Exited()
	if ctx.Err() != nil {
		return nil
	}
	return n.Machine.Err()
}

// JSON renders a result for programs.
func (r *Result) JSON() ([]byte, error) { return json.MarshalIndent(r, "", "  ") }
