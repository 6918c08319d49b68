// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/builder/vm"
	"github.com/imgbuild/imgbuild/test/e2e/probe/report"
)

// treeFile keeps what there was before the first first boot, where a reset has no business.
const treeFile = "/var/log/imgbuildtest-tree"

// resetUnit ends on the machine what resetting it would end in a pod.
const resetUnit = "imgbuildtest-reset.service"

var resetUnits = []vm.GuestUnit{
	{Name: "imgbuildtest-tree.service", Contents: "[Unit]\nDescription=List of files before first boot\nRequiresMountsFor=" + probeDir + " /var/log\n" +
		"Before=firstboot.service containerd.service kubelet.service\n" +
		"[Service]\nType=oneshot\nExecStart=" + probeDir + "/probe tree " + treeFile + "\n[Install]\nRequiredBy=firstboot.service\n"},
	{Name: resetUnit, Contents: "[Unit]\nDescription=Reset\n" +
		"[Service]\nType=oneshot\nStandardOutput=journal+console\nExecStart=" + probeDir + "/probe reset " + treeFile + "\n"},
}

// kept is what a machine may have after a reset that it did not have before first boot: what
// belongs to the machine, content of containerd, which is checked before it is used, and a public
// key, which may have been delivered. The upper directory of /etc has all that once more.
var kept = []string{"/var/log/", "/var/lib/containerd/", "/var/lib/systemd/", "/var/tmp/", "/var/cache/",
	"/etc/kubernetes/pki/sa.pub", "/var/lib/imgbuild/etc/upper/kubernetes/pki/sa.pub"}

// resetReport is what a reset's console lines say.
type resetReport struct {
	mu    sync.Mutex
	left  []string
	ended chan string
}

func (r *resetReport) line(l vm.Line) {
	if _, what, ok := strings.Cut(l.Text, report.LeftPrefix); ok {
		r.mu.Lock()
		r.left = append(r.left, strings.TrimSpace(what))
		r.mu.Unlock()
	}
	if _, how, ok := strings.Cut(l.Text, report.ResetPrefix); ok {
		r.ended <- strings.TrimSpace(how)
	}
}

// unexpected are the leftovers that no machine should have.
func (r *resetReport) unexpected() (out []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
left:
	for _, what := range r.left {
		for _, dir := range kept {
			if strings.HasPrefix(what, dir) {
				continue left
			}
		}
		out = append(out, what)
	}
	return out
}

// TestReset resets the control plane that owns the virtual address, with all that runs on it:
// the other goes on alone, nothing of the cluster stays on the machine, and at its next start it
// joins as a new one.
func TestReset(t *testing.T) {
	e := needLong(t)
	r := e.render(t, rendering{controlPlanes: 2, probe: true, units: resetUnits})
	said := map[string]*resetReport{}
	for _, h := range r.index.Hosts {
		said[h.Name] = &resetReport{ended: make(chan string, 1)}
	}
	run := e.startCluster(t, r.dir, r.index, func(o *vm.FleetOptions) {
		o.Machine.MemoryMiB, o.Machine.Disks = pairMemoryMiB, []string{e.probeDisk}
		o.Lines = func(host string, l vm.Line) { said[host].line(l) }
	})
	h := newHA(t, run, r.index)
	h.waitReady()
	h.waitDone()
	h.allNodes()
	h.allPodsReady(components...)
	before, old := h.etcdMembers(), h.owner()
	name := old.Host.Name

	in := h.enter(name)
	if out, err := in.probeCommand("exec", "/usr/bin/systemctl", "start", "--no-block", resetUnit); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	select {
	case how := <-said[name].ended:
		if how != "ok" {
			t.Errorf("firstboot reset on %s %s", name, how)
		}
	case <-time.After(5 * time.Minute):
		t.Fatalf("firstboot reset on %s does not end", name)
	}
	if left := said[name].unexpected(); len(left) > 0 {
		t.Errorf("firstboot reset leaves on %s:\n%s", name, strings.Join(left, "\n"))
	}
	t.Logf("the API answers %s after the reset of %s", h.answers(), name)
	if h.owner() == old {
		t.Errorf("%s still has the address", name)
	}
	after := h.etcdMembers()
	if _, there := after[name]; there || len(after) != 1 {
		t.Errorf("after the reset of %s etcd has the members %v", name, after)
	}
	h.kubectl("create", "configmap", "with-one-of-two", "--from-literal=a=b")

	old.Stop()
	if err := old.Start(); err != nil {
		t.Fatal(err)
	}
	if err := h.fleet.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.eventually("the machine is a new member that votes", 10*time.Minute, func() error {
		after := h.etcdMembers()
		if m, there := after[name]; !there || len(after) != 2 || m.ID == before[name].ID || m.IsLearner {
			return fmt.Errorf("etcd had the members %v and has %v", before, after)
		}
		return nil
	})
	h.eventually("every node is Ready", 10*time.Minute, func() error { return h.ready(len(h.index.Hosts)) })
	h.owner()
	if got := h.kubectl("get", "configmap", "with-one-of-two", "-o", "jsonpath={.data.a}"); got != "b" {
		t.Errorf("what was written meanwhile reads %q", got)
	}
}
