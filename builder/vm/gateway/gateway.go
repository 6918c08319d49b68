// SPDX-License-Identifier: Apache-2.0

// Package gateway is the one station of a segment (package ethernet) that this process is: it
// gives the machines their addresses (DHCP) and names (DNS), answers to its own address, and
// leads in both directions. Dial and Proxy reach ports of the machines, Listen offers ports to
// them. It forwards nothing: the segment has no way out.
//
// TCP and IP are gVisor's, in user space; the host's network is not touched.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	etherlink "gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/imgbuild/imgbuild/builder/vm/ethernet"
)

// Config describes a gateway.
type Config struct {
	// Network is the gateway's own IPv4 address with the length of the segment's prefix, as
	// in 10.53.0.1/24.
	Network netip.Prefix
	// MAC is its hardware address; the zero value takes DefaultMAC.
	MAC ethernet.MAC
	// Leases are the addresses that DHCP gives. Other machines get no answer.
	Leases []Lease
	// Names are what DNS answers, without final dots; every other name does not exist.
	Names map[string][]netip.Addr
	// Resolvers are addresses besides its own under which it answers DNS.
	Resolvers []netip.Addr
	// Fronts are addresses that lead to machines.
	Fronts []*Front
}

// Lease is the address of one machine.
type Lease struct {
	MAC     ethernet.MAC
	Address netip.Addr
}

// DefaultMAC is locally administered.
var DefaultMAC = ethernet.MAC{0x02, 0, 0, 0, 0, 0x01}

// mtu is that of Ethernet, in bytes without the frame's header.
const mtu = 1500

// nic is the only interface of the stack.
const nic tcpip.NICID = 1

// Gateway is a running gateway.
type Gateway struct {
	config Config
	names  map[string][]netip.Addr // by lower-case name
	port   *ethernet.Port
	link   *channel.Endpoint
	stack  *stack.Stack
	ctx    context.Context
	cancel context.CancelFunc
	// running are the goroutines that end with ctx.
	running sync.WaitGroup
}

// New attaches a gateway to a switch.
func New(s *ethernet.Switch, c Config) (*Gateway, error) {
	if !c.Network.IsValid() || !c.Network.Addr().Is4() {
		return nil, fmt.Errorf("the gateway's address %s is not an IPv4 address with a prefix length", c.Network)
	}
	for _, l := range c.Leases {
		if !c.Network.Contains(l.Address) {
			return nil, fmt.Errorf("the address %s of %s is outside the segment's %s", l.Address, l.MAC, c.Network.Masked())
		}
	}
	if c.MAC == (ethernet.MAC{}) {
		c.MAC = DefaultMAC
	}
	g := &Gateway{config: c, names: map[string][]netip.Addr{}}
	for name, addresses := range c.Names {
		g.names[strings.ToLower(name)] = addresses
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.link = channel.New(1024, mtu+header.EthernetMinimumSize, tcpip.LinkAddress(c.MAC[:]))
	g.stack = newStack()
	err := g.connect(s)
	if err == nil {
		err = g.offer()
	}
	if err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// offer begins to serve. DHCP is asked for at every address; DNS answers from the one that it
// was asked at, or nobody believes the answer.
func (g *Gateway) offer() error {
	errs := []error{g.serve(netip.AddrPortFrom(netip.Addr{}, 67), g.answerDHCP)}
	errs = append(errs, g.serve(netip.AddrPortFrom(g.Address(), 53), g.answerDNS))
	for _, a := range g.config.Resolvers {
		if a != g.Address() {
			errs = append(errs, g.take(a), g.serve(netip.AddrPortFrom(a, 53), g.answerDNS))
		}
	}
	for _, f := range g.config.Fronts {
		errs = append(errs, g.lead(f))
	}
	return errors.Join(errs...)
}

func newStack() *stack.Stack {
	return stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})
}

// connect puts the stack on the segment.
func (g *Gateway) connect(s *ethernet.Switch) error {
	if err := g.stack.CreateNIC(nic, etherlink.New(g.link)); err != nil {
		return fmt.Errorf("gateway's interface: %s", err)
	}
	own := tcpip.AddressWithPrefix{Address: tcpip.AddrFromSlice(g.config.Network.Addr().AsSlice()), PrefixLen: g.config.Network.Bits()}
	if err := g.stack.AddProtocolAddress(nic, tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: own}, stack.AddressProperties{}); err != nil {
		return fmt.Errorf("gateway's address %s: %s", g.config.Network, err)
	}
	g.stack.SetRouteTable([]tcpip.Route{{Destination: own.Subnet(), NIC: nic}})
	var err error
	if g.port, err = s.Attach("gateway", g.receive); err != nil {
		return err
	}
	g.running.Go(func() {
		for {
			p := g.link.ReadContext(g.ctx)
			if p == nil {
				return
			}
			view := p.ToView()
			g.port.Send(append(ethernet.Frame(nil), view.AsSlice()...))
			view.Release()
			p.DecRef()
		}
	})
	return nil
}

