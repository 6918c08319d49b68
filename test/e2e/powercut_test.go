// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/builder/vm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
	"github.com/imgbuild/imgbuild/firstboot/status"
)

// TestPowerCuts pulls the plug of a control plane while its disk is made, and then where each
// phase begins and ends, always on the same disk. The last start must find its way.
func TestPowerCuts(t *testing.T) {
	e := needLong(t)
	c, err := newChain(node.ControlPlane, true)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	boots := 0
	start := func(b *chainBoot) *guest {
		boots++
		o := e.options(t)
		o.Spec.Dir, o.Files, o.Events, o.Lines = dir, []vm.GuestFile{logOnConsole}, nil, c.line
		return e.start(t, o)
	}
	var g *guest
	for g == nil {
		b := c.begin()
		running := start(b)
		if !awaitCut(t, c, b, boots, running.node.Machine) {
			g = running
		}
	}
	result, err := g.node.WaitReady(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("after %d cuts Ready in %s\n%s", boots-1, result.Ready.D().Round(10*time.Millisecond), result.Timeline.Table())
	keepTimeline(t, e, "powercut", result.Timeline.SVG())
	g.allPodsReady(components...)
	g.startProbe(t)
	g.converged(c, node.ControlPlane)
}

// TestPowerCutsWorker does the same to a worker, whose control plane stays up.
func TestPowerCutsWorker(t *testing.T) {
	e := needLong(t)
	c, err := newChain(node.Worker, false)
	if err != nil {
		t.Fatal(err)
	}
	r := e.render(t, rendering{controlPlanes: 1, workers: 1, probe: true, files: []vm.GuestFile{logOnConsole}})
	name := r.host(node.Worker)
	b := c.begin()
	run := e.startCluster(t, r.dir, r.index, func(o *vm.FleetOptions) {
		o.Machine.MemoryMiB, o.Machine.Disks = pairMemoryMiB, []string{e.probeDisk}
		events := o.Events
		o.Events = func(host string, ev vm.Event) {
			if host != name {
				events(host, ev)
			}
		}
		o.Lines = func(host string, l vm.Line) {
			if host == name {
				c.line(l)
			}
		}
	})
	worker := run.fleet.Member(name)
	boots := 1
	for ; awaitCut(t, c, b, boots, worker.Machine()); boots++ {
		worker.Kill() // it is off; this tells the fleet
		b = c.begin()
		if err := worker.Start(); err != nil {
			t.Fatal(err)
		}
	}
	run.waitReady()
	t.Logf("after %d cuts %s is Ready in %s\n%s", boots-1, name, worker.Ready().Round(10*time.Millisecond), worker.Timeline().Table())
	run.allPodsReady(components...)
	run.enter(name).converged(c, node.Worker)
}

// awaitCut waits for the cut of a boot, makes it and says so; or for the node to be Ready.
func awaitCut(t *testing.T, c *chain, b *chainBoot, boot int, m *vm.Machine) bool {
	t.Helper()
	c.on(m.Spec.Accel)
	select {
	case cut := <-b.next:
		time.Sleep(cut.after)
		m.Kill()
		t.Logf("boot %2d: cut %s after %q; %s", boot, cut.after.Round(time.Millisecond), cut.name, c.cutOff(b))
		return true
	case err := <-b.ended:
		if err != nil {
			t.Fatalf("boot %d: %v", boot, m.Failure(err))
		}
		t.Logf("boot %2d: Ready", boot)
	case <-m.Exited():
		t.Fatalf("boot %d: the machine ended: %v", boot, m.Err())
	case <-time.After(bootTimeout):
		t.Fatalf("boot %d: nothing new within %s:\n%v", boot, bootTimeout, m.Failure(errors.New("timeout")))
	}
	return false
}

// converged expects a node that is as if nothing had happened to it, and a journal that has
// seen what did.
func (in *inside) converged(c *chain, role node.Role) {
	in.Helper()
	if missed := c.missed(); len(missed) > 0 {
		in.Errorf("the power was never cut at: %s", strings.Join(missed, ", "))
	}
	in.read("cat", "/var/lib/imgbuild/firstboot/done")
	entries, _, err := phase.ParseJournal([]byte(in.read("cat", phase.JournalPath)))
	if err != nil {
		in.Fatal(err)
	}
	boots, cut := cutPhases(entries)
	done := map[string]bool{}
	for _, e := range entries {
		done[e.Phase] = e.Event == phase.EventDone
		if e.Event == phase.EventFailed {
			in.Logf("%s failed: %s", e.Phase, e.Error)
		}
	}
	in.Logf("the journal has %d entries of %d boots; cut in the middle: %s", len(entries), boots, strings.Join(cut, ", "))
	for name, is := range done {
		if !is {
			in.Errorf("phase %s is not done", name)
		}
	}
	if boots < 3 || len(cut) == 0 {
		in.Errorf("only %d boots are in the journal, with %d phases cut in the middle", boots, len(cut))
	}
	in.statusFile(status.Ready)
	in.checks(role)
}

// cutPhases counts the boots of a journal and names the phases that one began and did not end.
func cutPhases(entries []phase.Entry) (boots int, cut []string) {
	var open []string
	for i, e := range entries {
		if i == 0 || e.Boot != entries[i-1].Boot {
			boots++
			cut, open = append(cut, open...), nil
		}
		if e.Event == phase.EventStart {
			open = append(open, e.Phase)
		} else {
			open = slices.DeleteFunc(open, func(name string) bool { return name == e.Phase })
		}
	}
	return boots, cut
}

func TestCutPhases(t *testing.T) {
	entry := func(boot, name, event string) phase.Entry { return phase.Entry{Boot: boot, Phase: name, Event: event} }
	boots, cut := cutPhases([]phase.Entry{
		entry("1", "a", phase.EventStart), entry("1", "b", phase.EventStart), entry("1", "a", phase.EventDone),
		entry("2", "b", phase.EventStart), entry("2", "b", phase.EventFailed), entry("2", "c", phase.EventStart),
		entry("3", "c", phase.EventDone),
	})
	if boots != 3 || !slices.Equal(cut, []string{"b", "c"}) {
		t.Errorf("%d boots, cut in %v", boots, cut)
	}
}
