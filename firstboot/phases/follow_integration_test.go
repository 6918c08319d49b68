// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/imgbuild/imgbuild/firstboot/cluster"
	"github.com/imgbuild/imgbuild/firstboot/endpoint"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/vip"
)

// TestFollowARealCluster: a control plane with a virtual address founds a cluster, another one
// joins it and waits until the first lists it; a worker finds both with its kubelet's rights.
func TestFollowARealCluster(t *testing.T) {
	base := documentOf(node.ControlPlane, node.PKIGenerate, "cp-1", "cp-2")
	f := newFleet(t, func(name string, a netip.Addr) *node.Node {
		n := base(name, a)
		n.VIP = node.VIP{Provider: node.VIPKeepalived, Address: "127.2.1.100", Interface: "lo"}
		n.Cluster.Founders = []string{"cp-1"}
		if name == "cp-1" {
			n.Cluster.ControlPlanes = n.Cluster.ControlPlanes[:1]
		}
		node.SetDefaults(n)
		return n
	})
	var mu sync.Mutex
	started := map[string][]string{}
	for i, name := range []string{"cp-1", "cp-2", "w-1"} {
		m := f.on(name, byte(i+1))
		m.state.Node.Join.CAVerification = node.VerifyToken
		note := func(ctx context.Context, unit string) error {
			if unit == KubeletUnit {
				return m.startUnit(ctx, unit)
			}
			mu.Lock()
			defer mu.Unlock()
			started[name] = append(started[name], unit)
			return nil
		}
		m.state.StartUnit, m.state.RestartUnit = note, note
		if m.boot(t.Context()); t.Failed() {
			return
		}
	}
	if !slices.Contains(started["cp-1"], vip.Unit) || slices.Contains(started["cp-2"], vip.Unit) || !slices.Contains(started["cp-2"], FollowUnit) || started["w-1"] != nil {
		t.Errorf("%q", started)
	}

	look := func(name string) *Followed {
		t.Helper()
		w := NewFollower(f.machines[name].state)
		w.Reload = func(context.Context, string) error { return nil }
		w.Owned = func(context.Context) bool { return true }
		w.Nodes = f.addressed(w.Nodes)
		r, err := w.Once(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := look("cp-2"); r.Verdict != endpoint.Held || r.Runs || !strings.Contains(strings.Join(r.Missing, ";"), "cp-1 does not list") {
		t.Errorf("before cp-1 has looked: %+v", r)
	}
	if r := look("cp-1"); len(r.Changed) != 1 || !r.Runs {
		t.Errorf("cp-1: %+v", r)
	}
	if r := look("cp-2"); r.Verdict != endpoint.Admitted || !r.Runs {
		t.Errorf("cp-2: %+v", r)
	}

	w := f.machines["w-1"].state
	servers, err := NewFollower(w).APIServers(t.Context())
	if err != nil || !slices.Contains(servers, f.own) {
		t.Errorf("the worker's API servers: %v %v, not %s", servers, err, f.own)
	}
	c, err := cluster.FromFile(w.path(kubeadm.Dir+"/"+kubeconfig.Kubelet), "")
	if err != nil {
		t.Fatal(err)
	}
	if nodes, err := c.Nodes(t.Context()); err == nil {
		t.Errorf("a kubelet may list nodes (%d): workers could follow them", len(nodes))
	}
}

// addressed gives nodes what a real kubelet gives them: its machine's address, our label.
func (f *fleet) addressed(list func(context.Context) ([]corev1.Node, error)) func(context.Context) ([]corev1.Node, error) {
	return func(ctx context.Context) ([]corev1.Node, error) {
		nodes, err := list(ctx)
		for i, n := range nodes {
			if m := f.machines[n.Name]; m != nil {
				nodes[i].Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: m.address.String()}}
				nodes[i].Labels[kubeadm.DeliveryLabel] = string(node.DeliveryVerity)
			}
		}
		return nodes, err
	}
}
