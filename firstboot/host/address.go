// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/imgbuild/imgbuild/firstboot/phase"
)

// awaitAddress returns the node's address once a network interface carries it.
func awaitAddress(ctx context.Context, want, iface string, vip netip.Addr) (netip.Addr, error) {
	for {
		a, err := findAddress(want, iface, vip)
		if err == nil {
			return a, nil
		}
		select {
		case <-ctx.Done():
			return netip.Addr{}, fmt.Errorf("%w; %w", err, context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func findAddress(want, iface string, vip netip.Addr) (netip.Addr, error) {
	if want != "" {
		w, err := netip.ParseAddr(want)
		if err != nil {
			return w, phase.Permanent(err)
		}
		addrs, err := net.InterfaceAddrs()
		if err != nil {
			return w, err
		}
		for _, a := range addrs {
			if got, ok := Global(a); ok && got == w.Unmap() {
				return w, nil
			}
		}
		return w, fmt.Errorf("no interface has the address %s that node.address names", want)
	}
	if iface == "" {
		var err error
		if iface, err = defaultInterface(); err != nil {
			return netip.Addr{}, err
		}
	}
	link, err := net.InterfaceByName(iface)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("interface %s: %w", iface, err)
	}
	addrs, err := link.Addrs()
	if err != nil {
		return netip.Addr{}, err
	}
	if a, ok := chooseAddress(addrs, vip); ok {
		return a, nil
	}
	return netip.Addr{}, fmt.Errorf("interface %s has no global address of its own yet", iface)
}

// chooseAddress returns the first global IPv4 address, or else the first IPv6 address. The
// virtual address is none of the machine's own: it may be on the interface, of an owner whose
// first boot runs again, and would be elsewhere a moment later.
func chooseAddress(addrs []net.Addr, vip netip.Addr) (netip.Addr, bool) {
	var v6 netip.Addr
	for _, a := range addrs {
		got, ok := Global(a)
		switch {
		case !ok || got == vip:
		case got.Is4():
			return got, true
		case !v6.IsValid():
			v6 = got
		}
	}
	return v6, v6.IsValid()
}

// Global returns a as an address other machines can reach.
func Global(a net.Addr) (netip.Addr, bool) {
	n, ok := a.(*net.IPNet)
	if !ok {
		return netip.Addr{}, false
	}
	ip, ok := netip.AddrFromSlice(n.IP)
	ip = ip.Unmap()
	return ip, ok && ip.IsGlobalUnicast()
}

// defaultInterface returns the interface of the default route with the lowest metric.
func defaultInterface() (string, error) {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteList(nil, family)
		if err != nil {
			return "", fmt.Errorf("reading the routes: %w", err)
		}
		best := -1
		for i, r := range routes {
			isDefault := r.Dst == nil || r.Dst.IP.IsUnspecified() && isZero(r.Dst.Mask)
			if isDefault && r.LinkIndex > 0 && (best < 0 || r.Priority < routes[best].Priority) {
				best = i
			}
		}
		if best < 0 {
			continue
		}
		link, err := netlink.LinkByIndex(routes[best].LinkIndex)
		if err != nil {
			return "", err
		}
		return link.Attrs().Name, nil
	}
	return "", errors.New("there is no default route yet; set node.address or node.interface if there will be none")
}

func isZero(m net.IPMask) bool {
	ones, _ := m.Size()
	return ones == 0
}
