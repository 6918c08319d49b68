// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"

	"github.com/imgbuild/imgbuild/builder/tool"
	"github.com/imgbuild/imgbuild/builder/vm"
)

// powerOn switches machines on and waits until all are Ready and, where finished is not nil,
// until every machine had an event that it recognises. The caller closes the fleet.
func (b *bench) powerOn(qemu *tool.Set, title string, o vm.FleetOptions, finished func(vm.Event) bool) (f *vm.Fleet, r booted, err error) {
	b.say("%s: switched on", title)
	o.Machine.Image, o.Machine.DiskSize, o.Machine.Accel = b.image, diskSize, vm.TCG
	done := make(chan time.Duration, len(o.Hosts))
	o.Events = func(host string, e vm.Event) {
		b.follow(title, host, e)
		if finished != nil && finished(e) {
			select {
			case done <- e.At:
			default: // every machine has had one already
			}
		}
	}
	if f, err = vm.StartFleet(b.ctx, qemu, o); err != nil {
		return nil, r, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err = f.WaitReady(b.ctx); err != nil {
		return nil, r, err
	}
	result := f.Result()
	r.ready, r.line = result.Ready.D().Seconds(), result.Timeline
	limit := time.After(bootLimit)
	for range o.Hosts {
		if finished == nil {
			break
		}
		select {
		case at := <-done:
			r.ready = max(r.ready, at.Seconds())
		case <-limit:
			return nil, r, fmt.Errorf("%s: the nodes are Ready, and what made them was not done after %s", title, bootLimit)
		case <-b.ctx.Done():
			return nil, r, b.ctx.Err()
		}
	}
	for _, m := range f.Members {
		used, err := processorTime(m.Machine().PID())
		if err != nil {
			f.Close()
			return nil, r, err
		}
		r.processor += used
	}
	b.say("%s: all Ready in %.1f s", title, r.ready)
	return f, r, nil
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
	default:
		return
	}
	b.say("%s: %6.1f s  %s %s", title, e.At.Seconds(), host, what)
}
