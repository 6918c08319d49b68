// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/builder/tool"
	"github.com/imgbuild/imgbuild/builder/vm"
)

// running is machines that are all Ready.
type running struct {
	booted
	*vm.Fleet
	// finished receives a time from power-on of each machine that has done everything that
	// it does by itself.
	finished chan time.Duration
}

// powerOn switches machines on and waits until all are Ready: the nodes, and, when they are
// whole only when finished recognised an event of each, that too. The caller closes the fleet.
func (b *bench) powerOn(qemu *tool.Set, title string, o vm.FleetOptions, finished func(vm.Event) bool, whole bool) (_ *running, err error) {
	b.say("%s: switched on", title)
	o.Machine.Image, o.Machine.DiskSize, o.Machine.Accel = b.image, diskSize, vm.TCG
	r := &running{finished: make(chan time.Duration, len(o.Hosts))}
	o.Events = func(host string, e vm.Event) {
		b.follow(title, host, e)
		if finished(e) {
			select {
			case r.finished <- e.At:
			default: // every machine has had one already
			}
		}
	}
	if r.Fleet, err = vm.StartFleet(b.ctx, qemu, o); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	if err = r.WaitReady(b.ctx); err != nil {
		return nil, err
	}
	result := r.Result()
	r.ready, r.line = result.Ready.D().Seconds(), result.Timeline
	if whole {
		last, err := b.allFinished(r, bootLimit)
		if err != nil {
			return nil, err
		}
		r.ready = max(r.ready, last.Seconds())
	}
	for _, m := range r.Members {
		used, err := processorTime(m.Machine().PID())
		if err != nil {
			return nil, err
		}
		r.processor += used
	}
	b.say("%s: all Ready in %.1f s", title, r.ready)
	return r, nil
}

// allFinished waits until every machine has done what it does by itself, and returns when the
// last one had. It can be called once.
func (b *bench) allFinished(r *running, within time.Duration) (last time.Duration, err error) {
	limit := time.After(within)
	for range r.Members {
		select {
		case at := <-r.finished:
			last = max(last, at)
		case <-limit:
			return 0, fmt.Errorf("the nodes are Ready, but not every machine was done after %s", within)
		case <-b.ctx.Done():
			return 0, b.ctx.Err()
		}
	}
	return last, nil
}

// follow says where the machines of a fleet stand.
func (b *bench) follow(title, host string, e vm.Event) {
	var what string
	switch e.Kind {
	case vm.APIAnswered:
		what, host = "answers", "the API"
	case vm.ReadySeen:
		what = "is Ready"
	case vm.FirstbootStarted:
		what = "has booted"
	case vm.NodeFailed, vm.CannotStart, vm.Panicked:
		what = "failed: " + e.Text
	case vm.Mark:
		what = e.Name
	}
	if what == "" || strings.HasPrefix(what, "ignition-") {
		return
	}
	b.say("%s: %6.1f s  %s %s", title, e.At.Seconds(), host, what)
}
