// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/strict"
)

// RouterID derives a VRRP router id, 1 to 255, from a virtual address: every control plane
// of a cluster arrives at the same one, clusters that share a network rarely do.
func RouterID(address string) int {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return 1
	}
	h := fnv.New32a()
	b := a.Unmap().As16()
	_, _ = h.Write(b[:])
	return 1 + int(h.Sum32()%255)
}

// The bounds of vip.advertInterval. VRRPv3 has 12 bits of centiseconds for it (RFC 9568,
// section 5.2.7).
const (
	minAdvert  = 100 * time.Millisecond
	maxAdvert  = 4095 * advertStep
	advertStep = 10 * time.Millisecond
)

// The bounds of vip.healthTimeout. The watch gives a sign of life after every look, and is
// started again after 45 seconds without one.
const (
	minHealthTimeout = 100 * time.Millisecond
	maxHealthTimeout = 30 * time.Second
)

// The bounds of vip.leaseDuration. kube-vip counts in whole seconds, and renews a lease of five
// every second.
const (
	minLease = 5 * time.Second
	maxLease = 2 * time.Minute
)

// imageForm is an image reference with a digest (OCI distribution specification).
var imageForm = regexp.MustCompile(`^[a-z0-9][-a-z0-9.:/_]*(:[A-Za-z0-9_][-A-Za-z0-9_.]{0,127})?@sha256:[0-9a-f]{64}$`)

func (v *validator) vip(n *Node) {
	p := n.VIP
	strict.OneOf(v.doc, "vip.provider", p.Provider, VIPNone, VIPKeepalived, VIPKubeVIP, VIPExternal)
	address := v.ip("vip.address", p.Address)
	v.match("vip.interface", p.Interface, interfaceForm, "is not an interface name", "1 to 15 characters without / and spaces")
	if p.Password != "" {
		v.fail("vip.password", "would authenticate nothing: VRRP version 3 and kube-vip have no passwords", "leave it out")
	}
	if p.Provider == VIPNone {
		if p.Address != "" {
			v.fail("vip.address", "has no vip.provider", "leave it out, or set vip.provider")
		}
		if n.Cluster.EndpointMode == EndpointVIP {
			v.fail("cluster.endpointMode", "needs a virtual address", "set vip, or choose direct or local")
		}
		v.local(n)
		v.direct(n)
		return
	}
	if p.Address == "" {
		v.fail("vip.address", "is missing", "an IP address")
	}
	if p.Address != "" && p.Address == n.Node.Address {
		v.fail("vip.address", "is also node.address", "an address no machine owns")
	}
	for i, cp := range n.Cluster.ControlPlanes {
		a, err := netip.ParseAddr(cp.Address)
		switch {
		case err != nil || !address.IsValid(): // reported elsewhere
		case a.Unmap() == address.Unmap():
			v.fail("vip.address", fmt.Sprintf("is also the address of controlPlanes[%d]", i), "an address no machine owns")
		case p.Provider == VIPKeepalived && a.Unmap().Is4() != address.Unmap().Is4():
			v.fail("vip.address", fmt.Sprintf("is of another family than the address of controlPlanes[%d]", i), "the family of the machines' own addresses")
		}
	}
	if p.RouterID < 1 || p.RouterID > 255 {
		v.fail("vip.routerID", "is out of range", "1 to 255")
	}
	if p.Priority < 2 || p.Priority > 254 {
		v.fail("vip.priority", "is out of range", "2 to 254")
	}
	if d := p.AdvertInterval.D(); d < minAdvert || d > maxAdvert || d%advertStep != 0 {
		v.fail("vip.advertInterval", "is out of range", fmt.Sprintf("%v to %v in steps of %v", minAdvert, maxAdvert, advertStep))
	}
	if d := p.HealthTimeout.D(); d < minHealthTimeout || d > maxHealthTimeout {
		v.fail("vip.healthTimeout", "is out of range", fmt.Sprintf("%v to %v", minHealthTimeout, maxHealthTimeout))
	}
	if d := p.LeaseDuration.D(); d < minLease || d > maxLease || d%time.Second != 0 {
		v.fail("vip.leaseDuration", "is out of range", fmt.Sprintf("%v to %v in whole seconds", minLease, maxLease))
	}
	if p.Provider == VIPKubeVIP && p.Image == "" {
		v.fail("vip.image", "is missing", "a kube-vip image reference with a digest")
	}
	v.match("vip.image", p.Image, imageForm, "is not pinned by digest", "registry/name[:tag]@sha256:DIGEST")
	if p.LoadBalancer != "" {
		strict.OneOf(v.doc, "vip.loadBalancer", p.LoadBalancer, "haproxy")
		if p.Provider != VIPKeepalived {
			v.fail("vip.loadBalancer", "needs vip.provider keepalived", "leave it out, or set vip.provider keepalived")
		}
	}
	v.carried(n, address)
	v.overlay(n)
	v.local(n)
}