// receive gives the stack a frame. The stack moves an address to another machine only when that
// machine asks for the stack's own, so announcements are shown to it as such questions; else it
// would keep sending to the machine that had the address before.
func (g *Gateway) receive(f ethernet.Frame) {
	if dst := f.Dst(); dst != g.config.MAC && !dst.Group() {
		return
	}
	p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(ethernet.AsQuestion(f, g.Address()))})
	defer p.DecRef()
	g.link.InjectInbound(0, p)
}

// serve answers datagrams to a UDP port of an address, or of all, one at a time. An answer to a machine that has no
// address yet goes to all.
func (g *Gateway) serve(at netip.AddrPort, answer func(request []byte) (reply []byte, broadcast bool)) error {
	conn, err := listenUDP(g.stack, at)
	if err != nil {
		return fmt.Errorf("gateway's UDP port %s: %w", at, err)
	}
	context.AfterFunc(g.ctx, func() { conn.Close() })
	g.running.Go(func() {
		buf := make([]byte, mtu)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			reply, broadcast := answer(buf[:n])
			if reply == nil {
				continue
			}
			if broadcast {
				from = &net.UDPAddr{IP: net.IPv4bcast, Port: 68}
			}
			_, _ = conn.WriteTo(reply, from) // whoever asked asks again
		}
	})
	return nil
}

// Address is the gateway's own.
func (g *Gateway) Address() netip.Addr { return g.config.Network.Addr() }

// Port is the gateway's on the switch.
func (g *Gateway) Port() *ethernet.Port { return g.port }

// Dial connects to a TCP port on the segment. address is host:port; the host is an IPv4
// address or one of Config.Names, whose first address is taken.
func (g *Gateway) Dial(ctx context.Context, address string) (net.Conn, error) {
	to, err := g.resolve(address)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
	}
	if f := g.front(to); f != nil {
		return g.behind(ctx, f)
	}
	conn, err := gonet.DialContextTCP(ctx, g.stack, full(to), ipv4.ProtocolNumber)
	if err != nil {
		return nil, err // not conn: a nil of its type is not a nil net.Conn
	}
	return conn, nil
}

func (g *Gateway) resolve(address string) (netip.AddrPort, error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%s: the port is not a number", address)
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		known := g.names[strings.ToLower(host)]
		if len(known) == 0 {
			return netip.AddrPort{}, fmt.Errorf("%s is neither an address nor a name on the segment", host)
		}
		ip = known[0]
	}
	to := netip.AddrPortFrom(ip, uint16(port))
	if !g.config.Network.Contains(ip) && g.front(to) == nil {
		return netip.AddrPort{}, fmt.Errorf("%s is not on the segment %s", ip, g.config.Network.Masked())
	}
	return to, nil
}

// Listen offers a TCP port of the gateway's address to the segment.
func (g *Gateway) Listen(port uint16) (net.Listener, error) {
	l, err := gonet.ListenTCP(g.stack, full(netip.AddrPortFrom(g.Address(), port)), ipv4.ProtocolNumber)
	if err != nil {
		return nil, err
	}
	return l, nil
}

func full(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFromSlice(a.Addr().AsSlice()), Port: a.Port()}
}

// endLimit bounds how long Close waits for connections to machines that do not answer. They
// are reset all the same; the stack only takes its time to forget some of them.
const endLimit = 3 * time.Second

// Close ends everything the gateway does, connections and listeners included.
func (g *Gateway) Close() {
	g.cancel()
	g.running.Wait()
	if g.port != nil {
		g.port.Close()
	}
	g.stack.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		g.stack.Wait()
	}()
	select {
	case <-ended:
	case <-time.After(endLimit):
	}
}

// join copies in both directions until both ends are done or ctx ends.
func join(ctx context.Context, a, b net.Conn) {
	stop := context.AfterFunc(ctx, func() { a.Close(); b.Close() })
	defer stop()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			if half, ok := way[0].(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite()
			} else {
				way[0].Close()
			}
		})
	}
	both.Wait()
	a.Close()
	b.Close()
}
