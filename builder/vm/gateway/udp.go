// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"errors"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// listenUDP takes a UDP port of an address of the stack, or of every one where it names none, with
// permission to broadcast.
func listenUDP(s *stack.Stack, at netip.AddrPort) (*gonet.UDPConn, error) {
	var wq waiter.Queue
	ep, err := s.NewEndpoint(udp.ProtocolNumber, ipv4.ProtocolNumber, &wq)
	if err != nil {
		return nil, errors.New(err.String())
	}
	ep.SocketOptions().SetBroadcast(true)
	to := tcpip.FullAddress{NIC: nic, Port: at.Port()}
	if at.Addr().IsValid() {
		to = full(at)
	}
	if err := ep.Bind(to); err != nil {
		ep.Close()
		return nil, errors.New(err.String())
	}
	return gonet.NewUDPConn(&wq, ep), nil
}
