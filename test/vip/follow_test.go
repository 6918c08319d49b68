// SPDX-License-Identifier: Apache-2.0

package vip

import (
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/endpoint"
	"github.com/imgbuild/imgbuild/firstboot/phases"
	"github.com/imgbuild/imgbuild/test/vip/lab"
)

// running is a segment whose machines have been a cluster for a while.
func running(t *testing.T, count int) (*lab.Lab, *lab.Cluster) {
	t.Helper()
	l, c := segmentOf(t, count), &lab.Cluster{}
	for _, m := range l.Machines {
		must(t, m.StartAPI(), m.Start())
		c.Register(m, true)
	}
	owner(t, l, "a new cluster", anybody, true)
	for _, m := range l.Machines {
		follow(t, c, m, 0, whatever, true, "")
	}
	return l, c
}

// whatever is any verdict: who runs is not stopped for what others do not say.
const whatever endpoint.Verdict = 0

// follow lets a machine look at the cluster, and checks what it concludes.
func follow(t *testing.T, c *lab.Cluster, m *lab.Machine, later time.Duration, want endpoint.Verdict, runs bool, missing string) *phases.Followed {
	t.Helper()
	r, err := m.Follow(t.Context(), c, later)
	must(t, err)
	why := strings.Join(r.Missing, "; ")
	if want != whatever && r.Verdict != want || r.Runs != runs || m.Running() != runs || missing != "" && !strings.Contains(why, missing) {
		t.Fatalf("%s: verdict %d, runs %v (keepalived %v), missing %q; want %d, %v, %q", m.Name, r.Verdict, r.Runs, m.Running(), why, want, runs, missing)
	}
	return r
}

// alone asserts that there never were two owners since the witness began. The witness looks on
// for some election times first.
func alone(t *testing.T, l *lab.Lab, w *lab.Witness, what string) {
	t.Helper()
	time.Sleep(3 * time.Second)
	w.End()
	looks, both, err := w.Seen()
	must(t, err)
	if looks < 100 || len(both) > 0 {
		t.Fatalf("%s: of %d looks %d saw two owners: %.1000q", what, looks, len(both), both)
	}
	t.Logf("%s: %d looks, never two owners", what, looks)
	owner(t, l, what, anybody, true)
}

func lists(t *testing.T, m, other *lab.Machine) bool {
	t.Helper()
	text, err := m.Configuration()
	must(t, err)
	return strings.Contains(text, other.Address.String()+" ")
}

// TestUnknownMachineWouldTakeTheAddress shows what machines are held for: one that the others
// do not list hears nobody. It also shows that the witness sees two owners.
func TestUnknownMachineWouldTakeTheAddress(t *testing.T) {
	l, _ := running(t, 3)
	fourth, err := l.Add()
	must(t, err)
	w := l.Witness()
	defer w.End()
	must(t, fourth.Start())
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if _, both, err := w.Seen(); err != nil || len(both) > 0 {
			must(t, err)
			return
		}
	}
	t.Error("a machine that nobody knows heard the owner")
}

// TestControlPlaneIsAdded adds a fourth machine to three, and takes it away again.
func TestControlPlaneIsAdded(t *testing.T) {
	l, c := running(t, 3)
	three := l.Machines
	first := owner(t, l, "before", anybody, true)
	fourth, err := l.Add()
	must(t, err)
	w := l.Witness()

	// It joins: its API server runs, its node is not there yet, then not known to others.
	must(t, fourth.StartAPI())
	follow(t, c, fourth, 0, endpoint.Expelled, false, "no control plane cp-4")
	c.Register(fourth, true)
	for _, m := range three {
		follow(t, c, fourth, 0, endpoint.Held, false, m.Name+" does not list this machine")
		if r := follow(t, c, m, 0, whatever, true, ""); len(r.Changed) != 1 || !lists(t, m, fourth) {
			t.Errorf("%s changed %v", m.Name, r.Changed)
		}
		if r := follow(t, c, m, 0, whatever, true, ""); len(r.Changed) != 0 {
			t.Errorf("%s changed %v again", m.Name, r.Changed)
		}
	}
	follow(t, c, fourth, 0, endpoint.Admitted, true, "")
	alone(t, l, w, "a fourth machine was added")
	owner(t, l, "nothing to move for", is(first), true)

	// It takes part: with nobody else healthy the address is its own.
	for _, m := range three {
		must(t, m.StopAPI())
	}
	owner(t, l, "only the fourth machine is healthy", is(fourth), true)
	for _, m := range three {
		must(t, m.StartAPI())
	}

	must(t, fourth.StopAPI())
	owner(t, l, "the fourth machine alone is not healthy", not(fourth), true)
	must(t, fourth.StartAPI())

	// Its node is deleted. It leaves by itself; the others keep it as a peer for long after that.
	w = l.Witness()
	c.Delete(fourth)
	for _, m := range three {
		follow(t, c, m, 0, endpoint.Admitted, true, "")
		if !lists(t, m, fourth) {
			t.Errorf("%s dropped a machine that runs", m.Name)
		}
	}
	follow(t, c, fourth, 0, endpoint.Expelled, false, "no control plane cp-4")
	for _, m := range three {
		follow(t, c, m, endpoint.Retention+time.Minute, endpoint.Admitted, true, "")
		if lists(t, m, fourth) {
			t.Errorf("%s keeps a machine that is gone for long", m.Name)
		}
	}
	alone(t, l, w, "the fourth machine was removed")

	// Its old disk is switched on again, long after everybody forgot it.
	w = l.Witness()
	must(t, fourth.Reboot())
	follow(t, c, fourth, 0, endpoint.Expelled, false, "no control plane cp-4")
	alone(t, l, w, "the fourth machine came back")
}

