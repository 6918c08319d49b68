// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"strings"

	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/strict"
)

// endpoint checks how the API is reached, and that its certificates would cover that.
func (v *validator) endpoint() {
	c, e := v.c, v.c.Endpoint
	strict.OneOf(v.doc, "endpoint.mode", e.Mode, node.EndpointVIP, node.EndpointLocal, node.EndpointDirect)
	v.between("endpoint.port", e.Port, 1, 65535, "")
	cps := c.ControlPlanes()
	switch e.Mode {
	case node.EndpointVIP:
		if c.VIP.Provider == node.VIPNone {
			v.fail("vip.provider", "is none, and endpoint.mode vip needs one", "keepalived, kube-vip, external")
		}
	case node.EndpointLocal:
		if c.VIP.Provider != node.VIPNone {
			v.fail("endpoint.mode", "is local, which has no use for vip", "vip, or leave vip out")
		}
		if e.Port == c.APIServer.Port {
			v.fail("endpoint.port", "is also apiServer.port, and in mode local both are on one machine", "another port, for example 7443")
		}
	case node.EndpointDirect:
		if c.VIP.Provider != node.VIPNone {
			v.fail("endpoint.mode", "is direct, which has no use for vip", "vip, or leave vip out")
		}
		if e.Name == "" && len(cps) > 1 {
			v.fail("endpoint.name", "is missing: with several control planes and mode direct something has to lead to all of them", "a DNS name, or endpoint.mode vip or local")
		}
	}
	if c.VIP.LoadBalancer != "" && e.Port == c.APIServer.Port {
		v.fail("endpoint.port", "is also apiServer.port, and the owner of the address runs both the load balancer and an API server", "another port, for example 8443")
	}
	if e.Name != "" {
		v.endpointName(e.Name)
	}
}

// endpointName asks the standard library whether a certificate with the name in it would be
// accepted for the name, which is what every client asks.
func (v *validator) endpointName(name string) {
	if _, err := netip.ParseAddr(name); err == nil {
		v.fail("endpoint.name", "is an address", "a DNS name; addresses go to vip.address or the hosts")
		return
	}
	if (&x509.Certificate{DNSNames: []string{name}}).VerifyHostname(name) != nil || !domainForm.MatchString(name) || len(name) > 253 {
		v.fail("endpoint.name", "is a name that no certificate can cover", domainRule)
		return
	}
	for i, h := range v.c.Hosts {
		if h.Name == name && (h.Role != node.ControlPlane || len(v.c.ControlPlanes()) > 1) {
			v.fail("endpoint.name", fmt.Sprintf("is also the name of hosts[%d]: only that host would answer to it", i), "a name of its own")
		}
	}
	if strings.HasSuffix(name, ".local") {
		v.warn("endpoint.name", "ends in .local, which is left to multicast DNS", "a name in a domain of yours")
	}
}

func (v *validator) vip() {
	c, p := v.c, v.c.VIP
	strict.OneOf(v.doc, "vip.provider", p.Provider, node.VIPKeepalived, node.VIPKubeVIP, node.VIPExternal, node.VIPNone)
	v.match("vip.interface", p.Interface, interfaceForm, "is not an interface name", "auto, or 1 to 15 characters without / and spaces")
	if p.Provider == node.VIPNone {
		for key, set := range map[string]bool{"address": p.Address != "", "routerID": p.RouterID != 0, "image": p.Image != "", "advertInterval": p.AdvertInterval != 0, "healthTimeout": p.HealthTimeout != 0, "loadBalancer": p.LoadBalancer != ""} {
			if set {
				v.fail("vip."+key, "has no vip.provider", "leave it out, or set vip.provider")
			}
		}
		return
	}
	v.between("vip.routerID", p.RouterID, 1, 255, "to derive it from the address")
	if p.LoadBalancer != "" {
		strict.OneOf(v.doc, "vip.loadBalancer", p.LoadBalancer, "haproxy")
	}
	switch {
	case p.Provider == node.VIPKubeVIP && p.Image == "":
		v.fail("vip.image", "is missing", "a kube-vip image reference")
	case p.Provider != node.VIPKubeVIP && p.Image != "":
		v.fail("vip.image", "is for vip.provider kube-vip only", "leave it out")
	}
	if p.Provider != node.VIPExternal && platforms[c.Platform].filtered {
		v.warn("vip.provider", "needs a network that delivers gratuitous ARP, which platform "+c.Platform+" does not", "endpoint.mode local, or vip.provider external")
	}
	if p.Address == "" {
		v.fail("vip.address", "is missing", "an IP address that no host has")
		return
	}
	if a := v.address("vip.address", p.Address); a.IsValid() {
		v.vipAddress(a)
	}
}

func (v *validator) vipAddress(a netip.Addr) {
	for _, r := range v.ranges() {
		if r.IsValid() && r.Contains(a) {
			v.fail("vip.address", "lies inside "+r.path+" "+r.String(), "an address of the hosts' network")
		}
	}
	for i, h := range v.c.Hosts {
		if h.Address == a.String() {
			v.fail("vip.address", fmt.Sprintf("is also hosts[%d].address", i), "an address that no host has")
		}
		if h.Network.Gateway == a.String() {
			v.fail("vip.address", "is also the gateway", "an address that no host has")
		}
		subnet, err := netip.ParsePrefix(h.Network.Subnet)
		if h.Role != node.ControlPlane || err != nil || v.c.VIP.Provider == node.VIPExternal {
			continue
		}
		if !subnet.Contains(a) {
			v.fail("vip.address", fmt.Sprintf("lies outside the subnet of hosts[%d] (%s): it could not carry the address", i, subnet.Masked()), "an address in "+subnet.Masked().String())
		} else if edge(subnet, a) {
			v.fail("vip.address", "is the network or broadcast address of "+subnet.Masked().String(), "an address between them")
		}
	}
}

// edge reports the first and last address of an IPv4 range with more than two.
func edge(p netip.Prefix, a netip.Addr) bool {
	if !a.Is4() || p.Bits() > 30 {
		return false
	}
	return a == p.Masked().Addr() || !p.Contains(a.Next())
}
