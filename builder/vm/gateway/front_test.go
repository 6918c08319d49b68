// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"

	"github.com/imgbuild/imgbuild/builder/vm/ethernet"
)

// An address that no machine has, be it of the segment or not, leads to the machines that are
// there, for the host and for machines.
func TestFront(t *testing.T) {
	s := ethernet.New(ethernet.Options{})
	var fronts []*Front
	for _, a := range []string{"10.9.0.100:8443", "192.0.2.7:8443"} {
		fronts = append(fronts, &Front{Address: netip.MustParseAddrPort(a), To: []netip.AddrPort{
			netip.MustParseAddrPort("10.9.0.11:6443"), netip.MustParseAddrPort("10.9.0.12:6443"), netip.MustParseAddrPort("10.9.0.13:6443")}})
	}
	g, err := New(s, Config{Network: netip.MustParsePrefix("10.9.0.1/24"), Fronts: fronts, Names: map[string][]netip.Addr{"api": {vip}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close(); s.Close() })
	one, two := newGuest(t, s, hw(1), "10.9.0.11"), newGuest(t, s, hw(2), "10.9.0.12") // the third is off
	one.says(t, "one")
	two.says(t, "two")
	router := tcpip.Route{Destination: mustSubnet(t, "0.0.0.0/0"), Gateway: tcpip.AddrFrom4([4]byte{10, 9, 0, 1}), NIC: nic}
	two.SetRouteTable(append(two.GetRouteTable(), router))
	for _, f := range fronts {
		heard := ""
		for range 3 {
			got, err := get(limit(t), t, g, f.Address.String())
			if err != nil {
				t.Errorf("%s: %v", f.Address, err)
			}
			heard += got
		}
		tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return gonet.DialContextTCP(ctx, two.Stack, full(f.Address), ipv4.ProtocolNumber)
		}}
		got, err := fetch(limit(t), tr, "http://x")
		if err != nil || got != "one" && got != "two" {
			t.Errorf("a machine asks %s: %q %v", f.Address, got, err)
		}
		if !strings.Contains(heard, "one") || !strings.Contains(heard, "two") {
			t.Errorf("%s leads to %q, not to both", f.Address, heard)
		}
	}
	if got, err := get(limit(t), t, g, "api:8443"); err != nil || got == "" {
		t.Errorf("by name: %q %v", got, err)
	}
	for _, bad := range []string{"192.0.2.7:6443", "192.0.2.8:8443"} {
		if _, err := g.Dial(limit(t), bad); err == nil {
			t.Errorf("%s is reached", bad)
		}
	}
}

func mustSubnet(t *testing.T, text string) tcpip.Subnet {
	t.Helper()
	p := netip.MustParsePrefix(text)
	return tcpip.AddressWithPrefix{Address: tcpip.AddrFromSlice(p.Addr().AsSlice()), PrefixLen: p.Bits()}.Subnet()
}

// The resolvers that machines were told of answer, each from its own address.
func TestResolvers(t *testing.T) {
	s := ethernet.New(ethernet.Options{})
	resolvers := []netip.Addr{netip.MustParseAddr("10.9.0.53"), netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("10.9.0.1")}
	g, err := New(s, Config{Network: netip.MustParsePrefix("10.9.0.1/24"), Resolvers: resolvers, Names: map[string][]netip.Addr{"api.demo.test": {vip}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close(); s.Close() })
	m := newGuest(t, s, hw(1), "10.9.0.11")
	m.SetRouteTable(append(m.GetRouteTable(), tcpip.Route{Destination: mustSubnet(t, "0.0.0.0/0"), Gateway: tcpip.AddrFrom4([4]byte{10, 9, 0, 1}), NIC: nic}))
	for _, a := range resolvers {
		// A connected socket hears the address alone that it asked.
		r := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
			to := full(netip.AddrPortFrom(a, 53))
			return gonet.DialUDP(m.Stack, nil, &to, ipv4.ProtocolNumber)
		}}
		if got, err := r.LookupHost(limit(t), "api.demo.test."); err != nil || strings.Join(got, " ") != vip.String() {
			t.Errorf("asked at %s: %v %v", a, got, err)
		}
	}
}