// TestControlPlaneReturns brings back one that missed that another was added, and one with an
// empty disk.
func TestControlPlaneReturns(t *testing.T) {
	l, c := running(t, 3)
	away := l.Machines[0]
	must(t, away.Reboot(), away.StopAPI())
	c.Register(away, false)
	owner(t, l, "one machine is off", not(away), true)
	fourth, err := l.Add()
	must(t, err, fourth.StartAPI())
	c.Register(fourth, true)
	for _, m := range l.Machines[1:3] {
		follow(t, c, m, 0, whatever, true, "")
	}
	// Nobody waits for who has been away for long.
	follow(t, c, fourth, 0, endpoint.Admitted, true, "")
	for _, m := range l.Machines[1:3] {
		must(t, m.Stop())
	}
	owner(t, l, "the new machine owns the address", is(fourth), true)
	for _, m := range l.Machines[1:3] {
		must(t, m.Reboot())
		follow(t, c, m, 0, endpoint.Admitted, true, "")
	}

	w := l.Witness()
	must(t, away.StartAPI())
	c.Register(away, true)
	if lists(t, away, fourth) {
		t.Fatal("the machine that was away cannot know the new one")
	}
	follow(t, c, away, 0, endpoint.Admitted, true, "")
	if !lists(t, away, fourth) {
		t.Error("it does not know the new one")
	}
	alone(t, l, w, "a machine with an old list came back")

	w = l.Witness()
	wiped := l.Machines[1]
	must(t, wiped.Wipe())
	follow(t, c, wiped, 0, endpoint.Admitted, true, "")
	if !lists(t, wiped, fourth) {
		t.Error("a machine with an empty disk goes by its document alone")
	}
	alone(t, l, w, "a machine with an empty disk came back")
}

// TestOneBecomesTwo is a cluster of one, which sends multicast, that grows.
func TestOneBecomesTwo(t *testing.T) {
	l, c := running(t, 1)
	first := l.Machines[0]
	second, err := l.Add()
	must(t, err, second.StartAPI())
	c.Register(second, true)
	w := l.Witness()
	follow(t, c, second, 0, endpoint.Held, false, "cp-1 does not list this machine")
	follow(t, c, first, 0, endpoint.Admitted, true, "")
	follow(t, c, second, 0, endpoint.Admitted, true, "")
	alone(t, l, w, "a second machine was added")
	owner(t, l, "nothing to move for", is(first), true)
	must(t, first.Stop())
	owner(t, l, "the first is gone", is(second), true)
}

// TestNobodyOwnsTheAddress holds a machine while the one it waits for carries nothing.
func TestNobodyOwnsTheAddress(t *testing.T) {
	l, c := running(t, 2)
	for _, m := range l.Machines {
		must(t, m.Stop())
	}
	third, err := l.Add()
	must(t, err, third.StartAPI())
	c.Register(third, true)
	follow(t, c, third, 0, endpoint.Held, false, "cp-1 does not list this machine")
	follow(t, c, third, 30*time.Second, endpoint.Held, false, "")
	follow(t, c, third, 61*time.Second, endpoint.Held, true, "")
	owner(t, l, "the others carry nothing", is(third), true)
}
