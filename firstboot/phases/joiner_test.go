// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/firstboot/addons"
	"github.com/imgbuild/imgbuild/firstboot/balancer"
	"github.com/imgbuild/imgbuild/firstboot/check"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/vip"
)

// TestJoinerKilledAtEveryTransition compares a control plane that joined undisturbed with one
// whose first boot was killed before and after every phase, and now and then the whole machine
// with it. Both fetch the authorities, become a member of etcd, and are configured for a virtual
// address and the balancer behind it. Nothing happens to the control plane that they join.
func TestJoinerKilledAtEveryTransition(t *testing.T) {
	heard := listen(t)
	base := documentOf(node.ControlPlane, node.PKIGenerate, "cp-1", "cp-2")
	f := newFleet(t, func(name string, a netip.Addr) *node.Node {
		n := base(name, a)
		virtual := fmt.Sprintf("127.%d.1.100", a.As4()[1])
		n.Cluster.Endpoint, n.Cluster.EndpointMode = virtual+":8443", node.EndpointVIP
		n.VIP = node.VIP{Provider: node.VIPKeepalived, Address: virtual, LoadBalancer: "haproxy"}
		n.Cluster.Founders = []string{"cp-1"}
		if name == "cp-1" { // its document is older
			n.Cluster.ControlPlanes = n.Cluster.ControlPlanes[:1]
		}
		n.Callback = node.Callback{URL: heard.url, Token: "a-callback-token-of-this-test"}
		node.SetDefaults(n)
		return n
	})
	founder := f.on("cp-1", 1)
	start := func(ctx context.Context, unit string) error {
		if unit != KubeletUnit {
			return nil // nothing carries the address here
		}
		return founder.startUnit(ctx, unit)
	}
	founder.state.StartUnit, founder.state.RestartUnit = start, start
	if founder.boot(t.Context()); t.Failed() {
		return
	}

	c := f.computer("cp-2", 2)
	c.bootUndisturbed(t)
	f.etcdMembers(t, "cp-1", "cp-2")
	files := snapshot(t, c.root)
	if left, err := Leave(t.Context(), c.resolve(t)); err != nil {
		t.Fatal(left, err)
	}
	c.off()
	f.etcdMembers(t, "cp-1")

	c = f.computer("cp-2", 2)
	// The power goes as well where the others begin to count on the machine.
	c.cuts = []string{DownloadCerts + "/done", Etcd + "/start", Etcd + "/done", EtcdJoin + "/start", EtcdJoin + "/done", Follow + "/start"}
	everyTransition(t, node.ControlPlane, c.bootKilled(t))
	got := snapshot(t, c.root)
	for _, s := range []map[string]string{files, got} {
		delete(s, MembershipFile) // the member's number
	}
	if diff := differences(files, got); len(diff) > 0 {
		t.Error(strings.Join(diff, "\n"))
	}
	f.etcdMembers(t, "cp-1", "cp-2")
	f.knowsItsMember(t, c)
	for _, name := range addons.SharedFiles {
		here, err := os.ReadFile(filepath.Join(c.root, kubeadm.PKIDir, name))
		there, err2 := os.ReadFile(founder.state.path(kubeadm.PKIDir + "/" + name))
		if err != nil || err2 != nil || !bytes.Equal(here, there) {
			t.Errorf("%s is not that of the cluster: %v %v", name, err, err2)
		}
	}
	f.objectsAreThere(t, founder, "cp-1", "cp-2")
	api, err := c.state.client()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range check.Run(t.Context(), &check.Env{Root: c.root, Config: c.state.Config, API: api}) {
		if r.Status == check.Fail {
			t.Errorf("check %s %s: %v", r.ID, r.Title, r.Problems)
		}
	}
	// keepalived waits until the others list the machine, however often its first boot began.
	if units, want := c.asked(t), []string{FollowUnit, balancer.Unit, vip.WatchUnit}; !slices.Equal(units, want) || c.has(vip.AdmittedFile) {
		t.Errorf("first boot started %v, want %v; keepalived may run: %v", units, want, c.has(vip.AdmittedFile))
	}
	secretsStayInside(t, c, heard.String())
}

// computer is a machine of the fleet whose first boot is a process. Every call makes a new one,
// with an empty disk.
func (f *fleet) computer(name string, last byte) *computer {
	f.t.Helper()
	address := netip.AddrFrom4([4]byte{127, f.net, 1, last})
	c := newComputer(f.t, f.document(name, address), address, fmt.Sprintf("127.%d.2.%d", f.net, last))
	c.OnLoopback, c.advertise = true, f.own.String()
	return c
}

// knowsItsMember compares what a machine that joined remembers with what etcd says.
func (f *fleet) knowsItsMember(t *testing.T, c *computer) {
	t.Helper()
	s := c.resolve(t)
	if s.Membership == nil || !s.Membership.Joined {
		t.Fatalf("the machine remembers %+v", s.Membership)
	}
	e, err := s.dialEtcd(t.Context(), s.self())
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	members, err := e.Members(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range members {
		if m.Name == c.node && m.ID != s.Membership.ID {
			t.Errorf("%s is member %x of etcd and remembers %x", m.Name, m.ID, s.Membership.ID)
		}
	}
}
