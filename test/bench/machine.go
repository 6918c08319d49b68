// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/imgbuild/imgbuild/builder/timeline"
	"github.com/imgbuild/imgbuild/builder/tool"
	"github.com/imgbuild/imgbuild/builder/vm"
	"github.com/imgbuild/imgbuild/firstboot/phases"
	"github.com/imgbuild/imgbuild/test/stock"
)

const (
	// bootLimit bounds one boot.
	bootLimit = 20 * time.Minute
	// idleAfter is how long a machine is left alone before its memory is looked at.
	idleAfter = time.Minute
	// diskSize is in bytes.
	diskSize = 8 << 30
	// apiPort is where API servers listen unless told otherwise.
	apiPort = 6443
)

// booted is one boot, of one machine or of several together.
type booted struct {
	ready     float64 // seconds from power-on
	done      float64 // seconds from power-on until the machines of a cluster have nothing left to do; 0: they never came there
	processor float64 // seconds of the host's processors used until ready
	line      *timeline.Timeline
}

func ready(b booted) float64     { return b.ready }
func done(b booted) float64      { return b.done }
func processor(b booted) float64 { return b.processor }

func column(boots []booted, of func(booted) float64) []float64 {
	out := make([]float64, len(boots))
	for i, b := range boots {
		out[i] = of(b)
	}
	return out
}

// candidate is a machine to be measured.
type candidate struct {
	vm.Options
	// finished recognises the last thing that happens by itself.
	finished func(vm.Event) bool
	// whole says that the node counts as Ready only when it has happened.
	whole bool
}

// handedOver recognises that first boot is done.
func handedOver(e vm.Event) bool {
	return e.Kind == vm.PhaseEnded && e.Name == phases.HandOver && e.State == "ok"
}

func (b *bench) ours(cpus int) (c candidate, err error) {
	guest, err := vm.SingleNode("cp-1", time.Now())
	if err != nil {
		return c, err
	}
	c.finished = handedOver
	err = b.complete(&c, "imgbuild", cpus, guest)
	return c, err
}

// stock is a machine whose authority is made in advance, so that the host can ask the API;
// kubeadm makes everything else.
func (b *bench) stock(media *stock.Media, cpus int) (c candidate, err error) {
	files, err := vm.ClusterCA(time.Now())
	if err != nil {
		return c, err
	}
	guest, err := stock.Machine{Name: "cp-1", Address: userAddress, PodRange: podRange(0), Step: stock.Init{}, Files: files}.Guest()
	if err != nil {
		return c, err
	}
	c.finished = func(e vm.Event) bool { return e.Kind == vm.Mark && e.Name == stock.InitMark }
	c.whole = true
	c.Spec.Disks = []string{media.Disk}
	err = b.complete(&c, "stock kubeadm init", cpus, *guest)
	return c, err
}

// userAddress is what QEMU's user-mode network gives a machine.
var userAddress = netip.MustParseAddr("10.0.2.15")

// podRange is the range of pods of the i-th stock machine.
func podRange(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(i), 0}), 24)
}

// complete adds what candidates have in common.
func (b *bench) complete(c *candidate, title string, cpus int, guest vm.Guest) error {
	a, err := agent()
	guest.Files, guest.Units = append(guest.Files, a.Files...), append(guest.Units, a.Units...)
	c.Guest, c.Title, c.Timeout = &guest, title, bootLimit
	c.Spec.Image, c.Spec.CPUs, c.Spec.MemoryMiB, c.Spec.DiskSize, c.Spec.Accel = b.image, cpus, vm.DefaultMemoryMiB, diskSize, vm.TCG
	c.Spec.NICs = []vm.NIC{{Forwards: []int{apiPort, agentPort}}}
	return err
}

// bootOne boots a machine and, when idle, goes on until it has been idle for a while. With an
// error after it was Ready, the boot is there all the same.
func (b *bench) bootOne(qemu *tool.Set, c candidate, idle bool) (r booted, err error) {
	finished := make(chan time.Duration, 1)
	b.say("%s: switched on, %d CPUs", c.Title, c.Spec.CPUs)
	c.Events = func(e vm.Event) {
		b.follow(c.Title, "the node", e)
		if c.finished(e) {
			select {
			case finished <- e.At:
			default: // it happens once
			}
		}
	}
	node, err := vm.Start(b.ctx, qemu, c.Options)
	if err != nil {
		return r, err
	}
	defer node.Close()
	result, err := node.WaitReady(b.ctx)
	if err != nil {
		return r, err
	}
	r.ready = result.Ready.D().Seconds()
	if c.whole {
		at, err := b.await(node, finished)
		if err != nil {
			return r, err
		}
		r.ready = max(r.ready, at.Seconds())
	}
	if r.processor, err = processorTime(node.Machine.PID()); err != nil {
		return r, err
	}
	b.say("%s: Ready in %.1f s", c.Title, r.ready)
	r.line = node.Timeline()
	if !idle {
		return r, nil
	}
	if !c.whole {
		if _, err := b.await(node, finished); err != nil {
			return r, err
		}
	}
	return r, b.idle(node, c.Title)
}

// await waits until a machine that is Ready has done the rest.
func (b *bench) await(node *vm.Node, finished <-chan time.Duration) (at time.Duration, err error) {
	select {
	case at = <-finished:
		return at, nil
	case <-time.After(bootLimit):
		return at, node.Machine.Failure(fmt.Errorf("it is Ready, but not done after %s", bootLimit))
	case <-node.Machine.Exited():
		return at, node.Machine.Failure(errors.New("the machine ended"))
	case <-b.ctx.Done():
		return at, b.ctx.Err()
	}
}

// idle leaves a machine alone for a while and then asks it for its memory.
func (b *bench) idle(node *vm.Node, name string) error {
	b.say("%s: asking for its memory in %s", name, idleAfter)
	if err := b.pause(idleAfter); err != nil {
		return err
	}
	address, err := node.Machine.Forward(b.ctx, agentPort)
	if err != nil {
		return err
	}
	conn, err := (&net.Dialer{}).DialContext(b.ctx, "tcp", address)
	if err != nil {
		return err
	}
	m, err := memory(conn, name)
	if err == nil {
		b.report.Memory = append(b.report.Memory, m)
	}
	return err
}
