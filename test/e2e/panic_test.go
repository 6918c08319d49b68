// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"slices"
	"sync"
	"testing"

	"github.com/imgbuild/imgbuild/builder/vm"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// panicUnit runs in the middle of first boot.
const panicUnit = "[Unit]\nDescription=A panic, once\nRequiresMountsFor=" + probeDir + " /var/lib/imgbuild\n" +
	"[Service]\nType=oneshot\nExecStart=" + probeDir + "/probe panic /var/lib/imgbuild/panicked\n[Install]\nWantedBy=multi-user.target\n"

// TestPanic lets the kernel panic during first boot, in the way that emulation sometimes does:
// the machine restarts by itself, and the run goes on with it.
func TestPanic(t *testing.T) {
	e := needLong(t)
	o := e.options(t)
	// The panic is excused under TCG alone.
	o.Spec.Accel = vm.TCG
	o.Units = append(o.Units, vm.GuestUnit{Name: "imgbuildtest-panic.service", Contents: panicUnit})
	var mu sync.Mutex
	var kinds []vm.Kind
	events := o.Events
	o.Events = func(ev vm.Event) {
		events(ev)
		mu.Lock()
		defer mu.Unlock()
		kinds = append(kinds, ev.Kind)
	}
	g, result := e.boot(t, o)
	mu.Lock()
	panicked, noted := slices.Index(kinds, vm.Panicked), slices.Index(kinds, vm.Noted)
	mu.Unlock()
	if panicked < 0 || noted < panicked {
		t.Errorf("panic is event %d, the remark about it %d, of %v", panicked, noted, kinds)
	}
	for _, m := range result.Timeline.Moments {
		if m.At > result.Ready {
			t.Errorf("%s, at %s, is not of the boot that was Ready after %s", m.Name, m.At.D(), result.Ready.D())
		}
	}
	g.startProbe(t)
	g.read("cat", "/var/lib/imgbuild/panicked")
	g.checks(node.ControlPlane)
}
