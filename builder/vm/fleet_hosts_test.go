// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/cluster"
	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

func index() *cluster.Index {
	return &cluster.Index{Name: "demo", Endpoint: "api.demo.test:6443", EndpointMode: node.EndpointVIP, VIP: "192.168.7.10", APIPort: 6443,
		Subnet: "192.168.7.0/24", Kubeconfig: "admin.conf", Hosts: []cluster.IndexHost{
			{Name: "cp-1", Role: node.ControlPlane, Address: "192.168.7.1", MAC: "52:54:00:00:00:11", Ignition: "cp-1.ign"},
			{Name: "cp-2", Role: node.ControlPlane, Address: "192.168.7.3", DHCP: true, Ignition: "cp-2.ign"},
			{Name: "w-1", Role: node.Worker, DHCP: true, MAC: "52:54:00:00:00:21", UUID: "8e2b4b4c-0d0c-4c5f-9c52-0b8a3f4a1b2c", Serial: "S1", Ignition: "w-1.ign"},
		}}
}

func TestClusterFleet(t *testing.T) {
	o, err := ClusterFleet("/d", index(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if o.Network.String() != "192.168.7.2/24" {
		t.Errorf("the gateway is %s, not the first address that nobody has", o.Network)
	}
	var got []string
	for _, h := range o.Hosts {
		got = append(got, fmt.Sprint(h.Name, " ", h.Role, " ", h.Address, " ", h.DHCP, " ", h.Ignition))
	}
	want := []string{"cp-1 control-plane 192.168.7.1 false /d/cp-1.ign", "cp-2 control-plane 192.168.7.3 true /d/cp-2.ign", "w-1 worker 192.168.7.101 true /d/w-1.ign"}
	if !slices.Equal(got, want) {
		t.Errorf("hosts %q, want %q", got, want)
	}
	// The config of a role tells its hosts apart by what the firmware says of them.
	if h := o.Hosts[2]; h.UUID != "8e2b4b4c-0d0c-4c5f-9c52-0b8a3f4a1b2c" || h.Serial != "S1" || o.Hosts[0].UUID != "" {
		t.Errorf("UUID %q, serial %q", h.UUID, h.Serial)
	}
	if m := o.Hosts[1].MAC; m.Group() || m == o.Hosts[0].MAC || m != madeMAC("cp-2") {
		t.Errorf("a made hardware address is %s", m)
	}
	if want := []string{"api.demo.test:6443", "192.168.7.1:6443", "192.168.7.3:6443"}; !slices.Equal(o.API, want) {
		t.Errorf("API at %q, want %q", o.API, want)
	}
	if o.Names["api.demo.test"][0].String() != "192.168.7.10" || o.Names["w-1"][0].String() != "192.168.7.101" || o.Kubeconfig != "/d/admin.conf" {
		t.Errorf("names %v, kubeconfig %s", o.Names, o.Kubeconfig)
	}
	if o, err = ClusterFleet("/d", index(), []string{"w-1"}); err != nil || len(o.Hosts) != 1 || o.Hosts[0].Address.String() != "192.168.7.101" || len(o.API) != 3 {
		t.Errorf("only one host: %+v %v", o.Hosts, err)
	}
}

func TestClusterFleetVariants(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(*cluster.Index)
		network string
		api     []string
	}{
		{"gateway given", func(ix *cluster.Index) { ix.Gateway = "192.168.7.254" }, "192.168.7.254/24", []string{"api.demo.test:6443", "192.168.7.1:6443", "192.168.7.3:6443"}},
		{"no subnet", func(ix *cluster.Index) { ix.Subnet = "" }, "192.168.7.2/24", []string{"api.demo.test:6443", "192.168.7.1:6443", "192.168.7.3:6443"}},
		{"local balancers", func(ix *cluster.Index) {
			ix.EndpointMode, ix.VIP, ix.Endpoint = node.EndpointLocal, "", "127.0.0.1:7443"
		}, "192.168.7.2/24", []string{"192.168.7.1:6443", "192.168.7.3:6443"}},
		{"all by DHCP", func(ix *cluster.Index) {
			ix.EndpointMode, ix.VIP, ix.Subnet, ix.Endpoint, ix.Hosts = node.EndpointDirect, "", "", "cp-2:6443", ix.Hosts[1:2]
			ix.Hosts[0].Address = ""
		}, "10.53.0.1/24", []string{"cp-2:6443", "10.53.0.101:6443"}},
	} {
		ix := index()
		c.change(ix)
		o, err := ClusterFleet("/d", ix, nil)
		if err != nil || o.Network.String() != c.network || !slices.Equal(o.API, c.api) {
			t.Errorf("%s: %s %q %v, want %s %q", c.name, o.Network, o.API, err, c.network, c.api)
		}
	}
}

// What nobody on the segment would be is played by the gateway: the load balancer that a cluster
// brings along, wherever its address is, and resolvers.
func TestClusterFleetStandsIn(t *testing.T) {
	for vip, network := range map[string]string{"192.168.7.10": "192.168.7.2/24", "203.0.113.9": "192.168.7.2/24"} {
		ix := index()
		ix.VIPProvider, ix.VIP, ix.Endpoint = node.VIPExternal, vip, "api.demo.test:8443"
		ix.DNS = []string{"192.168.7.2", "192.168.7.53", "192.168.7.3", "198.51.100.1", "fd00::53"}
		o, err := ClusterFleet("/d", ix, nil)
		if err != nil || o.Network.String() != network || len(o.Fronts) != 1 {
			t.Fatalf("%s: %s %v %v", vip, o.Network, o.Fronts, err)
		}
		if f := o.Fronts[0]; f.Address.String() != vip+":8443" || fmt.Sprint(f.To) != "[192.168.7.1:6443 192.168.7.3:6443]" {
			t.Errorf("%s leads to %v", f.Address, f.To)
		}
		// The gateway and a host are on the segment already.
		if got := fmt.Sprint(o.Resolvers); got != "[192.168.7.53 198.51.100.1]" {
			t.Errorf("resolvers %s", got)
		}
		if o.Names["api.demo.test"][0].String() != vip {
			t.Errorf("names %v", o.Names)
		}
	}
	if o, err := ClusterFleet("/d", index(), nil); err != nil || o.Fronts != nil || o.Resolvers != nil || o.Fetch != nil {
		t.Errorf("nobody is missing: %+v %v", o, err)
	}
	ix := index()
	ix.PKIMode, ix.Kubeconfig = node.PKIGenerate, ""
	if o, err := ClusterFleet("/d", ix, nil); err != nil || o.Kubeconfig != "" || o.Fetch == nil || o.Fetch.File != "/d/admin.conf" {
		t.Errorf("authorities of its own: %+v %v", o.Fetch, err)
	}
	ix.Hosts[0].Interfaces = []cluster.IndexInterface{{Name: "eno1", Key: "hostNetwork.interface"}}
	if _, err := ClusterFleet("/d", ix, []string{"w-1"}); err != nil {
		t.Errorf("a host that is left out: %v", err)
	}
}

func TestClusterFleetErrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*cluster.Index)
		only   []string
		class  fault.Class
		want   string
	}{
		{"unknown host", func(*cluster.Index) {}, []string{"cp-9"}, fault.Usage, "choose from cp-1, cp-2, w-1"},
		{"no certificate yet", func(ix *cluster.Index) { ix.Hosts[0].Ignition = "" }, nil, fault.Config, "host cp-1"},
		{"IPv6", func(ix *cluster.Index) { ix.Subnet = "fd00::/64" }, nil, fault.Config, "is IPv4"},
		{"IPv6 address", func(ix *cluster.Index) { ix.Subnet, ix.Hosts[0].Address = "", "fd00::1" }, nil, fault.Config, "is IPv4"},
		{"other subnet", func(ix *cluster.Index) { ix.Hosts[1].Address = "192.168.8.3" }, nil, fault.Config, "192.168.8.3 is outside 192.168.7.0/24"},
		{"bad hardware address", func(ix *cluster.Index) { ix.Hosts[2].MAC = "52:54" }, nil, fault.Config, "host w-1"},
		{"named interface", func(ix *cluster.Index) {
			ix.Hosts[1].Interfaces = []cluster.IndexInterface{{Name: "eno1", Key: "vip.interface"}}
		}, nil, fault.Config, `host cp-2: vip.interface is "eno1"`},
		{"load balancer without an address", func(ix *cluster.Index) { ix.VIPProvider, ix.VIP = node.VIPExternal, "" }, nil, fault.Config, "vip.address"},
		{"load balancer of another family", func(ix *cluster.Index) { ix.VIPProvider, ix.VIP = node.VIPExternal, "fd00::9" }, nil, fault.Config, "is IPv4"},
		{"tiny", func(ix *cluster.Index) { ix.Subnet = "192.168.7.0/30" }, nil, fault.Config, "too small"},
	} {
		ix := index()
		c.change(ix)
		_, err := ClusterFleet("/d", ix, c.only)
		var f *fault.Error
		if !errors.As(err, &f) || f.Class != c.class || !strings.Contains(err.Error(), c.want) || f.Hint == "" {
			t.Errorf("%s: %v, want class %d and %q", c.name, err, c.class, c.want)
		}
	}
}
