// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/builder/vm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phases"
)

// chain decides when to cut the power of one machine that is started again and again. Each boot
// lasts until something begins or ends that no boot before it got to, so a boot either gets
// further than all before it or is the last.
//
// What it listens to are the console's lines, with firstboot's log among them (logOnConsole):
// a phase is begun on the log just before its entry in the journal is written, and ended on the
// console just after.
type chain struct {
	mu sync.Mutex
	// cuts are those still to come at each transition, by how long after it.
	cuts map[string][]time.Duration
	boot *chainBoot
	// accel is what runs the machine, known a moment after its power came.
	accel vm.Accel
}

// chainBoot is one boot of a chain.
type chainBoot struct {
	// next delivers the boot's cut; ended how the boot ended instead, nil when the node is Ready.
	next     chan powerCut
	ended    chan error
	failures vm.Failures
	cut      bool
	at       time.Duration // of the latest line
	seen     []string      // since the cut was decided, and the reason for it
}

// powerCut says when to pull the plug.
type powerCut struct {
	name  string
	at    time.Duration // since power-on
	after time.Duration
}

// slack is how late a phase's cut may be; what happens meanwhile shares it. It grows with what
// another boot would take: 25 ms where that is 12 s, 700 ms where it is 65 s, never above a second.
func slack(at time.Duration) time.Duration {
	return min(time.Second, time.Duration(at.Seconds()*at.Seconds()/6000*float64(time.Second)))
}

// beforeFirstboot is what happens to the disk before first boot, each cut at several moments.
var beforeFirstboot = map[string][]time.Duration{
	"repart begins":   {50 * time.Millisecond, 500 * time.Millisecond, 1500 * time.Millisecond},
	"ignition begins": {50 * time.Millisecond, 500 * time.Millisecond, 1500 * time.Millisecond},
	"root begins":     {0},
}

// newChain returns the chain of every transition of a role's first boot, with the moments
// before it or without.
func newChain(role node.Role, early bool) (*chain, error) {
	graph, err := phases.Graph(node.Timeouts{})
	if err != nil {
		return nil, err
	}
	c := &chain{cuts: map[string][]time.Duration{}}
	if early {
		maps.Copy(c.cuts, beforeFirstboot)
	}
	for _, step := range graph.Plan(string(role)) {
		c.cuts[step.Name+" begins"], c.cuts[step.Name+" ends"] = []time.Duration{0}, []time.Duration{0}
	}
	return c, nil
}

// logOnConsole shows firstboot's log on the console, where a phase's beginning is seen.
var logOnConsole = vm.GuestFile{Path: "/etc/systemd/system/firstboot.service.d/console.conf", Mode: 0o644,
	Data: []byte("[Service]\nStandardError=journal+console\n")}

var (
	beginning = regexp.MustCompile(` msg=phase phase=(\S+) state=running `)
	repart    = regexp.MustCompile(`^ *Starting systemd-repart\.s`)
)

// transition names what a line says has begun or ended.
func transition(l vm.Line) string {
	if m := beginning.FindStringSubmatch(l.Text); m != nil {
		return m[1] + " begins"
	}
	if repart.MatchString(l.Text) {
		return "repart begins"
	}
	e, ok := vm.ParseLine(l)
	switch {
	case !ok:
	case e.Kind == vm.PhaseEnded && (e.State == "ok" || e.State == "checked"):
		return e.Name + " ends"
	case e.Kind == vm.Mark && e.Name == "ignition-all stages":
		return "ignition begins"
	case e.Kind == vm.RootSwitched:
		return "root begins"
	}
	return ""
}

// begin prepares for the next boot.
func (c *chain) begin() *chainBoot {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.boot = &chainBoot{next: make(chan powerCut, 1), ended: make(chan error, 1)}
	return c.boot
}

// on says what runs the machine.
func (c *chain) on(a vm.Accel) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.accel = a
}

// line handles a console line of the current boot.
func (c *chain) line(l vm.Line) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.boot
	b.at = l.At
	if name := transition(l); name != "" {
		c.reached(b, name, l.At)
	}
	e, ok := vm.ParseLine(l)
	if !ok || b.cut {
		return
	}
	if e.Kind == vm.NodeReady {
		b.end(nil)
	}
	// What was cut may take first boot a second try.
	if b.failures.Judge(e, c.accel) == vm.Ended {
		b.end(fmt.Errorf("the node did not start: %s", l.Text))
	}
}

