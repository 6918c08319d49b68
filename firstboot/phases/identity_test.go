// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"net"
	"net/netip"
	"testing"
)

func TestChooseAddress(t *testing.T) {
	for _, c := range []struct {
		name, vip string
		addrs     []string
		want      string
	}{
		{"the first IPv4", "", []string{"fe80::1/64", "2001:db8::5/64", "192.0.2.11/24", "192.0.2.12/24"}, "192.0.2.11"},
		{"IPv6 alone", "", []string{"127.0.0.1/8", "2001:db8::5/64"}, "2001:db8::5"},
		{"the virtual address first", "192.0.2.10", []string{"192.0.2.10/32", "192.0.2.11/24"}, "192.0.2.11"},
		{"the virtual address in IPv6", "2001:db8::10", []string{"2001:db8::10/128", "2001:db8::5/64"}, "2001:db8::5"},
		{"only the virtual address", "192.0.2.10", []string{"192.0.2.10/32"}, ""},
		{"nothing", "", []string{"169.254.1.1/16"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var addrs []net.Addr
			for _, a := range c.addrs {
				ip, n, err := net.ParseCIDR(a)
				if err != nil {
					t.Fatal(err)
				}
				addrs = append(addrs, &net.IPNet{IP: ip, Mask: n.Mask})
			}
			var vip, want netip.Addr
			if c.vip != "" {
				vip = netip.MustParseAddr(c.vip)
			}
			if c.want != "" {
				want = netip.MustParseAddr(c.want)
			}
			if got, ok := chooseAddress(addrs, vip); got != want || ok != want.IsValid() {
				t.Errorf("%v %v, want %v", got, ok, want)
			}
		})
	}
}
