// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/imgbuild/imgbuild/builder/cluster"
	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/vm/ethernet"
	"github.com/imgbuild/imgbuild/builder/vm/gateway"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// defaultSegment is where hosts live whose cluster file leaves addresses to DHCP.
var defaultSegment = netip.MustParsePrefix("10.53.0.0/24")

// ClusterFleet lays a rendered cluster out on one Ethernet segment: a network, an address and a
// hardware address for every host, and the names they know each other by. Only hosts that
// only lists are started; with none listed all are. Images and Dir are left to the caller.
func ClusterFleet(dir string, ix *cluster.Index, only []string) (o FleetOptions, err error) {
	const correct = "correct cluster.yaml and render the cluster again"
	network, err := segmentNetwork(ix)
	if err != nil {
		return o, fault.Wrap(fault.Config, err, correct)
	}
	taken := map[netip.Addr]bool{}
	for _, text := range append([]string{ix.VIP, ix.Gateway}, addresses(ix)...) {
		if a, err := netip.ParseAddr(text); err == nil {
			taken[a] = true
		}
	}
	own, err := netip.ParseAddr(ix.Gateway)
	if err != nil || !own.Is4() {
		own = free(network, network.Masked().Addr(), taken)
	}
	taken[own] = true
	o.Network = netip.PrefixFrom(own, network.Bits())
	o.Names = map[string][]netip.Addr{}
	pool := network.Masked().Addr()
	for range 100 {
		pool = pool.Next()
	}
	var controlPlanes []netip.Addr
	for _, h := range ix.Hosts {
		host, err := segmentHost(dir, h)
		if err != nil {
			return o, err
		}
		wanted := len(only) == 0 || slices.Contains(only, h.Name)
		if len(h.Interfaces) > 0 && wanted {
			return o, fault.Wrap(fault.Config, namedInterface(h), correct)
		}
		if !host.Address.IsValid() {
			host.Address = free(network, pool, taken)
			taken[host.Address] = true
		}
		o.Names[h.Name] = []netip.Addr{host.Address}
		if h.Role == node.ControlPlane {
			controlPlanes = append(controlPlanes, host.Address)
		}
		if wanted {
			o.Hosts = append(o.Hosts, host)
		}
	}
	for _, name := range only {
		if _, known := o.Names[name]; !known {
			return o, fault.New(fault.Usage, "choose from "+strings.Join(hostNames(ix), ", "), "--only: the cluster has no host %q", name)
		}
	}
	o.API = endpoints(ix, o.Names, controlPlanes)
	o.Resolvers = resolvers(ix, taken)
	if ix.VIPProvider == node.VIPExternal {
		if o.Fronts, err = loadBalancer(ix, controlPlanes); err != nil {
			return o, fault.Wrap(fault.Config, err, correct)
		}
	}
	switch {
	case ix.Kubeconfig != "":
		o.Kubeconfig = filepath.Join(dir, ix.Kubeconfig)
	case ix.PKIMode == node.PKIGenerate:
		servers := o.API
		o.Fetch = &Fetch{File: filepath.Join(dir, cluster.KubeconfigFile),
			Get: func(ctx context.Context, dial func(context.Context, string, string) (net.Conn, error)) error {
				_, err := cluster.Kubeconfig(ctx, dir, cluster.Way{Dial: dial, Servers: servers})
				return err
			}}
	}
	return o, nil
}

// namedInterface is the error of a host that would wait for an interface forever: machines have
// one, and how their kernel calls it is not for a cluster file to know.
func namedInterface(h cluster.IndexHost) error {
	i := h.Interfaces[0]
	return fmt.Errorf("host %s: %s is %q, and virtual machines have no interface of that name; leave it to match.mac, or name members of a bond by their MAC addresses", h.Name, i.Key, i.Name)
}

// resolvers are the DNS servers that hosts were told of and that nobody else on the segment is.
func resolvers(ix *cluster.Index, taken map[netip.Addr]bool) (out []netip.Addr) {
	for _, text := range ix.DNS {
		if a, err := netip.ParseAddr(text); err == nil && a.Is4() && !taken[a] {
			taken[a] = true
			out = append(out, a)
		}
	}
	return out
}

// loadBalancer stands in for the one that a cluster with an address of its own brings along.
func loadBalancer(ix *cluster.Index, controlPlanes []netip.Addr) ([]*gateway.Front, error) {
	vip, err := netip.ParseAddr(ix.VIP)
	_, port, errPort := net.SplitHostPort(ix.Endpoint)
	number, errNumber := strconv.ParseUint(port, 10, 16)
	if err := errors.Join(err, errPort, errNumber); err != nil {
		return nil, fmt.Errorf("vip.address %q, endpoint %q: %w", ix.VIP, ix.Endpoint, err)
	}
	if !vip.Is4() {
		return nil, fmt.Errorf("vip.address %s: a segment of virtual machines is IPv4", vip)
	}
	front := &gateway.Front{Address: netip.AddrPortFrom(vip, uint16(number))}
	for _, a := range controlPlanes {
		front.To = append(front.To, netip.AddrPortFrom(a, uint16(ix.APIPort)))
	}
	return []*gateway.Front{front}, nil
}