// overlay keeps an interface that flannel is told apart from that of a virtual address which the
// machines carry: of an interface flannel takes the first fixed address for the machine's own,
// and beside one from DHCP that is the virtual one. Without a name it takes the node address.
func (v *validator) overlay(n *Node) {
	p := n.VIP
	if n.Role != ControlPlane || n.Network.Provider != NetworkFlannel || n.Network.Interface == "" || p.Provider == VIPExternal {
		return
	}
	if p.Interface == "" || p.Interface == n.Network.Interface {
		v.fail("network.interface", "may carry the virtual address too, which flannel would take for the machine's own", "leave it out for that of the node address, or set vip.interface to another one")
	}
}

// carried checks that somebody listens where the endpoint leads when the machines carry the
// address themselves.
func (v *validator) carried(n *Node, address netip.Addr) {
	host, port, ok := splitEndpoint(n.Cluster.Endpoint)
	if !ok || n.VIP.Provider == VIPExternal || n.Cluster.EndpointMode != EndpointVIP {
		return
	}
	if a, err := netip.ParseAddr(host); err == nil && address.IsValid() && a != address {
		v.fail("cluster.endpoint", "is another address than vip.address", "vip.address, or a name that resolves to it")
	}
	switch {
	case n.VIP.LoadBalancer == "" && port != n.APIServer.Port:
		v.fail("cluster.endpoint", "has a port on which nothing listens", fmt.Sprintf("apiServer.port (%d), or vip.loadBalancer haproxy", n.APIServer.Port))
	case n.VIP.LoadBalancer != "" && port == n.APIServer.Port:
		v.fail("cluster.endpoint", "has the port of the API server, which takes it on every address", "another port, for example 8443, on which the load balancer listens")
	}
}

// local checks what endpoint mode local needs.
func (v *validator) local(n *Node) {
	if n.Cluster.EndpointMode != EndpointLocal {
		return
	}
	if n.VIP.Provider == VIPKeepalived || n.VIP.Provider == VIPKubeVIP {
		v.fail("cluster.endpointMode", "has no use for a virtual address that machines carry", "endpointMode vip, or vip.provider none or external")
	}
	if len(n.Cluster.ControlPlanes) == 0 {
		v.fail("cluster.controlPlanes", "is missing: every machine balances over them", "name and address of every control plane")
	}
	host, port, ok := splitEndpoint(n.Cluster.Endpoint)
	if !ok {
		if n.Cluster.Endpoint == "" {
			v.fail("cluster.endpoint", "is missing", "a name and a port other than apiServer.port, for example api.example.com:7443")
		}
		return
	}
	if _, err := netip.ParseAddr(host); err == nil || host == "localhost" {
		v.fail("cluster.endpoint", "has an address where a name is needed, because it leads to another machine on each", "a DNS name, for example api.example.com:7443")
	}
	if port == n.APIServer.Port {
		v.fail("cluster.endpoint", "has the port of the API server, which takes it on every address", "another port, for example 7443, on which the load balancer listens")
	}
}

// direct checks that an endpoint which is a control plane's own address has the API server's port.
func (v *validator) direct(n *Node) {
	host, port, ok := splitEndpoint(n.Cluster.Endpoint)
	if !ok || n.Cluster.EndpointMode != EndpointDirect || port == n.APIServer.Port {
		return
	}
	own := slices.ContainsFunc(n.Cluster.ControlPlanes, func(p Peer) bool { return p.Address == host })
	if own || n.Role == ControlPlane && n.Node.Address == host {
		v.fail("cluster.endpoint", "has a port on which nothing listens", fmt.Sprintf("apiServer.port (%d)", n.APIServer.Port))
	}
}

// splitEndpoint returns the parts of a well-formed endpoint.
func splitEndpoint(endpoint string) (host string, port int32, ok bool) {
	host, text, err := net.SplitHostPort(endpoint)
	if err != nil {
		return "", 0, false
	}
	p, err := strconv.ParseUint(text, 10, 16)
	return host, int32(p), err == nil && p > 0
}
