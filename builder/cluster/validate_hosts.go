// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/strict"
)

var uuidForm = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

func (v *validator) hosts() {
	c := v.c
	if len(c.Hosts) == 0 {
		v.fail("hosts", "is missing", "at least one host with role control-plane")
		return
	}
	// What has to differ between hosts, and the first host that has it.
	seen := map[string]int{}
	unique := func(i int, key, kind, value string) {
		if value == "" {
			return
		}
		id := kind + "=" + strings.ToLower(value)
		if j, dup := seen[id]; !dup {
			seen[id] = i
		} else if j != i {
			v.fail(fmt.Sprintf("hosts[%d].%s", i, key), fmt.Sprintf("is also that of hosts[%d] (%s)", j, c.Hosts[j].Name), "one of its own for every host")
		}
	}
	for i := range c.Hosts {
		h := &c.Hosts[i]
		v.host(i, h)
		unique(i, "name", "name", h.Name)
		unique(i, "address", "address", h.Address)
		unique(i, "match.mac", "mac", h.Match.MAC)
		unique(i, "match.uuid", "uuid", h.Match.UUID)
		unique(i, "match.serial", "serial", h.Match.Serial)
		// A bond of hostNetwork may name the interfaces of all hosts: each takes those it has.
		if b := v.written.Hosts[i].Network.Bond; b != nil {
			for k, m := range b.Members {
				if macForm.MatchString(m) {
					unique(i, fmt.Sprintf("network.bond.members[%d]", k), "mac", m)
				}
			}
		}
	}
	switch n := len(c.ControlPlanes()); {
	case n == 0:
		v.fail("hosts", "has no control plane", "at least one host with role control-plane")
	case n%2 == 0:
		v.warn("hosts", fmt.Sprintf("has %d control planes: an even number fails as early as one less", n), "an odd number: 1, 3 or 5")
	case n > 7:
		v.warn("hosts", fmt.Sprintf("has %d control planes: every write waits for more of them", n), "3 or 5")
	}
}

func (v *validator) host(i int, h *Host) {
	at := fmt.Sprintf("hosts[%d]", i)
	if h.Name == "" {
		v.fail(at+".name", "is missing", labelRule)
	}
	v.domain(at+".name", h.Name, "a host name")
	if len(h.Name) > 63 {
		v.fail(at+".name", "is too long for a host name", "at most 63 characters")
	}
	strict.OneOf(v.doc, at+".role", h.Role, node.ControlPlane, node.Worker)
	v.match(at+".match.mac", h.Match.MAC, macForm, "is not a MAC address", "six pairs of hexadecimal digits with colons, for example 52:54:00:12:34:56")
	v.match(at+".match.uuid", h.Match.UUID, uuidForm, "is not a UUID", "8-4-4-4-12 hexadecimal digits")
	if strings.TrimSpace(h.Match.Serial) != h.Match.Serial {
		v.fail(at+".match.serial", "begins or ends with a space", "the serial number as the firmware reports it")
	}
	own := v.written.Hosts[i].Network
	v.hostNetwork(at+".network", own)
	v.gateway(at+".network", h.Network)
	if own.Interface != "" && own.Interface != auto && own.Bond == nil && h.Network.Bond != nil {
		v.fail(at+".network.interface", "has no meaning with the bond of hostNetwork", "a bond of its own, or hostNetwork without one")
	}
	v.between(at+".vipPriority", h.VIPPriority, minPriority, maxPriority, "for the default")
	if h.VIPPriority != 0 && h.Role == node.Worker {
		v.fail(at+".vipPriority", "is for control planes only", "leave it out")
	}
	for path, platform := range map[string]string{at + ".platform": h.Platform, "platform": v.c.Platform} {
		if _, ok := platforms[platform]; !ok {
			v.fail(path, "is not a platform", platformNames()...)
		}
	}
	v.hostAddress(at, h)
}

func (v *validator) hostAddress(at string, h *Host) {
	n := h.Network
	a := v.address(at+".address", h.Address)
	if h.Address == "" {
		switch {
		case n.Addressing == static:
			v.fail(at+".address", "is missing, and its addressing is static", "an IP address, or addressing dhcp")
		case h.Role == node.ControlPlane && (len(v.c.ControlPlanes()) > 1 || v.c.VIP.Provider != node.VIPNone):
			v.fail(at+".address", "is missing: control planes have to know each other", "the IP address that its DHCP server always gives it")
		case h.Role == node.ControlPlane && v.c.PKI.Mode == node.PKIExternal:
			v.fail(at+".address", "is missing, and certificates that are signed elsewhere hold it", "the IP address that its DHCP server always gives it")
		case h.Role == node.ControlPlane && v.c.Endpoint.Name == "":
			v.fail(at+".address", "is missing, and so is endpoint.name: nothing would lead to the API", "the address that its DHCP server always gives it, or endpoint.name")
		}
		return
	}
	if !a.IsValid() {
		return
	}
	for _, r := range v.ranges() {
		if !r.IsValid() {
			continue
		}
		if r.Contains(a) {
			v.fail(at+".address", "lies inside "+r.path+" "+r.String(), "an address outside of it")
		}
		if a.Is4() != r.Addr().Is4() {
			v.fail(at+".address", "is of another address family than "+r.path, "one family for everything; dual-stack is not supported")
		}
	}
	subnet, err := netip.ParsePrefix(n.Subnet)
	switch {
	case n.Subnet == "" && n.Addressing == static:
		v.fail(at+".address", "has no subnet", "set hostNetwork.subnet")
	case err != nil:
	case !subnet.Contains(a):
		v.fail(at+".address", "lies outside the subnet of its network", "an address in "+subnet.Masked().String())
	case edge(subnet, a):
		v.fail(at+".address", "is the network or broadcast address of "+subnet.Masked().String(), "an address between them")
	}
	if h.Address == n.Gateway {
		v.fail(at+".address", "is also the gateway", "an address of its own")
	}
	if n.Addressing == static && n.Interface == auto && n.Bond == nil && h.Match.MAC == "" {
		v.warn(at+".address", "would be given to every Ethernet interface that the host has", "match.mac, or network.interface")
	}
}