// endpoints are the addresses of the API in the order in which they are tried. It teaches
// names the endpoint's, where it has one.
func endpoints(ix *cluster.Index, names map[string][]netip.Addr, controlPlanes []netip.Addr) (api []string) {
	if host, _, err := net.SplitHostPort(ix.Endpoint); err == nil && ix.EndpointMode != node.EndpointLocal {
		if vip, err := netip.ParseAddr(ix.VIP); err == nil && names[host] == nil {
			names[host] = []netip.Addr{vip}
		} else if names[host] == nil {
			names[host] = controlPlanes
		}
		api = append(api, ix.Endpoint)
	}
	for _, a := range controlPlanes {
		api = append(api, net.JoinHostPort(a.String(), strconv.Itoa(ix.APIPort)))
	}
	return api
}

// segmentNetwork is the hosts' subnet, or one that holds their addresses.
func segmentNetwork(ix *cluster.Index) (netip.Prefix, error) {
	network := defaultSegment
	if ix.Subnet != "" {
		p, err := netip.ParsePrefix(ix.Subnet)
		if err != nil || !p.Addr().Is4() {
			return p, fmt.Errorf("hostNetwork.subnet %q: a segment of virtual machines is IPv4", ix.Subnet)
		}
		network = p
	} else if known := append(addresses(ix), inside(ix)...); len(known) > 0 {
		a, err := netip.ParseAddr(known[0])
		if err != nil || !a.Is4() {
			return network, fmt.Errorf("address %q: a segment of virtual machines is IPv4", known[0])
		}
		network, _ = a.Prefix(24)
	}
	if network.Bits() > 28 {
		return network, fmt.Errorf("hostNetwork.subnet %s: too small for a segment of virtual machines; at most /28", network)
	}
	for _, text := range append(addresses(ix), inside(ix)...) {
		if a, err := netip.ParseAddr(text); err == nil && !network.Contains(a) {
			return network, fmt.Errorf("address %s is outside %s, and all virtual machines are on one segment", a, network.Masked())
		}
	}
	return network, nil
}

// inside is the virtual address where it has to be one of the segment: hosts send what is for a
// load balancer elsewhere to their router.
func inside(ix *cluster.Index) []string {
	if ix.VIP == "" || ix.VIPProvider == node.VIPExternal {
		return nil
	}
	return []string{ix.VIP}
}

// addresses are those of hosts that have one.
func addresses(ix *cluster.Index) (out []string) {
	for _, h := range ix.Hosts {
		if h.Address != "" {
			out = append(out, h.Address)
		}
	}
	return out
}

func hostNames(ix *cluster.Index) (out []string) {
	for _, h := range ix.Hosts {
		out = append(out, h.Name)
	}
	return out
}

func segmentHost(dir string, h cluster.IndexHost) (FleetHost, error) {
	host := FleetHost{Name: h.Name, Role: h.Role, DHCP: h.DHCP, UUID: h.UUID, Serial: h.Serial, VLAN: ethernet.VLAN(h.VLAN)}
	var err error
	if h.Ignition == "" {
		return host, fault.New(fault.Config, "put the certificates of the external authority in place and render the cluster again", "host %s has no Ignition config", h.Name)
	}
	host.Ignition = filepath.Join(dir, h.Ignition)
	if h.Address != "" {
		if host.Address, err = netip.ParseAddr(h.Address); err != nil {
			return host, fault.Wrap(fault.Config, fmt.Errorf("host %s: %w", h.Name, err), "render the cluster again")
		}
	}
	if h.MAC == "" {
		host.MAC = madeMAC(h.Name)
	} else if host.MAC, err = ethernet.ParseMAC(h.MAC); err != nil {
		return host, fault.Wrap(fault.Config, fmt.Errorf("host %s: %w", h.Name, err), "render the cluster again")
	}
	return host, nil
}

// madeMAC is the hardware address of a host that names none: always the same, in QEMU's range.
func madeMAC(name string) ethernet.MAC {
	sum := sha256.Sum256([]byte(name))
	return ethernet.MAC{0x52, 0x54, 0x00, sum[0], sum[1], sum[2]}
}

// free is the first address after from that nobody has.
func free(network netip.Prefix, from netip.Addr, taken map[netip.Addr]bool) netip.Addr {
	if !network.Contains(from) {
		from = network.Masked().Addr()
	}
	a := from.Next()
	for taken[a] {
		a = a.Next()
	}
	return a
}
