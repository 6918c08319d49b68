// SPDX-License-Identifier: Apache-2.0

// Package vip holds the tests of the virtual address with the real keepalived and haproxy.
package vip

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/builder/seal/referee"
	"github.com/imgbuild/imgbuild/builder/tool"
	firstboot "github.com/imgbuild/imgbuild/firstboot/vip"
	"github.com/imgbuild/imgbuild/test/vip/lab"
)

// patience is how long a state may take to come about. It only bounds a test that fails.
const patience = 3 * time.Minute

func tools(t *testing.T) *tool.Set {
	t.Helper()
	dir := os.Getenv(referee.Variable)
	if dir == "" {
		t.Skipf("%s is not set; make test provides it", referee.Variable)
	}
	return tool.New(dir)
}

// segment is three machines with nothing on them.
func segment(t *testing.T) *lab.Lab {
	t.Helper()
	return segmentOf(t, 3)
}

// segmentOf is a segment of so many machines.
func segmentOf(t *testing.T, count int) *lab.Lab {
	t.Helper()
	return made(t, count, lab.New)
}

// made is a segment of so many machines. The test is skipped where network namespaces cannot
// be made, for which testsum wants a permission.
func made(t *testing.T, count int, by func(int, *tool.Set, string, string) (*lab.Lab, error)) *lab.Lab {
	t.Helper()
	set := tools(t)
	dir := t.TempDir()
	l, err := by(count, set, watch(t, dir), dir)
	if errors.Is(err, lab.ErrPrivilege) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		for _, m := range l.Machines {
			if t.Failed() {
				t.Log(m.Log())
			}
		}
	})
	return l
}

// watch compiles vip-health.
func watch(t *testing.T, dir string) string {
	t.Helper()
	return build(t, dir, "vip-health", "github.com/imgbuild/imgbuild/firstboot/cmd/vip-health")
}

// build compiles a program to dir/name.
func build(t *testing.T, dir, name, pkg string) string {
	t.Helper()
	program := filepath.Join(dir, name)
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", program, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return program
}

// owner waits for one owner that is as wanted, and that everybody outside sees.
func owner(t *testing.T, l *lab.Lab, what string, wanted func(*lab.Machine) bool, answers bool) *lab.Machine {
	t.Helper()
	var names, seen string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		owners, err := l.Owners()
		if err != nil {
			t.Fatal(err)
		}
		names = ""
		for _, o := range owners {
			names += " " + o.Name
		}
		if len(owners) != 1 || !wanted(owners[0]) {
			continue
		}
		if !answers {
			return owners[0]
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		seen, err = l.Ask(ctx)
		cancel()
		if err == nil && seen == owners[0].Name {
			return owners[0]
		}
	}
	t.Fatalf("%s: owners are%s, %q answers", what, names, seen)
	return nil
}

func anybody(*lab.Machine) bool { return true }

func not(m *lab.Machine) func(*lab.Machine) bool {
	return func(o *lab.Machine) bool { return o != m }
}

func is(m *lab.Machine) func(*lab.Machine) bool { return func(o *lab.Machine) bool { return o == m } }

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// TestOneOwner follows the address through what happens to a cluster.
func TestOneOwner(t *testing.T) {
	l := segment(t)
	for _, m := range l.Machines {
		must(t, m.Start())
	}
	owner(t, l, "before any API server answers", anybody, false)

	first := l.Machines[1]
	must(t, first.StartAPI())
	owner(t, l, "one API server", is(first), true)

	for _, m := range l.Machines {
		if m != first {
			must(t, m.StartAPI())
		}
	}
	owner(t, l, "all API servers, nothing to move for", is(first), true)

	must(t, first.StopAPI())
	second := owner(t, l, "the owner's API server is gone", not(first), true)
	must(t, first.StartAPI())

	must(t, second.Crash())
	third := owner(t, l, "the owner's keepalived crashed", not(second), true)
	must(t, second.Stop(), second.Start())
	owner(t, l, "keepalived came back", is(third), true)

	must(t, third.Kill(), third.Start())
	fourth := owner(t, l, "keepalived and its child were killed and started again", anybody, true)

	must(t, fourth.Plug(false))
	fifth := func() *lab.Machine { // the isolated owner still believes that it is one
		for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			owners, err := l.Owners()
			must(t, err)
			for _, o := range owners {
				if o != fourth {
					return o
				}
			}
		}
		t.Fatal("nobody took over from an owner that was cut off")
		return nil
	}()
	must(t, fourth.Plug(true))
	owner(t, l, "the segment is whole again, one of "+fourth.Name+" and "+fifth.Name, func(m *lab.Machine) bool { return m == fourth || m == fifth }, true)
}

