// SPDX-License-Identifier: Apache-2.0

package cluster

import "github.com/imgbuild/imgbuild/firstboot/node"

// Networking holds the cluster's own address ranges in CIDR notation, one family each.
type Networking struct {
	// PodSubnet is divided among the nodes, a /24 each, or a /64 of IPv6; default 10.244.0.0/16.
	PodSubnet string `yaml:"podSubnet,omitempty"`
	// ServiceSubnet holds the addresses of services; default 10.96.0.0/12.
	ServiceSubnet string `yaml:"serviceSubnet,omitempty"`
	// DNSDomain is the domain of services and pods; default cluster.local.
	DNSDomain string `yaml:"dnsDomain,omitempty"`
	// ProxyMode is nftables (the default), iptables, ipvs or upstream.
	ProxyMode node.ProxyMode `yaml:"proxyMode,omitempty"`
}

// PodNetwork is what connects pods.
type PodNetwork struct {
	// Provider is flannel (the default) or none.
	Provider node.PodNetwork `yaml:"provider,omitempty"`
	// MTU of the pod network; 0 derives it from the uplink.
	MTU int `yaml:"mtu,omitempty"`
	// Interface carries the overlay; empty takes that of the node address.
	Interface string `yaml:"interface,omitempty"`
	// Manifests are files whose objects are applied with the add-ons.
	Manifests []string `yaml:"manifests,omitempty"`
}

// HostNetwork says how hosts get their addresses. A host's own block replaces single values.
type HostNetwork struct {
	// Addressing is dhcp (the default) or static.
	Addressing string `yaml:"addressing,omitempty"`
	// Subnet is the hosts' range in CIDR notation. Static addresses need it.
	Subnet string `yaml:"subnet,omitempty"`
	// Gateway is the router of static addresses.
	Gateway string `yaml:"gateway,omitempty"`
	// DNS are the resolvers of static addresses.
	DNS []string `yaml:"dns,omitempty"`
	// Interface is the uplink's name; auto (the default) is the one with the host's
	// match.mac, or every Ethernet interface.
	Interface string `yaml:"interface,omitempty"`
	// MTU of the uplink in bytes; 0 (the default) leaves it alone.
	MTU *int `yaml:"mtu,omitempty"`
	// Bond joins several interfaces to one uplink.
	Bond *Bond `yaml:"bond,omitempty"`
	// VLAN is the tag of the uplink's traffic, 1-4094; 0 (the default) is untagged.
	VLAN *int `yaml:"vlan,omitempty"`
}

// Bond is several interfaces as one.
type Bond struct {
	// Name of the bond; default bond0.
	Name string `yaml:"name,omitempty"`
	// Mode is active-backup (the default), 802.3ad, balance-rr, balance-xor, broadcast,
	// balance-tlb or balance-alb.
	Mode string `yaml:"mode,omitempty"`
	// Members are names or MAC addresses of interfaces.
	Members []string `yaml:"members"`
}
