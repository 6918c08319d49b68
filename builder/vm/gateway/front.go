// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Front is an address of the gateway's besides its own whose TCP port leads to machines, as that
// of a load balancer does. Connections go to one machine after the other; one that does not
// accept is passed over. The address need not be one of the segment: machines send to their
// router what is not.
type Front struct {
	Address netip.AddrPort
	To      []netip.AddrPort

	next atomic.Uint32
}

// acceptLimit bounds how long one machine may take to accept. A machine that is off is tried
// for that long by every connection whose turn it is.
const acceptLimit = 2 * time.Second

// take makes an address the gateway's own.
func (g *Gateway) take(a netip.Addr) error {
	own := tcpip.AddressWithPrefix{Address: tcpip.AddrFromSlice(a.AsSlice()), PrefixLen: 32}
	if err := g.stack.AddProtocolAddress(nic, tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: own}, stack.AddressProperties{}); err != nil {
		return fmt.Errorf("gateway's address %s: %s", a, err)
	}
	return nil
}

// lead takes a front's address and serves it.
func (g *Gateway) lead(f *Front) error {
	if err := g.take(f.Address.Addr()); err != nil {
		return err
	}
	l, err := gonet.ListenTCP(g.stack, full(f.Address), ipv4.ProtocolNumber)
	if err != nil {
		return fmt.Errorf("gateway's address %s: %w", f.Address, err)
	}
	context.AfterFunc(g.ctx, func() { l.Close() })
	g.running.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			g.running.Go(func() {
				to, err := g.behind(g.ctx, f)
				if err != nil {
					from.Close()
					return
				}
				join(g.ctx, from, to)
			})
		}
	})
	return nil
}

// behind connects to the next machine behind a front.
func (g *Gateway) behind(ctx context.Context, f *Front) (net.Conn, error) {
	first := f.next.Add(1) - 1
	err := errors.New("nothing is behind " + f.Address.String())
	for i := range f.To {
		var conn *gonet.TCPConn
		try, cancel := context.WithTimeout(ctx, acceptLimit)
		conn, err = gonet.DialContextTCP(try, g.stack, full(f.To[(int(first)+i)%len(f.To)]), ipv4.ProtocolNumber)
		cancel()
		if err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// front is the one that has an address, or nil.
func (g *Gateway) front(a netip.AddrPort) *Front {
	for _, f := range g.config.Fronts {
		if f.Address == a {
			return f
		}
	}
	return nil
}
