// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/node"
)

func def[T comparable](p *T, v T) { *p = cmp.Or(*p, v) }

// Values of keys that are plain text.
const (
	static, dhcp             = "static", "dhcp"
	auto                     = "auto"
	refuseSecrets            = "refuse"
	acceptTokens, acceptAll  = "tokens", "all"
	defaultPort, localPort   = 6443, 7443
	balancedPort             = 8443
	minPriority, maxPriority = 2, 254
)

// setDefaults fills what the file left open, and writes addresses the one way that nodes and
// comparisons know: 2001:db8::1, never 2001:DB8:0::1.
func setDefaults(c *Cluster) {
	canonical(&c.VIP.Address, &c.HostNetwork.Gateway)
	for i := range c.Hosts {
		canonical(&c.Hosts[i].Address, &c.Hosts[i].Network.Gateway)
	}
	def(&c.VIP.Provider, node.VIPNone)
	def(&c.APIServer.Port, defaultPort)
	if c.Endpoint.Mode == "" {
		switch {
		case c.VIP.Provider != node.VIPNone:
			c.Endpoint.Mode = node.EndpointVIP
		case len(c.ControlPlanes()) > 1:
			c.Endpoint.Mode = node.EndpointLocal
		default:
			c.Endpoint.Mode = node.EndpointDirect
		}
	}
	switch {
	case c.Endpoint.Mode == node.EndpointLocal:
		def(&c.Endpoint.Port, localPort)
	case c.VIP.LoadBalancer != "":
		def(&c.Endpoint.Port, balancedPort)
	default:
		def(&c.Endpoint.Port, c.APIServer.Port)
	}
	def(&c.VIP.Interface, auto)
	def(&c.Networking.PodSubnet, "10.244.0.0/16")
	def(&c.Networking.ServiceSubnet, "10.96.0.0/12")
	def(&c.Networking.DNSDomain, "cluster.local")
	def(&c.Networking.ProxyMode, node.ProxyNFTables)
	def(&c.PodNetwork.Provider, node.NetworkFlannel)
	def(&c.HostNetwork.Addressing, dhcp)
	def(&c.HostNetwork.Interface, auto)
	def(&c.HostNetwork.MTU, new(int))
	def(&c.HostNetwork.VLAN, new(int))
	def(&c.PKI.Mode, node.PKIShared)
	def(&c.PKI.Algorithm, node.ECDSAP256)
	def(&c.PKI.CAValidity, node.Duration(87600*time.Hour))
	def(&c.PKI.Validity, node.Duration(8760*time.Hour))
	if cps := c.ControlPlanes(); c.PKI.Mode == node.PKIGenerate && len(cps) > 0 {
		def(&c.PKI.Initiator, cps[0].Name)
	}
	def(&c.Join.TokenTTL, new(node.Duration(24*time.Hour)))
	if c.Join.Renew == nil {
		yes := true
		c.Join.Renew = &yes
	}
	def(&c.Platform, "metal")
	def(&c.UserData.Secrets, refuseSecrets)
	for i := range c.Hosts {
		h := &c.Hosts[i]
		def(&h.Platform, c.Platform)
		h.Network = merged(c.HostNetwork, h.Network)
	}
}

func canonical(addresses ...*string) {
	for _, a := range addresses {
		if parsed, err := netip.ParseAddr(*a); err == nil {
			*a = parsed.String()
		}
	}
}

// merged returns a network with single values replaced.
func merged(base, own HostNetwork) HostNetwork {
	out := HostNetwork{
		Addressing: cmp.Or(own.Addressing, base.Addressing), Subnet: cmp.Or(own.Subnet, base.Subnet),
		Gateway: cmp.Or(own.Gateway, base.Gateway), Interface: cmp.Or(own.Interface, base.Interface),
		MTU: cmp.Or(own.MTU, base.MTU), VLAN: cmp.Or(own.VLAN, base.VLAN), DNS: base.DNS, Bond: base.Bond,
	}
	if own.DNS != nil {
		out.DNS = own.DNS
	}
	if own.Bond != nil {
		out.Bond = own.Bond
	}
	if out.Bond != nil {
		b := *out.Bond
		def(&b.Name, "bond0")
		def(&b.Mode, "active-backup")
		out.Bond = &b
	}
	return out
}

// ControlPlanes returns the hosts of that role, in the order of the file.
func (c *Cluster) ControlPlanes() []Host {
	return slices.DeleteFunc(slices.Clone(c.Hosts), func(h Host) bool { return h.Role != node.ControlPlane })
}

// role returns what a host's role says.
func (c *Cluster) role(h *Host) RoleSettings {
	if h.Role == node.ControlPlane {
		return c.Roles.ControlPlane
	}
	return c.Roles.Worker
}

// kubelet returns a host's kubelet settings: the cluster's, the role's and its own.
func (c *Cluster) kubelet(h *Host) node.Kubelet {
	k := c.Kubelet
	for _, own := range []node.Kubelet{c.role(h).Kubelet, h.Kubelet} {
		k = node.Kubelet{
			MaxPods: cmp.Or(own.MaxPods, k.MaxPods), ResolvConf: cmp.Or(own.ResolvConf, k.ResolvConf),
			SystemReserved: joined(k.SystemReserved, own.SystemReserved), KubeReserved: joined(k.KubeReserved, own.KubeReserved),
			EvictionHard: joined(k.EvictionHard, own.EvictionHard), EvictionSoft: joined(k.EvictionSoft, own.EvictionSoft),
			EvictionSoftGracePeriod: joined(k.EvictionSoftGracePeriod, own.EvictionSoftGracePeriod),
		}
	}
	return k
}

// joined returns a with what b has in its place; neither changes.
func joined[V any](a, b map[string]V) map[string]V {
	if len(b) == 0 {
		return a
	}
	out := maps.Clone(a)
	if out == nil {
		out = map[string]V{}
	}
	maps.Copy(out, b)
	return out
}

// EndpointHost is the host part of the endpoint as nodes know it; empty when the file says
// too little.
func (c *Cluster) EndpointHost() string {
	switch {
	case c.Endpoint.Name != "":
		return c.Endpoint.Name
	case c.Endpoint.Mode == node.EndpointVIP:
		return c.VIP.Address
	case c.Endpoint.Mode == node.EndpointLocal:
		return "api." + c.Name + ".internal"
	}
	if cps := c.ControlPlanes(); len(cps) > 0 {
		return cps[0].Address
	}
	return ""
}
