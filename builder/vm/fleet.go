// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/tool"
	"github.com/imgbuild/imgbuild/builder/vm/ethernet"
	"github.com/imgbuild/imgbuild/builder/vm/gateway"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// FleetOptions describe machines on one Ethernet segment that nothing else is on.
type FleetOptions struct {
	// Hosts are the machines, started in this order but at the same moment.
	Hosts []FleetHost
	// Machine is what they have in common. Name, UUID, Serial, NICs, Ignition and Dir are set for each.
	Machine Spec
	// Network is the gateway's own address with the prefix length of the segment; Names are
	// what its DNS server answers.
	Network netip.Prefix
	Names   map[string][]netip.Addr
	// API lists host:port of the API server, tried in order: the endpoint, then the control
	// planes themselves.
	API []string
	// Resolvers are addresses besides the gateway's own at which DNS is asked, Fronts are
	// addresses that the gateway leads to machines.
	Resolvers []netip.Addr
	Fronts    []*gateway.Front
	// Kubeconfig is an administrator's for the cluster; while the fleet runs it leads through
	// a proxy into the segment. Without one only consoles tell when hosts are Ready.
	Kubeconfig string
	// Fetch gets a kubeconfig that only the cluster can make, where there is none.
	Fetch *Fetch
	// Dir keeps a directory per host; one that exists is continued with.
	Dir string
	// Seed decides which frames lossy links drop.
	Seed uint64
	// Timeout bounds the time until all hosts are Ready; default FleetTimeout.
	Timeout time.Duration
	// Events receives what consoles and the API tell about a host, Lines every console line.
	// Both may be nil and are called one at a time.
	Events func(host string, e Event)
	Lines  func(host string, l Line)
}

// FleetHost is one machine of a fleet.
type FleetHost struct {
	// Name is the host's and the node's.
	Name string
	Role node.Role
	MAC  ethernet.MAC
	// VLAN is how the segment is tagged on its link; 0 is untagged.
	VLAN ethernet.VLAN
	// UUID and Serial are those of Spec.
	UUID, Serial string
	// Address is the node's. DHCP says that the gateway gives it.
	Address netip.Addr
	DHCP    bool
	// Ignition is the path of its config.
	Ignition string
	// Image replaces the common one.
	Image string
}

// The size of each machine of a fleet unless told otherwise, and how long all may take.
const (
	FleetCPUs      = 2
	FleetMemoryMiB = 3072
	FleetTimeout   = 30 * time.Minute
)

// machine is what all have in common, with a size.
func (o FleetOptions) machine() Spec {
	s := o.Machine
	if s.CPUs == 0 {
		s.CPUs = FleetCPUs
	}
	if s.MemoryMiB == 0 {
		s.MemoryMiB = FleetMemoryMiB
	}
	return s
}

// Fleet is several machines, the switch between them and the gateway to them.
type Fleet struct {
	Switch  *ethernet.Switch
	Gateway *gateway.Gateway
	Members []*Member
	// Started is when the first machine was switched on.
	Started time.Time

	opts   FleetOptions
	tools  *tool.Set
	api    atomic.Pointer[fleetAPI] // nil without a kubeconfig
	ctx    context.Context
	cancel context.CancelFunc
	emitMu sync.Mutex
	// release lets others use Dir.
	release func()
	// news is closed, and another made, whenever an outcome changes.
	newsMu sync.Mutex
	news   chan struct{}
	// watching are the goroutines that end with ctx.
	watching sync.WaitGroup
}

