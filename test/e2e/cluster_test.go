// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"

	"github.com/imgbuild/imgbuild/builder/cluster"
	"github.com/imgbuild/imgbuild/builder/vm"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// haCluster is control planes, workers and what they share.
type haCluster struct {
	*clusterRun
	index *cluster.Index
	vip   netip.Addr
	// pki is the directory of the authorities.
	pki string
}

// newHA looks at a running cluster as a whole.
func newHA(t *testing.T, c *clusterRun, ix *cluster.Index) *haCluster {
	t.Helper()
	vip, err := netip.ParseAddr(ix.VIP)
	if err != nil {
		t.Fatal(err)
	}
	return &haCluster{clusterRun: c, index: ix, vip: vip, pki: filepath.Join(filepath.Dir(c.kubeconfig), "pki")}
}

func (h *haCluster) with(t *testing.T) *haCluster {
	return &haCluster{clusterRun: h.clusterRun.with(t), index: h.index, vip: h.vip, pki: h.pki}
}

// TestCluster switches three control planes and a worker on at the same moment and takes them
// through what clusters go through.
func TestCluster(t *testing.T) {
	e := needLong(t)
	c, ix := e.bootCluster(t, 3, 1)
	h := newHA(t, c, ix)
	h.waitReady()
	for _, step := range []struct {
		name string
		run  func(*haCluster)
	}{
		{"nodes", (*haCluster).allNodes},
		{"owner", func(h *haCluster) { h.owner() }},
		{"done", func(h *haCluster) { h.waitDone() }},
		{"pods", (*haCluster).podsTalk},
		{"cut", (*haCluster).ownerIsCutOff},
		{"kill", (*haCluster).ownerDies},
	} {
		// Each step needs what the one before left.
		if !t.Run(step.name, func(t *testing.T) { step.run(h.with(t)) }) {
			break
		}
	}
}

// allNodes expects every host as a node in its role, which a control plane gets from its own API
// server: on a slow host long after it is Ready.
func (h *haCluster) allNodes() {
	h.eventually("every host is a node in its role", 15*time.Minute, func() error {
		var list core.NodeList
		if err := h.get(&list, "nodes"); err != nil {
			return err
		}
		roles, controlPlanes := map[string]node.Role{}, 0
		for _, host := range h.index.Hosts {
			if roles[host.Name] = host.Role; host.Role == node.ControlPlane {
				controlPlanes++
			}
		}
		for _, n := range list.Items {
			_, labelled := n.Labels["node-role.kubernetes.io/control-plane"]
			tainted := slices.ContainsFunc(n.Spec.Taints, func(t core.Taint) bool { return t.Key == "node-role.kubernetes.io/control-plane" })
			if want := roles[n.Name] == node.ControlPlane; labelled != want || tainted != want {
				return fmt.Errorf("node %s, role %s: labelled as control plane %v, tainted %v", n.Name, roles[n.Name], labelled, tainted)
			}
			delete(roles, n.Name)
		}
		if len(roles) > 0 {
			return fmt.Errorf("these hosts are no nodes: %v", roles)
		}
		if members := h.etcdMembers(); len(members) != controlPlanes {
			return fmt.Errorf("etcd has the members %v, there are %d control planes", members, controlPlanes)
		}
		return nil
	})
}

// owner asks on the segment who has the virtual address, and expects one control plane.
func (h *haCluster) owner() *vm.Member {
	h.Helper()
	macs, err := h.fleet.Switch.WhoHas(h.Context(), h.vip, 3*time.Second)
	if err != nil {
		h.Fatal(err)
	}
	var owners []*vm.Member
	for _, m := range h.fleet.Members {
		if slices.Contains(macs, m.Host.MAC) {
			owners = append(owners, m)
		}
	}
	if len(macs) != 1 || len(owners) != 1 || owners[0].Host.Role != node.ControlPlane {
		h.Fatalf("%s is claimed by %v", h.vip, macs)
	}
	h.Logf("%s is on %s", h.vip, owners[0].Host.Name)
	return owners[0]
}