// TestEverythingStartsAtOnce is machines that found a cluster at the same moment. TestPowerFailure
// is about later boots.
func TestEverythingStartsAtOnce(t *testing.T) {
	l := segment(t)
	for _, m := range l.Machines {
		must(t, m.StartAPI())
	}
	for _, m := range l.Machines {
		must(t, m.Start())
	}
	owner(t, l, "all began at once", anybody, true)
}

// TestAddressOnAnotherInterface has the virtual address on another interface than the machines'
// own addresses, by which they know each other.
func TestAddressOnAnotherInterface(t *testing.T) {
	l := made(t, 3, lab.NewApart)
	for _, m := range l.Machines {
		must(t, m.StartAPI(), m.Start())
	}
	first := owner(t, l, "a new cluster", anybody, true)
	time.Sleep(2 * time.Second) // who hears nobody has the address by now
	alone(t, l, l.Witness(), "nothing happens")
	must(t, first.StopAPI())
	owner(t, l, "the owner's API server is gone", not(first), true)
	must(t, first.StartAPI())

	for _, own := range []bool{false, true} {
		m := owner(t, l, "all links are up", anybody, true)
		must(t, m.Unplug(own, true))
		next := owner(t, l, "the owner lost a link", not(m), true)
		must(t, m.Unplug(own, false))
		owner(t, l, "the link is back", is(next), true)
	}

	c := &lab.Cluster{}
	for _, m := range l.Machines {
		c.Register(m, true)
	}
	before, err := first.Configuration()
	must(t, err)
	follow(t, c, first, 0, whatever, true, "")
	if after, err := first.Configuration(); err != nil || after != before {
		t.Errorf("following changed the configuration: %v\n%s\nwas\n%s", err, after, before)
	}
}

// TestKeepalivedAcceptsTheConfiguration asks keepalived itself.
func TestKeepalivedAcceptsTheConfiguration(t *testing.T) {
	set := tools(t)
	goldens, err := filepath.Glob("../../firstboot/vip/testdata/*.conf")
	if err != nil || len(goldens) == 0 {
		t.Fatal(goldens, err)
	}
	for _, g := range goldens {
		out, err := check(t, set, g)
		if err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", g, err, out)
		}
	}
	bad := filepath.Join(t.TempDir(), "bad.conf")
	text, err := os.ReadFile(goldens[0])
	must(t, err, os.WriteFile(bad, []byte(strings.Replace(string(text), "virtual_router_id", "virtual_router", 1)), 0o644))
	if out, err := check(t, set, bad); err == nil {
		t.Errorf("keepalived accepts anything: %s", out)
	}
}

// check lets keepalived read a configuration. The directory of the state file has to exist,
// as its unit sees to.
func check(t *testing.T, set *tool.Set, file string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	text, err := os.ReadFile(file)
	must(t, err)
	config := filepath.Join(dir, "keepalived.conf")
	must(t, os.WriteFile(config, []byte(strings.ReplaceAll(string(text), filepath.Dir(firstboot.StateFile), dir)), 0o644))
	report := filepath.Join(dir, "report")
	cmd, err := lab.Keepalived(t.Context(), set, dir, "--vrrp", "--config-test="+report, "--use-file", config)
	must(t, err)
	out, err := cmd.CombinedOutput()
	text, _ = os.ReadFile(report) // absent when there is nothing to say
	return string(out) + string(text), err
}
