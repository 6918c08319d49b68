// SPDX-License-Identifier: Apache-2.0

// Package vip produces what carries the virtual address of the control plane on a node: the
// configuration of keepalived and of the watch that tells it about the API server, or the
// static pod of kube-vip. It is pure; the watch itself is package health.
package vip

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// Paths and units of the provider keepalived.
const (
	// ConfigFile is where keepalived's own unit looks; the unit starts once it exists.
	ConfigFile = "/etc/keepalived/keepalived.conf"
	// WatchFile holds the arguments of the watch.
	WatchFile = "/etc/imgbuild/vip-health.env"
	// StateFile says how the API server is: "1" is healthy; "0", absence and anything else is
	// not. The watch writes it, keepalived follows it.
	StateFile = "/run/imgbuild-vip/apiserver"
	// OwnerFile says in the same way that the machine is healthy and has the address.
	OwnerFile = "/run/imgbuild-vip/owner"
	// AdmittedFile lets keepalived start. It is gone after every boot: what the machine knew of
	// the other control planes may be out of date by then.
	AdmittedFile = "/run/imgbuild-vip/admitted"
	// Unit runs keepalived, WatchUnit the watch.
	Unit      = "keepalived.service"
	WatchUnit = "vip-health.service"
)

// unhealthy is the priority of a machine whose API server is not healthy. It is the lowest
// there is and not 0, because somebody has to own the address before the first API server
// answers: machines that join then meet a closed port and wait, and not a missing neighbour.
const unhealthy = 1

// Keepalived is what a machine's configuration follows from.
type Keepalived struct {
	// Name is the machine's own, for logs.
	Name string
	// Interface carries Own, VIPInterface VIP. Adverts come and go by the first alone, unicast
	// ones too: keepalived binds its sockets to it.
	Interface, VIPInterface string
	Own, VIP                netip.Addr
	// Peers are the other control planes. Without any, adverts are multicast.
	Peers []netip.Addr
	// RouterID is 1 to 255, Priority 2 to 254.
	RouterID, Priority int
	// Advert is rounded to centiseconds.
	Advert time.Duration
}

// New takes the settings from a defaulted document and its resolution; iface carries the
// machine's own address. A list of control planes that lacks this machine is an error, because
// its peers would not listen to it.
func New(n *node.Node, c *kubeadm.Config, iface string) (Keepalived, error) {
	k := Keepalived{Name: c.NodeName, Interface: iface, VIPInterface: cmp.Or(n.VIP.Interface, iface), Own: c.Address, VIP: c.VIP.Unmap(),
		RouterID: n.VIP.RouterID, Priority: n.VIP.Priority, Advert: n.VIP.AdvertInterval.D()}
	known := len(n.Cluster.ControlPlanes) == 0
	for _, cp := range n.Cluster.ControlPlanes {
		a, err := netip.ParseAddr(cp.Address)
		if err != nil {
			return k, fmt.Errorf("cluster.controlPlanes: %s: %w", cp.Name, err)
		}
		if a = a.Unmap(); a == c.Address {
			known = true
		} else {
			k.Peers = append(k.Peers, a)
		}
	}
	if !known {
		return k, fmt.Errorf("cluster.controlPlanes does not list this machine's address %s; its peers would take adverts of it for somebody else's", c.Address)
	}
	slices.SortFunc(k.Peers, netip.Addr.Compare)
	return k, nil
}

// Config renders keepalived.conf(5). Decision 0020 says why it is as it is.
func (k Keepalived) Config() kubeadm.File {
	var b bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# Written by firstboot; a change is overwritten when it runs again.")
	p("global_defs {")
	p("    router_id %s", k.Name)
	p("    vrrp_version 3")
	p("    # At boot the network may come up later than keepalived.")
	p("    dynamic_interfaces")
	p("    script_user root")
	p("    enable_script_security")
	p("    # After two owners met, the one that stays announces itself once more.")
	p("    vrrp_higher_prio_send_advert true")
	p("    vrrp_garp_master_repeat 3")
	p("    vrrp_garp_master_delay 1")
	p("    vrrp_garp_lower_prio_repeat 3")
	p("    vrrp_garp_lower_prio_delay 1")
	p("    vrrp_garp_master_refresh 30")
	p("}")
	p("")
	p("# 1 while the API server is healthy. Without the file it counts as 0.")
	candidate := k.candidate()
	p("track_file apiserver {")
	p("    file %q", StateFile)
	p("    weight %d", candidate-unhealthy)
	p("}")
	if candidate != k.Priority {
		p("")
		p("# 1 while the machine has the address besides, so that nobody takes it back.")
		p("track_file owner {")
		p("    file %q", OwnerFile)
		p("    weight %d", k.Priority-candidate)
		p("}")
	}
	p("")
	p("vrrp_instance control-plane {")
	p("    state BACKUP")
	p("    interface %s", k.Interface)
	p("    virtual_router_id %d", k.RouterID)
	p("    priority %d", unhealthy)
	p("    advert_int %.2f", k.Advert.Seconds())
	if len(k.Peers) > 0 {
		p("    unicast_src_ip %s", k.Own)
		p("    track_src_ip")
		p("    check_unicast_src")
		p("    # Peers are neighbours: a packet that was forwarded is none of theirs (RFC 5082).")
		p("    unicast_ttl 255")
		p("    unicast_peer {")
		for _, a := range k.Peers {
			p("        %s min_ttl 255 max_ttl 255", a)
		}
		p("    }")
	}
	p("    track_file {")
	p("        apiserver")
	if candidate != k.Priority {
		p("        owner")
	}
	p("    }")
	if k.VIPInterface != k.Interface {
		p("    # Nobody reaches the address on a link that is down.")
		p("    track_interface {")
		p("        %s", k.VIPInterface)
		p("    }")
	}
	p("    virtual_ipaddress {")
	p("        %s dev %s", netip.PrefixFrom(k.VIP, k.VIP.BitLen()), k.VIPInterface)
	p("    }")
	p("}")
	return kubeadm.File{Path: ConfigFile, Mode: 0o644, Data: b.Bytes()}
}

// candidate is the priority of a machine that is healthy and does not have the address. How
// long a machine waits for another to take over follows from it, so all have different ones,
// by their addresses: of equals two would take over at once, and whoever asked the one that
// gives way would wait for an answer in vain. A priority that somebody chose stands for itself.
func (k Keepalived) candidate() int {
	if k.Priority != node.DefaultVIPPriority || len(k.Peers) == 0 {
		return k.Priority
	}
	before, _ := slices.BinarySearchFunc(k.Peers, k.Own, netip.Addr.Compare)
	step := (k.Priority - unhealthy - 1) / (len(k.Peers) + 1)
	return max(k.Priority-max(step, 1)*(before+1), unhealthy+1)
}

// Watch renders the arguments of the watch for an API server at host:port, which may take
// timeout to answer, on a machine that may have the virtual address.
func Watch(endpoint string, address netip.Addr, timeout time.Duration) kubeadm.File {
	return kubeadm.File{Path: WatchFile, Mode: 0o644, Data: fmt.Appendf(nil, "ENDPOINT=%s\nADDRESS=%s\nTIMEOUT=%s\n", endpoint, address, timeout)}
}
