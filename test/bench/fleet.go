// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

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

// power is how machines are switched on.
type power struct {
	title string
	vm.FleetOptions
	// finished recognises that a machine has done everything that it does by itself.
	finished func(vm.Event) bool
	// lenient says that machines that are Ready and never finish are measured all the same.
	lenient bool
	// beside does something while they boot, when it is not nil, until the context it is given
	// ends. What goes wrong in it is as if a machine did not finish.
	beside func(context.Context, *running) error
}

// powerOn switches machines on and waits until all are Ready and finished. The caller closes the
// fleet.
func (b *bench) powerOn(qemu *tool.Set, p power) (_ *running, err error) {
	b.say("%s: switched on", p.title)
	p.Machine.Image, p.Machine.DiskSize, p.Machine.Accel, p.Machine.CPUs = b.image, diskSize, vm.TCG, b.machineCPUs
	r := &running{finished: make(chan time.Duration, len(p.Hosts))}
	p.Events = func(host string, e vm.Event) {
		b.follow(p.title, host, e)
		if p.finished(e) {
			r.finish(e.At)
		}
	}
	if r.Fleet, err = vm.StartFleet(b.ctx, qemu, p.FleetOptions); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	cancelable, cancel := context.WithCancel(b.ctx)
	beside, ctx := errgroup.WithContext(cancelable)
	defer func() { cancel(); _ = beside.Wait() }() // what it returns is the cause of ctx by then
	if p.beside != nil {
		beside.Go(func() error { return p.beside(ctx, r) })
	}
	if err = r.WaitReady(ctx); err != nil {
		return nil, because(ctx, err)
	}
	result := r.Result()
	r.ready, r.line = result.Ready.D().Seconds(), result.Timeline
	if err = r.used(); err != nil {
		return nil, err
	}
	b.say("%s: all Ready in %.1f s", p.title, r.ready)
	last, err := r.allFinished(ctx, bootLimit)
	switch {
	case err == nil:
		r.done = max(r.ready, last.Seconds())
		b.say("%s: all done in %.1f s", p.title, r.done)
	case p.lenient && b.ctx.Err() == nil:
		b.say("%s: not all done: %v", p.title, err)
		err = nil
	}
	return r, err
}

// because is err, or what ended ctx where that is the reason for it.
func because(ctx context.Context, err error) error {
	if errors.Is(err, context.Canceled) {
		return context.Cause(ctx)
	}
	return err
}

// used notes what the machines have cost so far.
func (r *running) used() error {
	for _, m := range r.Members {
		used, err := processorTime(m.Machine().PID())
		if err != nil {
			return err
		}
		r.processor += used
	}
	return nil
}

// finish notes that a machine has done what it does by itself.
func (r *running) finish(at time.Duration) {
	select {
	case r.finished <- at:
	default: // every machine has had one already
	}
}

// allFinished waits until every machine has done what it does by itself, and returns when the
// last one had. It can be called once.
func (r *running) allFinished(ctx context.Context, within time.Duration) (last time.Duration, err error) {
	limit := time.After(within)
	for range r.Members {
		select {
		case at := <-r.finished:
			last = max(last, at)
		case <-limit:
			return 0, fmt.Errorf("the nodes are Ready, but not every machine was done after %s", within)
		case <-ctx.Done():
			return 0, context.Cause(ctx)
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
	case vm.Noted:
		what = e.Text
	}
	if what == "" || strings.HasPrefix(what, "ignition-") {
		return
	}
	b.say("%s: %6.1f s  %s %s", title, e.At.Seconds(), host, what)
}