// answers measures how long it takes from now until the API answers on the virtual address. An
// attempt gives up after a second without a connection, so that is how exact it is.
func (h *haCluster) answers() time.Duration {
	h.Helper()
	began := time.Now()
	for limit := began.Add(5 * time.Minute); time.Now().Before(limit); {
		asked := time.Now()
		ctx, cancel := context.WithTimeout(h.Context(), 10*time.Second)
		err := h.fleet.Ask(ctx, h.index.Endpoint, "/readyz")
		cancel()
		if err == nil {
			return time.Since(began)
		}
		time.Sleep(time.Until(asked.Add(100 * time.Millisecond)))
	}
	h.Fatal("the API does not answer on the virtual address within 5 minutes")
	return 0
}

// ownerIsCutOff cuts the link of the owner: another takes the address, and once the link is
// back one of them gives it up.
func (h *haCluster) ownerIsCutOff() {
	old := h.owner()
	old.Port.Cut()
	h.Logf("with the link of %s cut, the API answers after %s", old.Host.Name, h.answers())
	if now := h.owner(); now == old {
		h.Errorf("%s has the address behind a link that is cut", old.Host.Name)
	}
	old.Port.Restore()
	h.eventually("one owner after healing", 2*time.Minute, func() error {
		macs, err := h.fleet.Switch.WhoHas(h.Context(), h.vip, 3*time.Second)
		if err == nil && len(macs) != 1 {
			err = fmt.Errorf("claimed by %v", macs)
		}
		return err
	})
	// And it stays so.
	for range 5 {
		h.owner()
	}
	h.eventually("every node is Ready again", 10*time.Minute, func() error { return h.ready(len(h.index.Hosts)) })
}

// ownerDies kills the owner's machine: what was acknowledged is kept, the API comes back, and
// the machine rejoins with an empty disk.
func (h *haCluster) ownerDies() {
	old := h.owner()
	before := h.etcdMembers()
	h.kubectl("create", "configmap", "acknowledged", "--from-literal=by="+old.Host.Name)
	old.Kill()
	h.Logf("with %s killed, the API answers after %s", old.Host.Name, h.answers())
	if now := h.owner(); now == old {
		h.Errorf("a machine that is off has the address")
	}
	if got := h.kubectl("get", "configmap", "acknowledged", "-o", "jsonpath={.data.by}"); got != old.Host.Name {
		h.Errorf("the write before the kill reads %q", got)
	}
	h.kubectl("create", "configmap", "with-two-of-three", "--from-literal=a=b")

	if err := old.Wipe(); err != nil {
		h.Fatal(err)
	}
	if err := old.Start(); err != nil {
		h.Fatal(err)
	}
	if err := h.fleet.WaitReady(h.Context()); err != nil {
		h.Fatal(err)
	}
	h.Logf("%s is Ready again, with an empty disk, after %s", old.Host.Name, old.Ready())
	h.eventually("the old member is gone, the new one votes", 10*time.Minute, func() error {
		after := h.etcdMembers()
		switch {
		case len(after) != 3:
			return fmt.Errorf("etcd has the members %v", after)
		case after[old.Host.Name].ID == before[old.Host.Name].ID:
			return fmt.Errorf("%s is still the member it was", old.Host.Name)
		case after[old.Host.Name].IsLearner:
			return fmt.Errorf("%s is a learner", old.Host.Name)
		}
		return nil
	})
	h.owner()
	h.eventually("every node is Ready", 10*time.Minute, func() error { return h.ready(len(h.index.Hosts)) })
}

// ready expects that many Ready nodes.
func (h *haCluster) ready(want int) error {
	out, err := h.try("", "get", "nodes", "-o", `jsonpath={range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}`)
	if err == nil && strings.Count(out, "=True\n") != want {
		err = fmt.Errorf("nodes: %s", strings.ReplaceAll(strings.TrimSpace(out), "\n", ", "))
	}
	return err
}
