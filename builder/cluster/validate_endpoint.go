// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
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
	balanced := e.Mode == node.EndpointLocal || c.VIP.LoadBalancer != ""
	if of := node.PortOf(e.Port, c.VIP.Provider); of != "" && balanced {
		v.fail("endpoint.port", "is a port of "+of+" on the control planes, where the load balancer would listen", "another port, for example 8443")
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
	known := strict.OneOf(v.doc, "vip.provider", p.Provider, node.VIPKeepalived, node.VIPKubeVIP, node.VIPExternal, node.VIPNone)
	v.match("vip.interface", p.Interface, interfaceForm, "is not an interface name", "auto, or 1 to 15 characters without / and spaces")
	if known {
		v.ignored()
	}
	if p.Provider == node.VIPNone {
		return
	}
	v.between("vip.routerID", p.RouterID, 1, 255, "to derive it from the address")
	if p.LoadBalancer != "" {
		strict.OneOf(v.doc, "vip.loadBalancer", p.LoadBalancer, "haproxy")
	}
	if p.Provider == node.VIPKubeVIP && p.Image == "" {
		v.fail("vip.image", "is missing", "a kube-vip image reference")
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

// vipSettings are those of vip that not every provider looks at, and the providers that do.
var vipSettings = []struct {
	key   string
	given func(VIP) bool
	of    []node.VIPProvider
}{
	{"address", func(p VIP) bool { return p.Address != "" }, []node.VIPProvider{node.VIPKeepalived, node.VIPKubeVIP, node.VIPExternal}},
	{"interface", func(p VIP) bool { return p.Interface != auto }, []node.VIPProvider{node.VIPKeepalived, node.VIPKubeVIP}},
	{"image", func(p VIP) bool { return p.Image != "" }, []node.VIPProvider{node.VIPKubeVIP}},
	{"routerID", func(p VIP) bool { return p.RouterID != 0 }, []node.VIPProvider{node.VIPKeepalived}},
	{"advertInterval", func(p VIP) bool { return p.AdvertInterval != 0 }, []node.VIPProvider{node.VIPKeepalived}},
	{"healthTimeout", func(p VIP) bool { return p.HealthTimeout != 0 }, []node.VIPProvider{node.VIPKeepalived}},
	{"leaseDuration", func(p VIP) bool { return p.LeaseDuration != 0 }, []node.VIPProvider{node.VIPKubeVIP}},
	{"loadBalancer", func(p VIP) bool { return p.LoadBalancer != "" }, []node.VIPProvider{node.VIPKeepalived}},
}

// ignored refuses settings that would change nothing.
func (v *validator) ignored() {
	provider := v.c.VIP.Provider
	refuse := func(path string, of ...node.VIPProvider) {
		names := make([]string, len(of))
		for i, p := range of {
			names[i] = string(p)
		}
		switch {
		case slices.Contains(of, provider):
		case provider == node.VIPNone:
			v.fail(path, "has no vip.provider", "leave it out, or set vip.provider")
		default:
			v.fail(path, "is for vip.provider "+strings.Join(names, " and ")+" only", "leave it out")
		}
	}
	for _, s := range vipSettings {
		if s.given(v.c.VIP) {
			refuse("vip."+s.key, s.of...)
		}
	}
	for i, h := range v.c.Hosts {
		if h.VIPPriority != 0 && h.Role == node.ControlPlane {
			refuse(fmt.Sprintf("hosts[%d].vipPriority", i), node.VIPKeepalived)
		}
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
		at := fmt.Sprintf("hosts[%d].network", i)
		if !v.doc.Has(at + ".dns") {
			at = "hostNetwork"
		}
		server := slices.IndexFunc(h.Network.DNS, func(d string) bool { s, err := netip.ParseAddr(d); return err == nil && s == a })
		if server >= 0 && v.c.VIP.Provider != node.VIPExternal { // which may well be both
			v.fail("vip.address", fmt.Sprintf("is also %s.dns[%d], a name server", at, server), "an address that nothing else has")
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
