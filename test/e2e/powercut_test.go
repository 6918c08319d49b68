// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/builder/vm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/status"
)

// cut says when to pull the plug: at the first event it matches.
type cut struct {
	name string
	at   func(vm.Event) bool
	// after is how much later than the event.
	after time.Duration
}

func phaseDone(name string) func(vm.Event) bool {
	return func(e vm.Event) bool { return e.Kind == vm.PhaseEnded && e.Name == name && e.State == "ok" }
}

func kind(k vm.Kind) func(vm.Event) bool {
	return func(e vm.Event) bool { return e.Kind == k }
}

// TestPowerCut kills the machine in the middle of first boot, twice on the same disk, and
// expects the third start to converge.
func TestPowerCut(t *testing.T) {
	e := needLong(t)
	survive(t, e, cut{"keys are being made", kind(vm.FirstbootStarted), 300 * time.Millisecond},
		cut{"objects are being written", phaseDone("api"), 500 * time.Millisecond})
}

// TestPowerCuts does it at every transition, each on a disk of its own.
func TestPowerCuts(t *testing.T) {
	e := needLong(t)
	for _, seconds := range []int{6, 8, 10, 12} {
		t.Run(fmt.Sprintf("%d s after power-on", seconds), func(t *testing.T) {
			survive(t, e, cut{"early", func(vm.Event) bool { return true }, time.Duration(seconds) * time.Second})
		})
	}
	for _, name := range []string{"base-image", "certs", "kubeconfig", "etcd", "control-plane", "kubelet-start", "upload-config", "addons", "bootstrap-token", "node-ready", "hand-over"} {
		t.Run(name, func(t *testing.T) { survive(t, e, cut{name, phaseDone(name), 0}) })
	}
}

// survive cuts the power as told, then lets the machine come up and looks at it.
func survive(t *testing.T, e env, cuts ...cut) {
	t.Helper()
	dir := t.TempDir()
	for _, c := range cuts {
		e.cutPower(t, dir, c)
	}
	o := e.options(t)
	o.Spec.Dir = dir
	g, result := e.boot(t, o)
	keepTimeline(t, e, "powercut", result.Timeline.SVG())
	g.allPodsReady(components...)
	g.startProbe(t)
	g.eventually("first boot is done", 2*time.Minute, func() error {
		_, err := g.probeCommand("cat", "/var/lib/imgbuild/firstboot/done")
		return err
	})
	g.statusFile(status.Ready)
	g.checks(node.ControlPlane)
}

// cutPower boots the machine in dir and kills QEMU at the cut.
func (e env) cutPower(t *testing.T, dir string, c cut) {
	t.Helper()
	o := e.options(t)
	o.Spec.Dir = dir
	reached := make(chan struct{}, 1)
	show := o.Events
	o.Events = func(ev vm.Event) {
		show(ev)
		if c.at(ev) {
			select {
			case reached <- struct{}{}:
			default:
			}
		}
	}
	node, err := vm.Start(t.Context(), e.qemu, o)
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	select {
	case <-reached:
		time.Sleep(c.after)
	case <-node.Machine.Exited():
		t.Fatalf("before %q: %v", c.name, node.Machine.Err())
	case <-time.After(bootTimeout):
		t.Fatalf("%q was not reached within %s", c.name, bootTimeout)
	}
	t.Logf("cutting the power: %s", c.name)
	node.Machine.Kill()
}