// reached notes a transition. The first with a cut to come decides this boot; phases that
// change before the power is gone share its cut.
func (c *chain) reached(b *chainBoot, name string, at time.Duration) {
	left := c.cuts[name]
	_, early := beforeFirstboot[name]
	if len(left) == 0 || b.cut && early {
		return
	}
	c.cuts[name] = left[1:]
	b.seen = append(b.seen, name)
	if b.cut {
		return
	}
	b.cut = true
	cut := powerCut{name: name, at: at, after: left[0]}
	if !early {
		cut.after = slack(at)
	}
	b.next <- cut
}

func (b *chainBoot) end(err error) {
	select {
	case b.ended <- err:
	default:
	}
}

// cutOff says what the boot got to that none before it did, when its power is gone.
func (c *chain) cutOff(b *chainBoot) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprintf("after %.2f s: %s", b.at.Seconds(), strings.Join(b.seen, ", "))
}

// missed are the transitions that no boot got to.
func (c *chain) missed() (out []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(c.cuts)) {
		if len(c.cuts[name]) > 0 {
			out = append(out, name)
		}
	}
	return out
}

// TestChain takes a chain through boots without machines.
func TestChain(t *testing.T) {
	c, err := newChain(node.Worker, true)
	if err != nil {
		t.Fatal(err)
	}
	if c.cuts["etcd begins"] != nil || c.cuts["kubelet-start ends"] == nil {
		t.Fatalf("not a worker's chain: %v", c.missed())
	}
	c.cuts = map[string][]time.Duration{"repart begins": {time.Second, 2 * time.Second}, "preflight begins": {0}, "preflight ends": {0}, "cni begins": {0}, "cni ends": {0}}
	lines := []vm.Line{
		{At: 5 * time.Second, Text: "         Starting systemd-repart.service..."},
		{At: 20 * time.Second, Text: "[   18.1] firstboot[300]: level=INFO msg=phase phase=preflight state=running took=0.000s"},
		{At: 21 * time.Second, Text: "imgbuild: phase preflight ok 0.10s (t=18.3s)"},
		{At: 22 * time.Second, Text: "[   18.1] firstboot[300]: level=INFO msg=phase phase=cni state=running took=0.000s"},
		{At: 23 * time.Second, Text: "imgbuild: phase cni checked 0.10s (t=18.3s)"},
		{At: 24 * time.Second, Text: "imgbuild: node w-1 Ready t=19.0s"},
	}
	for i, boot := range []struct {
		lines int // shown before the power is gone
		want  powerCut
		seen  string
	}{
		{1, powerCut{"repart begins", 5 * time.Second, time.Second}, "repart begins"},
		{2, powerCut{"repart begins", 5 * time.Second, 2 * time.Second}, "repart begins, preflight begins"},
		{3, powerCut{"preflight ends", 21 * time.Second, slack(21 * time.Second)}, "preflight ends"},
		{6, powerCut{"cni begins", 22 * time.Second, slack(22 * time.Second)}, "cni begins, cni ends"},
	} {
		b := c.begin()
		for _, l := range lines[:boot.lines] {
			c.line(l)
		}
		select {
		case got := <-b.next:
			if got != boot.want || !strings.HasSuffix(c.cutOff(b), " s: "+boot.seen) {
				t.Errorf("boot %d is cut at %+v, %s; want %+v, %s", i, got, c.cutOff(b), boot.want, boot.seen)
			}
		default:
			t.Fatalf("boot %d is not cut, of which %v were seen", i, lines[:boot.lines])
		}
	}
	b := c.begin()
	for _, l := range lines {
		c.line(l)
	}
	select {
	case err := <-b.ended:
		if missed := c.missed(); err != nil || len(b.next) > 0 || len(missed) > 0 {
			t.Errorf("the last boot: %v, missed %v", err, missed)
		}
	default:
		t.Error("the last boot is not the last")
	}
	b = c.begin()
	for range 3 {
		c.line(vm.Line{Text: "imgbuild: node w-1 failed t=19.0s: no"})
	}
	if len(b.ended) != 1 || <-b.ended == nil {
		t.Error("a machine that fails again and again is waited for")
	}
}
