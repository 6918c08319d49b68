// SPDX-License-Identifier: Apache-2.0

package vip

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/endpoint"
)

// conditions are the paths that have to exist for a unit of the image to start.
func conditions(t *testing.T, unit string) (paths []string) {
	t.Helper()
	text, err := os.ReadFile("../../assets/units/" + unit)
	must(t, err)
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "ConditionPathExists="); ok {
			paths = append(paths, path)
		}
	}
	return paths
}

// TestPowerFailure switches all machines off and on again, with what they have on disk after
// their first boot. One of them was off when another was added: it would take the address that the
// new one has, so nobody has it before an API server can say who the control planes are.
func TestPowerFailure(t *testing.T) {
	l, c := running(t, 3)
	away := l.Machines[0]
	must(t, away.Reboot(), away.StopAPI())
	c.Register(away, false)
	fourth, err := l.Add()
	must(t, err, fourth.StartAPI())
	c.Register(fourth, true)
	for _, m := range l.Machines[1:3] {
		follow(t, c, m, 0, whatever, true, "")
	}
	follow(t, c, fourth, 0, endpoint.Admitted, true, "")
	owner(t, l, "four machines, one of them off", not(away), true)
	for _, m := range l.Machines {
		must(t, m.Reboot(), m.StopAPI())
	}
	if lists(t, away, fourth) {
		t.Fatal("the machine that was off knows the new one")
	}

	w := l.Witness()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	booted := make(chan error, len(l.Machines))
	unit := conditions(t, "keepalived.service")
	for _, m := range l.Machines {
		go func() { booted <- m.Boot(ctx, c, unit) }()
	}
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if owners, err := l.Owners(); err != nil || len(owners) > 0 {
			t.Fatalf("%d machines have the address before any API server answers: %v", len(owners), err)
		}
	}
	first := l.Machines[2]
	must(t, first.StartAPI())
	owner(t, l, "the first API server", is(first), true)
	for range l.Machines {
		must(t, <-booted)
	}
	for _, m := range l.Machines {
		if m != first {
			must(t, m.StartAPI())
		}
		if m != fourth && !lists(t, m, fourth) {
			t.Errorf("%s does not list %s", m.Name, fourth.Name)
		}
	}
	alone(t, l, w, "after a power failure")
	owner(t, l, "all API servers, nothing to move for", is(first), true)
}
