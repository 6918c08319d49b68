// SPDX-License-Identifier: Apache-2.0

package node

import (
	"strings"
	"testing"
	"time"
)

// clusterOf is a document of a cluster whose cluster and vip sections are given.
func clusterOf(cluster, vip string) string {
	return minimal + "pki: {initiator: a}\ncluster: {" + cluster + ", controlPlanes: [{name: a, address: 192.0.2.1}, {name: b, address: 192.0.2.2}]}\nvip: {" + vip + "}\n"
}

const someDigest = "@sha256:" + "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestVIPAccepts(t *testing.T) {
	for name, text := range map[string]string{
		"address":           clusterOf("endpoint: '192.0.2.9:6443'", "provider: keepalived, address: 192.0.2.9"),
		"name":              clusterOf("endpoint: 'api.example.com:6443'", "provider: keepalived, address: 192.0.2.9, advertInterval: 1s, healthTimeout: 30s, priority: 2"),
		"load balancer":     clusterOf("endpoint: '192.0.2.9:8443'", "provider: keepalived, address: 192.0.2.9, loadBalancer: haproxy"),
		"kube-vip":          clusterOf("endpoint: '192.0.2.9:6443'", "provider: kube-vip, address: 192.0.2.9, image: 'ghcr.io/kube-vip/kube-vip:v1.0.0"+someDigest+"'"),
		"pod network apart": clusterOf("endpoint: '192.0.2.9:6443'", "provider: keepalived, address: 192.0.2.9, interface: eth0") + "network: {interface: eth1}",
		"other pod network": clusterOf("endpoint: '192.0.2.9:6443'", "provider: keepalived, address: 192.0.2.9") + "network: {interface: eth1, provider: none}",
		"external":          clusterOf("endpoint: '198.51.100.1:443'", "provider: external, address: 198.51.100.1"),
		"outside, any port": clusterOf("endpoint: '198.51.100.1:10250'", "provider: external, address: 198.51.100.1"),
		"local":             clusterOf("endpoint: 'api.example.com:7443', endpointMode: local", "provider: none"),
		"local and outside": clusterOf("endpoint: 'api.example.com:7443', endpointMode: local", "provider: external, address: 198.51.100.1"),
	} {
		if _, err := Parse("n", []byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

const (
	direct = "endpoint: '192.0.2.9:6443'"
	ka     = "provider: keepalived, address: 192.0.2.9"
)

var vipRefusals = []refusal{
	{clusterOf(direct, ka) + "network: {interface: eth0}", `network.interface: value "eth0": may carry the virtual address too`},
	{clusterOf(direct, ka+", interface: eth0") + "network: {interface: eth0}", `network.interface: value "eth0": may carry the virtual address too`},
	{clusterOf(direct, ka+", password: secret"), "vip.password: would authenticate nothing"},
	{clusterOf(direct, ka+", priority: 1"), `vip.priority: value "1": is out of range; allowed: 2 to 254`},
	{clusterOf(direct, ka+", advertInterval: 50ms"), "vip.advertInterval: value \"50ms\": is out of range; allowed: 100ms to 40.95s"},
	{clusterOf(direct, ka+", advertInterval: 105ms"), "in steps of 10ms"},
	{clusterOf(direct, ka+", advertInterval: 41s"), "vip.advertInterval: value \"41s\": is out of range"},
	{clusterOf(direct, ka+", healthTimeout: 50ms"), "vip.healthTimeout: value \"50ms\": is out of range; allowed: 100ms to 30s"},
	{clusterOf(direct, ka+", healthTimeout: 31s"), "vip.healthTimeout: value \"31s\": is out of range"},
	{clusterOf(direct, ka+", leaseDuration: 4s"), "vip.leaseDuration: value \"4s\": is out of range; allowed: 5s to 2m0s in whole seconds"},
	{clusterOf(direct, ka+", leaseDuration: 121s"), "vip.leaseDuration: value \"121s\": is out of range"},
	{clusterOf(direct, ka+", leaseDuration: 6500ms"), "vip.leaseDuration: value \"6500ms\": is out of range"},
	{clusterOf(direct, "provider: keepalived, address: 192.0.2.1"), "vip.address: value \"192.0.2.1\": is also the address of controlPlanes[0]"},
	{clusterOf("endpoint: 'a.b:6443'", "provider: keepalived, address: '2001:db8::9'"), "is of another family than the address of controlPlanes[0]"},
	{clusterOf("endpoint: '192.0.2.8:6443'", ka), `cluster.endpoint: value "192.0.2.8:6443": is another address than vip.address`},
	{clusterOf("endpoint: '192.0.2.9:8443'", ka), "has a port on which nothing listens"},
	{clusterOf(direct, ka+", loadBalancer: haproxy"), "has the port of the API server"},
	{clusterOf("endpoint: '192.0.2.9:8443'", "provider: external, address: 192.0.2.9, loadBalancer: haproxy"), "vip.loadBalancer: value \"haproxy\": needs vip.provider keepalived"},
	{clusterOf(direct, "provider: kube-vip, address: 192.0.2.9, image: 'kube-vip:latest'"), `vip.image: value "kube-vip:latest": is not pinned by digest`},
	{clusterOf("endpoint: 'a.b:6443', endpointMode: vip", "provider: none"), "cluster.endpointMode: value \"vip\": needs a virtual address"},
	{clusterOf("endpoint: 'a.b:7443', endpointMode: local", ka), "cluster.endpointMode: value \"local\": has no use for a virtual address"},
	{clusterOf("endpoint: '192.0.2.9:7443', endpointMode: local", "provider: none"), "has an address where a name is needed"},
	{clusterOf("endpoint: 'localhost:7443', endpointMode: local", "provider: none"), "has an address where a name is needed"},
	{clusterOf("endpoint: 'a.b:6443', endpointMode: local", "provider: none"), "has the port of the API server"},
	{clusterOf("endpointMode: local", "provider: none"), "cluster.endpoint: is missing"},
	{clusterOf("endpoint: 'a.b:10250', endpointMode: local", "provider: none"), `cluster.endpoint: value "a.b:10250": has a port of the kubelet on the same machine`},
	{clusterOf("endpoint: '192.0.2.9:2379'", ka+", loadBalancer: haproxy"), `cluster.endpoint: value "192.0.2.9:2379": has a port of etcd`},
	{minimal + "cluster: {endpoint: 'a.b:7443', endpointMode: local}", "cluster.controlPlanes: is missing"},
	{minimal + "cluster: {endpoint: '192.0.2.1:8443', controlPlanes: [{name: a, address: 192.0.2.1}]}", `cluster.endpoint: value "192.0.2.1:8443": has a port on which nothing listens; allowed: apiServer.port (6443)`},
	{minimal + "cluster: {endpoint: '192.0.2.1:8443'}\nnode: {address: 192.0.2.1}", "has a port on which nothing listens"},
	{minimal + "timeouts: {balancerHealthCheck: 999ms}", `timeouts.balancerHealthCheck: value "999ms": is out of range; allowed: 1s to 1m`},
	{minimal + "timeouts: {balancerHealthCheck: 61s}", `timeouts.balancerHealthCheck: value "61s": is out of range`},
}

// What is wrong with vip.healthTimeout is said once.
func TestBalancerHealthCheckOfAVirtualAddress(t *testing.T) {
	lb := "provider: keepalived, address: 192.0.2.9, loadBalancer: haproxy, healthTimeout: "
	for given, want := range map[string]time.Duration{"100ms": 5 * time.Second, "30s": 30 * time.Second} {
		n, err := Parse("n", []byte(clusterOf("endpoint: '192.0.2.9:8443'", lb+given)))
		if err != nil || n.Timeouts.BalancerHealthCheck.D() != want {
			t.Errorf("%s: %v %v", given, n, err)
		}
	}
	_, err := Parse("n", []byte(clusterOf("endpoint: '192.0.2.9:8443'", lb+"2m")))
	if err == nil || !strings.Contains(err.Error(), "vip.healthTimeout") || strings.Contains(err.Error(), "balancerHealthCheck") {
		t.Error(err)
	}
}

func TestRouterID(t *testing.T) {
	seen := map[int]bool{}
	for _, a := range []string{"192.0.2.9", "192.0.2.10", "10.0.0.1", "2001:db8::9", "nonsense", ""} {
		id := RouterID(a)
		if id < 1 || id > 255 {
			t.Errorf("%s: %d", a, id)
		}
		seen[id] = true
	}
	if len(seen) < 4 {
		t.Errorf("addresses hardly tell clusters apart: %v", seen)
	}
	if RouterID("192.0.2.9") != RouterID("::ffff:192.0.2.9") {
		t.Error("the same address gives two ids")
	}
	n, err := Parse("n", []byte(clusterOf("endpoint: '192.0.2.9:6443'", "provider: keepalived, address: 192.0.2.9")))
	if err != nil || n.VIP.RouterID != RouterID("192.0.2.9") || n.VIP.AdvertInterval.D() != 300*time.Millisecond {
		t.Errorf("%+v %v", n, err)
	}
}
