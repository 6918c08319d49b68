// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/imgbuild/imgbuild/builder/vm/ethernet"
)

// leaseTime is longer than any run.
const leaseTime = 24 * time.Hour

// answerDHCP answers one DHCP message (RFC 2131) with the machine's own address. There is
// nothing to remember: a lease is a line of the configuration.
func (g *Gateway) answerDHCP(request []byte) ([]byte, bool) {
	m, err := dhcpv4.FromBytes(request)
	if err != nil || m.OpCode != dhcpv4.OpcodeBootRequest {
		return nil, false
	}
	address, known := g.lease(m.ClientHWAddr)
	server := net.IP(g.Address().AsSlice())
	if id := m.ServerIdentifier(); !known || id != nil && !id.Equal(server) {
		return nil, false
	}
	options := []dhcpv4.Modifier{
		dhcpv4.WithServerIP(server),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(server)),
	}
	network := []dhcpv4.Modifier{
		dhcpv4.WithNetmask(net.CIDRMask(g.config.Network.Bits(), 32)),
		dhcpv4.WithOption(dhcpv4.OptRouter(server)),
		dhcpv4.WithOption(dhcpv4.OptDNS(server)),
	}
	lease := append(network, dhcpv4.WithYourIP(address.AsSlice()), dhcpv4.WithOption(dhcpv4.OptIPAddressLeaseTime(leaseTime)))
	switch m.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		options = append(append(options, dhcpv4.WithMessageType(dhcpv4.MessageTypeOffer)), lease...)
	case dhcpv4.MessageTypeRequest:
		if wanted := requested(m); wanted != address {
			options = append(options, dhcpv4.WithMessageType(dhcpv4.MessageTypeNak))
			break
		}
		options = append(append(options, dhcpv4.WithMessageType(dhcpv4.MessageTypeAck)), lease...)
	case dhcpv4.MessageTypeInform:
		options = append(append(options, dhcpv4.WithMessageType(dhcpv4.MessageTypeAck)), network...)
	default: // nothing to release, nothing to decline
		return nil, false
	}
	reply, err := dhcpv4.NewReplyFromRequest(m, options...)
	if err != nil {
		return nil, false
	}
	return reply.ToBytes(), true
}

// requested is the address a machine asks to have or to keep.
func requested(m *dhcpv4.DHCPv4) netip.Addr {
	ip := m.RequestedIPAddress()
	if ip == nil || ip.IsUnspecified() {
		ip = m.ClientIPAddr
	}
	a, _ := netip.AddrFromSlice(ip.To4())
	return a
}

func (g *Gateway) lease(hw net.HardwareAddr) (netip.Addr, bool) {
	for _, l := range g.config.Leases {
		if len(hw) == len(l.MAC) && l.MAC == ethernet.MAC(hw) {
			return l.Address, true
		}
	}
	return netip.Addr{}, false
}
