// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/imgbuild/imgbuild/firstboot/node"
)

// networkDir holds the files of systemd-networkd. Those of a host sort before the image's.
const networkDir = "/etc/systemd/network"

// section is one section of a systemd file.
type section struct {
	name  string
	lines [][2]string
}

func (s *section) set(key, value string) {
	if value != "" {
		s.lines = append(s.lines, [2]string{key, value})
	}
}

func unit(sections ...*section) []byte {
	var b strings.Builder
	for _, s := range sections {
		if len(s.lines) == 0 {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "[%s]\n", s.name)
		for _, l := range s.lines {
			fmt.Fprintf(&b, "%s=%s\n", l[0], l[1])
		}
	}
	return []byte(b.String())
}

// networkFiles returns the files that give a host its addresses; none when the image's own
// rule, DHCP on every Ethernet interface, is what the host wants. The names carry the host's,
// so that configs of several hosts can be one.
func networkFiles(h *Host) []file {
	n := h.Network
	if n.Addressing == dhcp && n.Bond == nil && *n.VLAN == 0 && *n.MTU == 0 && n.Interface == auto {
		return nil
	}
	var files []file
	add := func(name string, sections ...*section) {
		files = append(files, file{path: networkDir + "/10-" + h.Name + "-" + name, mode: 0o644, data: unit(sections...)})
	}
	match := &section{name: "Match"}
	link := &section{name: "Link"}
	if *n.MTU != 0 {
		link.set("MTUBytes", strconv.Itoa(*n.MTU))
	}
	switch {
	case n.Bond != nil:
		match.set("Name", n.Bond.Name)
		bond(n.Bond, link, add)
	case n.Interface != auto:
		match.set("Name", n.Interface)
	default:
		match.set("MACAddress", strings.ToLower(h.Match.MAC))
		match.set("Type", "ether")
		match.set("Kind", "!*") // not what is made from it
	}
	network, dhcpv4 := addresses(h)
	if *n.VLAN == 0 {
		add("uplink.network", match, link, network, dhcpv4)
		return files
	}
	name := "vlan" + strconv.Itoa(*n.VLAN)
	device, tag := &section{name: "NetDev"}, &section{name: "VLAN"}
	device.set("Name", name)
	device.set("Kind", "vlan")
	tag.set("Id", strconv.Itoa(*n.VLAN))
	add("vlan.netdev", device, tag)
	carrier := &section{name: "Network"}
	carrier.set("VLAN", name)
	carrier.set("LinkLocalAddressing", "no")
	add("uplink.network", match, link, carrier)
	tagged := &section{name: "Match"}
	tagged.set("Name", name)
	add("vlan.network", tagged, network, dhcpv4)
	return files
}

func bond(b *Bond, link *section, add func(string, ...*section)) {
	device, how := &section{name: "NetDev"}, &section{name: "Bond"}
	device.set("Name", b.Name)
	device.set("Kind", "bond")
	how.set("Mode", b.Mode)
	how.set("MIIMonitorSec", "100ms")
	if b.Mode == "802.3ad" {
		how.set("TransmitHashPolicy", "layer3+4")
	}
	add("bond.netdev", device, how)
	var names, macs []string
	for _, m := range b.Members {
		if macForm.MatchString(m) {
			macs = append(macs, strings.ToLower(m))
		} else {
			names = append(names, m)
		}
	}
	// Members take the bond's address once they are in it; their own stays the permanent one.
	network := &section{name: "Network"}
	network.set("Bond", b.Name)
	if len(names) > 0 {
		match := &section{name: "Match"}
		match.set("Name", strings.Join(names, " "))
		add("member-name.network", match, link, network)
	}
	if len(macs) > 0 {
		match := &section{name: "Match"}
		match.set("PermanentMACAddress", strings.Join(macs, " "))
		match.set("Kind", "!*")
		add("member-permanentmac.network", match, link, network)
	}
}

// uplinkMAC is the address of an interface that the uplink is made of, as far as cluster.yaml
// tells: in a bond the host's own, where it is a member, or that of the first member. A bond of
// hostNetwork may name the interfaces of all hosts.
func uplinkMAC(h *Host) string {
	mac := strings.ToLower(h.Match.MAC)
	if b := h.Network.Bond; b != nil && !slices.ContainsFunc(b.Members, func(m string) bool { return strings.EqualFold(m, mac) }) {
		if i := slices.IndexFunc(b.Members, macForm.MatchString); i >= 0 {
			return strings.ToLower(b.Members[i])
		}
	}
	return mac
}

// needed are the interfaces that a host has to have under names that its config does not make.
// A bond with a member that is told by its address comes up without those told by name.
func (c *Cluster) needed(h *Host) (out []IndexInterface) {
	n := h.Network
	made := []string{auto, "", "vlan" + strconv.Itoa(*n.VLAN)}
	add := func(name, key string) {
		if !slices.Contains(made, name) {
			out = append(out, IndexInterface{Name: name, Key: key})
		}
	}
	if n.Bond == nil {
		add(n.Interface, "hostNetwork.interface")
	} else if made = append(made, n.Bond.Name); !slices.ContainsFunc(n.Bond.Members, macForm.MatchString) {
		add(n.Bond.Members[0], "hostNetwork.bond.members")
	}
	if h.Role == node.ControlPlane && (c.VIP.Provider == node.VIPKeepalived || c.VIP.Provider == node.VIPKubeVIP) {
		add(c.VIP.Interface, "vip.interface")
	}
	if c.PodNetwork.Provider != node.NetworkNone {
		add(c.PodNetwork.Interface, "podNetwork.interface")
	}
	return out
}

// resolvers are those of all hosts with static addresses.
func (c *Cluster) resolvers() (out []string) {
	for _, h := range c.Hosts {
		for _, d := range h.Network.DNS {
			if h.Network.Addressing == static && !slices.Contains(out, d) {
				out = append(out, d)
			}
		}
	}
	return out
}

// addresses returns how the uplink gets its addresses.
func addresses(h *Host) (network, dhcpv4 *section) {
	n := h.Network
	network, dhcpv4 = &section{name: "Network"}, &section{name: "DHCPv4"}
	network.set("LLDP", "no")
	if n.Addressing == dhcp {
		network.set("DHCP", "yes")
		network.set("IPv6AcceptRA", "yes")
		dhcpv4.set("ClientIdentifier", "mac")
		dhcpv4.set("UseDomains", "yes")
		return network, dhcpv4
	}
	network.set("DHCP", "no")
	subnet, _ := netip.ParsePrefix(n.Subnet)
	network.set("Address", h.Address+"/"+strconv.Itoa(subnet.Bits()))
	network.set("Gateway", n.Gateway)
	for _, d := range n.DNS {
		network.set("DNS", d)
	}
	return network, dhcpv4
}