// StartFleet makes the segment and switches every machine on. It returns while they boot; they
// end with ctx.
func StartFleet(ctx context.Context, t *tool.Set, o FleetOptions) (*Fleet, error) {
	o.Machine = o.machine()
	if o.Timeout == 0 {
		o.Timeout = FleetTimeout
	}
	if len(o.Hosts) == 0 {
		return nil, fault.New(fault.Usage, "name at least one host", "there is no host to start")
	}
	f := &Fleet{opts: o, tools: t, news: make(chan struct{})}
	f.ctx, f.cancel = context.WithCancel(ctx)
	if err := f.start(); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (f *Fleet) start() error {
	o := &f.opts
	var err error
	if f.release, err = claim(o.Dir); err != nil {
		return err
	}
	f.Switch = ethernet.New(ethernet.Options{Seed: o.Seed})
	config := gateway.Config{Network: o.Network, Names: o.Names, Resolvers: o.Resolvers, Fronts: o.Fronts}
	for _, h := range o.Hosts {
		if h.DHCP {
			config.Leases = append(config.Leases, gateway.Lease{MAC: h.MAC, Address: h.Address})
		}
	}
	if f.Gateway, err = gateway.New(f.Switch, config); err != nil {
		return fault.Wrap(fault.Machine, err, "correct the hosts' network")
	}
	if err := f.findKubeconfig(); err != nil {
		return err
	}
	if o.Kubeconfig != "" {
		if err := f.lead(); err != nil {
			return err
		}
	}
	for _, h := range o.Hosts {
		m, err := f.newMember(h)
		if err != nil {
			return err
		}
		f.Members = append(f.Members, m)
	}
	f.Started = time.Now()
	errs := make([]error, len(f.Members))
	var all sync.WaitGroup
	for i, m := range f.Members {
		all.Go(func() { errs[i] = m.Start() })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if f.api.Load() != nil {
		f.watching.Go(f.watch)
	}
	return nil
}

// lead lets the kubeconfig lead into the segment.
func (f *Fleet) lead() error {
	api, err := newFleetAPI(f.opts.Kubeconfig, f.opts.API, f.Gateway)
	f.api.Store(api)
	return err
}

// newMember prepares a machine's directory and its port on the switch.
func (f *Fleet) newMember(h FleetHost) (*Member, error) {
	dir, err := filepath.Abs(filepath.Join(f.opts.Dir, h.Name))
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	port, err := f.Switch.Listen(h.Name, filepath.Join(dir, linkSocket))
	if err != nil {
		return nil, fault.Wrap(fault.Machine, err, "check the permissions of "+dir)
	}
	port.Trunk(h.VLAN)
	return &Member{Host: h, Dir: dir, Port: port, fleet: f, recorder: &Recorder{Title: h.Name}}, nil
}

// Member returns a host by name, or nil.
func (f *Fleet) Member(name string) *Member {
	for _, m := range f.Members {
		if m.Host.Name == name {
			return m
		}
	}
	return nil
}

func hostError(m *Member, err error) error { return fmt.Errorf("host %s: %w", m.Host.Name, err) }

func (f *Fleet) emit(host string, e Event) {
	if f.opts.Events != nil {
		f.emitMu.Lock()
		defer f.emitMu.Unlock()
		f.opts.Events(host, e)
	}
}

// Close switches every machine off and returns when nothing of the fleet runs any more.
func (f *Fleet) Close() {
	f.cancel()
	if api := f.api.Load(); api != nil {
		api.close() // first: whoever is in a hurry ends this process before the machines have ended
	}
	var all sync.WaitGroup
	for _, m := range f.Members {
		all.Go(m.Stop)
	}
	all.Wait()
	f.watching.Wait()
	if f.Gateway != nil {
		f.Gateway.Close()
	}
	if f.Switch != nil {
		f.Switch.Close()
	}
	if f.release != nil {
		f.release()
	}
}

// Capture writes every frame that the hosts and the gateway send from now on to w, as pcap.
// Errors of w end the capture.
func (f *Fleet) Capture(w io.Writer) {
	c := ethernet.NewCapture(w)
	sent := func(s ethernet.Seen) {
		if s.Direction == ethernet.FromStation {
			c.See(s)
		}
	}
	f.Gateway.Port().Tap(sent)
	for _, m := range f.Members {
		m.Port.Tap(sent)
	}
}
