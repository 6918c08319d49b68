// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/firstboot/addons"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/strict"
)

// prefix parses an address range; the zero value stands for one that is missing or wrong.
func (v *validator) prefix(path, got string) netip.Prefix {
	if got == "" {
		return netip.Prefix{}
	}
	if strings.Contains(got, ",") {
		v.fail(path, "names two ranges: dual-stack clusters are not supported", "one IPv4 or one IPv6 range")
		return netip.Prefix{}
	}
	p, err := netip.ParsePrefix(got)
	if err != nil {
		v.fail(path, "is not an address range", "CIDR notation, for example 192.168.1.0/24")
		return netip.Prefix{}
	}
	if p != p.Masked() {
		v.fail(path, "has bits set behind the prefix", p.Masked().String())
	}
	return p.Masked()
}

func (v *validator) address(path, got string) netip.Addr {
	if got == "" {
		return netip.Addr{}
	}
	if strings.Contains(got, ",") {
		v.fail(path, "names two addresses: dual-stack clusters are not supported", "one IPv4 or one IPv6 address")
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(got)
	if err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.Is4In6() {
		v.fail(path, "is not a usable IP address", "an IPv4 or IPv6 address, without prefix length or zone")
		return netip.Addr{}
	}
	return a
}

// named is a range with the key that it comes from.
type named struct {
	path string
	netip.Prefix
}

// ranges returns the cluster's own ranges.
func (v *validator) ranges() []named {
	n := v.c.Networking
	parse := func(s string) netip.Prefix { p, _ := netip.ParsePrefix(s); return p.Masked() }
	return []named{{"networking.podSubnet", parse(n.PodSubnet)}, {"networking.serviceSubnet", parse(n.ServiceSubnet)}}
}

func (v *validator) networks() {
	n := v.c.Networking
	pods, services := v.prefix("networking.podSubnet", n.PodSubnet), v.prefix("networking.serviceSubnet", n.ServiceSubnet)
	if pods.IsValid() && services.IsValid() && pods.Addr().Is4() != services.Addr().Is4() {
		v.fail("networking.serviceSubnet", "is of another address family than networking.podSubnet", "two ranges of one family; dual-stack is not supported")
	}
	if room := rangesForNodes(pods); room < len(v.c.Hosts) && v.c.PodNetwork.Provider != node.NetworkNone {
		v.fail("networking.podSubnet", fmt.Sprintf("has room for %d nodes, and there are %d hosts", room, len(v.c.Hosts)), "a wider range")
	}
	v.domain("networking.dnsDomain", n.DNSDomain, "a DNS domain")
	v.hostNetwork("hostNetwork", v.c.HostNetwork)
	v.gateway("hostNetwork", v.c.HostNetwork)
	for i, name := range v.c.PodNetwork.Manifests {
		v.manifest(fmt.Sprintf("podNetwork.manifests[%d]", i), name)
	}
	if v.c.PodNetwork.Provider == node.NetworkNone && len(v.c.PodNetwork.Manifests) == 0 {
		v.warn("podNetwork.provider", "installs no pod network: nodes stay NotReady until something else does", "podNetwork.manifests with a network's own files")
	}
}

// manifest checks a file with objects as first boot reads it.
func (v *validator) manifest(path, name string) {
	text := v.attach(path, name)
	if text == nil {
		return
	}
	if _, err := addons.ParseManifest(name, text); err != nil {
		for line := range strings.Lines(err.Error()) {
			v.fail(path, "is no manifest: "+strings.TrimPrefix(strings.TrimSpace(line), name+": "), "objects of the API, as kubectl apply takes them")
		}
	}
}

// rangesForNodes is how many nodes get addresses for pods from a range.
func rangesForNodes(pods netip.Prefix) int {
	bits := node.NodeBits6
	if pods.Addr().Is4() {
		bits = node.NodeBits4
	}
	if !pods.IsValid() || pods.Bits() > bits || pods.Bits() < bits-16 { // judged elsewhere
		return math.MaxInt
	}
	return 1 << (bits - pods.Bits())
}

var bondModes = []string{"active-backup", "802.3ad", "balance-rr", "balance-xor", "broadcast", "balance-tlb", "balance-alb"}

var macForm = regexp.MustCompile(`^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$`)

// hostNetwork checks one block; values that a host's block leaves open are checked where
// they are written.
func (v *validator) hostNetwork(at string, n HostNetwork) {
	if n.Addressing != "" {
		strict.OneOf(v.doc, at+".addressing", n.Addressing, dhcp, static)
	}
	subnet := v.prefix(at+".subnet", n.Subnet)
	if subnet.IsValid() {
		for _, r := range v.ranges() {
			if r.IsValid() && r.Overlaps(subnet) {
				v.fail(at+".subnet", "overlaps "+r.path+" "+r.String(), "a range of its own")
			}
		}
	}
	v.address(at+".gateway", n.Gateway)
	for i, d := range n.DNS {
		v.address(fmt.Sprintf("%s.dns[%d]", at, i), d)
	}
	v.match(at+".interface", n.Interface, interfaceForm, "is not an interface name", "auto, or 1 to 15 characters without / and spaces")
	if n.MTU != nil {
		v.between(at+".mtu", *n.MTU, 576, 65535, "to leave it alone")
	}
	if n.VLAN != nil {
		v.between(at+".vlan", *n.VLAN, 1, 4094, "for untagged traffic")
	}
	if b := n.Bond; b != nil {
		v.match(at+".bond.name", b.Name, interfaceForm, "is not an interface name", "1 to 15 characters without / and spaces")
		if b.Mode != "" {
			strict.OneOf(v.doc, at+".bond.mode", b.Mode, bondModes...)
		}
		if len(b.Members) == 0 {
			v.fail(at+".bond.members", "is missing", "names or MAC addresses of interfaces")
		}
		for i, m := range b.Members {
			path := fmt.Sprintf("%s.bond.members[%d]", at, i)
			if !macForm.MatchString(m) {
				v.match(path, m, interfaceForm, "is neither an interface name nor a MAC address", "eno1, or 52:54:00:12:34:56")
			}
			if m == "" || slices.ContainsFunc(b.Members[:i], func(o string) bool { return o == m || macForm.MatchString(m) && strings.EqualFold(o, m) }) {
				v.fail(path, "is empty or was already named", "each member once")
			}
		}
		if n.Interface != "" && n.Interface != auto {
			v.fail(at+".interface", "has no meaning with a bond", "leave it out; bond.members names the interfaces")
		}
	}
}

// gateway checks that hosts reach their router. N is what the block at that path comes to, with
// what it leaves open taken from elsewhere.
func (v *validator) gateway(at string, n HostNetwork) {
	subnet, err := netip.ParsePrefix(n.Subnet)
	if err != nil {
		return
	}
	gateway, err := netip.ParseAddr(n.Gateway)
	if err != nil {
		return
	}
	inside, own := subnet.Contains(gateway), v.doc.Has(at+".gateway")
	switch {
	case gateway.Is6() && gateway.IsLinkLocalUnicast(): // where routers of IPv6 usually are
	case inside && !edge(subnet, gateway):
	case own && inside:
		v.fail(at+".gateway", "is the network or broadcast address of "+subnet.Masked().String(), "an address between them")
	case own:
		v.fail(at+".gateway", "lies outside the subnet", "an address in "+subnet.Masked().String())
	case !v.doc.Has(at + ".subnet"):
	case inside:
		v.fail(at+".subnet", "has the gateway "+n.Gateway+" of hostNetwork for its network or broadcast address", "a gateway of its own beside it")
	default:
		v.fail(at+".subnet", "does not hold the gateway "+n.Gateway+" of hostNetwork", "a gateway of its own beside it")
	}
}
