// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/imgbuild/imgbuild/builder/timeline"
	"github.com/imgbuild/imgbuild/builder/tool"
	"github.com/imgbuild/imgbuild/builder/vm"
	"github.com/imgbuild/imgbuild/test/bench/baseline"
)

// bootLimit bounds one boot.
const bootLimit = 20 * time.Minute

// boot measures from starting QEMU to a Ready node, ours and the baseline's by turns.
func (b *bench) boot() error {
	qemu, err := b.output("tool", "path", "qemu")
	if err != nil {
		return err
	}
	b.say("preparing the baseline: kubeadm and image archives")
	work := filepath.Join(b.root, "out/bench")
	if err := os.MkdirAll(work, 0o755); err != nil {
		return err
	}
	disk, err := baseline.Disk(b.ctx, b.root, b.image, work, b.component)
	if err != nil {
		return err
	}
	for _, cpus := range b.cpus {
		var ours, stock, busy []float64
		for i := range b.runs {
			r, err := b.ours(tool.New(qemu), cpus)
			if err != nil {
				return err
			}
			s, err := b.stock(tool.New(qemu), disk, cpus)
			if err != nil {
				return err
			}
			b.say("boot %d with %d CPUs: Ready in %.1f s, stock kubeadm in %.1f s", i+1, cpus, r.ready, s.ready)
			ours, stock, busy = append(ours, r.ready), append(stock, s.ready), append(busy, r.cpu)
			b.report.Timelines[fmt.Sprintf("imgbuild, %d CPUs", cpus)] = r.line
			b.report.Timelines[fmt.Sprintf("kubeadm init, %d CPUs", cpus)] = s.line
			if err := b.pictures(cpus, r.line, s.line); err != nil {
				return err
			}
		}
		with := fmt.Sprintf(" (%d CPUs, TCG)", cpus)
		target := 0.0
		if cpus >= 4 {
			target = 50
		}
		b.report.add(Measure{Name: "power-on to Ready" + with, Unit: "s", Runs: ours, Target: target})
		b.report.add(Measure{Name: "stock kubeadm init" + with, Unit: "s", Runs: stock, Note: "power-on to kubeadm done and node Ready"})
		b.report.add(Measure{Name: "ours : stock" + with, Unit: "ratio", Runs: ratios(ours, stock), Target: 0.45})
		b.report.add(Measure{Name: "host CPU time of our boot" + with, Unit: "s", Runs: busy})
	}
	return nil
}

// booted is one boot.
type booted struct {
	ready float64 // seconds
	cpu   float64 // seconds of host CPU time
	line  *timeline.Timeline
}

func (b *bench) spec(cpus int) vm.Spec {
	return vm.Spec{Image: b.image, CPUs: cpus, MemoryMiB: vm.DefaultMemoryMiB, DiskSize: 8 << 30, Accel: vm.TCG}
}

func (b *bench) ours(qemu *tool.Set, cpus int) (booted, error) {
	return b.time(qemu, vm.Options{Spec: b.spec(cpus), Title: "imgbuild", Timeout: bootLimit}, "")
}

func (b *bench) stock(qemu *tool.Set, disk string, cpus int) (booted, error) {
	guest, err := baseline.Guest(time.Now())
	if err != nil {
		return booted{}, err
	}
	spec := b.spec(cpus)
	spec.Disks = []string{disk}
	return b.time(qemu, vm.Options{Spec: spec, Guest: guest, Title: "stock kubeadm init", Timeout: bootLimit}, baseline.DoneMark)
}

// time boots once. With a mark, the boot counts until the mark was seen and the node is Ready.
func (b *bench) time(qemu *tool.Set, o vm.Options, mark string) (r booted, err error) {
	seen := make(chan time.Duration, 1)
	if mark == "" {
		seen <- 0
	}
	var tail []string
	o.Lines = func(l vm.Line) {
		if tail = append(tail, l.Text); len(tail) > 40 {
			tail = tail[1:]
		}
	}
	o.Events = func(e vm.Event) {
		if e.Kind == vm.Mark && e.Name == mark {
			seen <- e.At
		}
	}
	node, err := vm.Start(b.ctx, qemu, o)
	if err != nil {
		return r, err
	}
	defer node.Close()
	result, err := node.WaitReady(b.ctx)
	if err != nil {
		return r, err
	}
	select {
	case at := <-seen:
		r.ready = max(result.Ready.D(), at).Seconds()
	case <-time.After(bootLimit):
		return r, fmt.Errorf("%q was not seen:\n%s", mark, strings.Join(tail, "\n"))
	case <-node.Machine.Exited():
		return r, node.Machine.Failure(errors.New("the machine ended"))
	case <-b.ctx.Done():
		return r, b.ctx.Err()
	}
	r.line = node.Timeline()
	node.Close()
	if u := node.Machine.Usage(); u != nil {
		r.cpu = float64(syscall.TimevalToNsec(u.Utime)+syscall.TimevalToNsec(u.Stime)) / 1e9
	}
	return r, nil
}

// pictures keeps the last boot of each kind for people.
func (b *bench) pictures(cpus int, ours, stock *timeline.Timeline) error {
	write := func(name string, t *timeline.Timeline) error {
		return os.WriteFile(filepath.Join(b.root, "out/bench", fmt.Sprintf("%s-%dcpu.svg", name, cpus)), t.SVG(), 0o644)
	}
	return errors.Join(write("imgbuild", ours), write("kubeadm", stock))
}

// component asks imgbuild for the programs of a component, which it builds if need be.
func (b *bench) component(name string) ([]string, error) {
	out, err := b.output("component", name)
	return strings.Fields(out), err
}

func (b *bench) output(args ...string) (string, error) {
	cmd := exec.CommandContext(b.ctx, b.tool, append([]string{"--progress", "none"}, args...)...)
	cmd.Dir, cmd.Stderr = b.root, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", cmd, err)
	}
	return strings.TrimSpace(string(out)), nil
}
