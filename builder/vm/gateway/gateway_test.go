// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"golang.org/x/net/dns/dnsmessage"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	etherlink "gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/imgbuild/imgbuild/builder/vm/ethernet"
)

var vip = netip.MustParseAddr("10.9.0.100")

func hw(last byte) ethernet.MAC { return ethernet.MAC{0x52, 0x54, 0, 0, 0, last} }

// guest is a machine on the segment, behind a Unix socket as QEMU is.
type guest struct {
	*stack.Stack
	mac  ethernet.MAC
	conn net.Conn
}

// lan makes a switch and a gateway; both are closed with the test, which proves that they can be.
func lan(t *testing.T) (*ethernet.Switch, *Gateway) {
	t.Helper()
	s := ethernet.New(ethernet.Options{})
	g, err := New(s, Config{Network: netip.MustParsePrefix("10.9.0.1/24"),
		Leases: []Lease{{hw(1), netip.MustParseAddr("10.9.0.11")}, {hw(2), netip.MustParseAddr("10.9.0.12")}},
		Names:  map[string][]netip.Addr{"api.Demo.test": {vip}, "cp": {netip.MustParseAddr("10.9.0.11"), netip.MustParseAddr("10.9.0.12")}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close(); s.Close() })
	return s, g
}

func newGuest(t *testing.T, s *ethernet.Switch, mac ethernet.MAC, addresses ...string) *guest {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	if _, err := s.Listen(mac.String(), path); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	link := channel.New(64, mtu+14, tcpip.LinkAddress(mac[:]))
	m := &guest{newStack(), mac, conn}
	if err := m.CreateNIC(nic, etherlink.New(link)); err != nil {
		t.Fatal(err)
	}
	m.SetRouteTable([]tcpip.Route{{Destination: tcpip.AddressWithPrefix{Address: tcpip.AddrFrom4([4]byte{10, 9, 0, 0}), PrefixLen: 24}.Subnet(), NIC: nic}})
	for _, a := range addresses {
		m.take(t, netip.MustParseAddr(a))
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); conn.Close(); m.Close() })
	go func() {
		for p := link.ReadContext(ctx); p != nil; p = link.ReadContext(ctx) {
			_, _ = conn.Write(ethernet.AppendFrame(nil, p.ToView().AsSlice()))
		}
	}()
	go func() {
		for {
			f, err := ethernet.ReadFrame(conn)
			if err != nil {
				return
			}
			if dst := f.Dst(); dst == mac || dst.Group() {
				link.InjectInbound(0, stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(f)}))
			}
		}
	}()
	return m
}

func (m *guest) take(t *testing.T, a netip.Addr) {
	t.Helper()
	if err := m.AddProtocolAddress(nic, tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber,
		AddressWithPrefix: tcpip.AddressWithPrefix{Address: tcpip.AddrFromSlice(a.AsSlice()), PrefixLen: 24}}, stack.AddressProperties{}); err != nil {
		t.Fatal(err)
	}
}

// announce sends what keepalived sends when it takes an address: an ARP request about itself.
func (m *guest) announce(t *testing.T, a netip.Addr) {
	t.Helper()
	if _, err := m.conn.Write(ethernet.AppendFrame(nil, ethernet.Question(m.mac, a, a))); err != nil {
		t.Fatal(err)
	}
}

// says serves a word on port 6443 of all addresses.
func (m *guest) says(t *testing.T, word string) {
	t.Helper()
	l, err := gonet.ListenTCP(m.Stack, tcpip.FullAddress{NIC: nic, Port: 6443}, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, word) })}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close() })
}

func limit(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// A client of another making gets its address, keeps it, and is refused another one.
func TestDHCP(t *testing.T) {
	s, _ := lan(t)
	for _, c := range []struct {
		mac  ethernet.MAC
		want string
	}{{hw(1), "10.9.0.11"}, {hw(2), "10.9.0.12"}} {
		m := newGuest(t, s, c.mac)
		// Without an address of its own the stack sends from 0.0.0.0 only when told it may.
		m.take(t, netip.MustParseAddr("10.9.0.200"))
		conn, err := listenUDP(m.Stack, netip.AddrPortFrom(netip.Addr{}, 68))
		if err != nil {
			t.Fatal(err)
		}
		client, err := nclient4.NewWithConn(conn, c.mac[:], nclient4.WithTimeout(20*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		lease, err := client.Request(limit(t))
		if err != nil {
			t.Fatal(err)
		}
		ack := lease.ACK
		if ack.YourIPAddr.String() != c.want || ack.Router()[0].String() != "10.9.0.1" || ack.DNS()[0].String() != "10.9.0.1" ||
			net.IP(ack.SubnetMask()).String() != "255.255.255.0" || ack.IPAddressLeaseTime(0) != leaseTime {
			t.Errorf("%s: %s", c.mac, ack.Summary())
		}
		if lease, err = client.Renew(limit(t), lease); err != nil || lease.ACK.YourIPAddr.String() != c.want {
			t.Errorf("renewal: %v", err)
		}
		client.Close()
	}
}

func TestDHCPRefuses(t *testing.T) {
	_, g := lan(t)
	one, stranger := hw(1), hw(77)
	request := func(mac []byte, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
		m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(mac)}, mods...)...)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	other := dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.IPv4(10, 9, 0, 99)))
	elsewhere := dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 9, 0, 2)))
	for _, c := range []struct {
		name string
		m    *dhcpv4.DHCPv4
		want dhcpv4.MessageType // none for silence
	}{
		{"another address", request(one[:], dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), other), dhcpv4.MessageTypeNak},
		{"no address", request(one[:], dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest)), dhcpv4.MessageTypeNak},
		{"information only", request(one[:], dhcpv4.WithMessageType(dhcpv4.MessageTypeInform)), dhcpv4.MessageTypeAck},
		{"stranger", request(stranger[:], dhcpv4.WithMessageType(dhcpv4.MessageTypeDiscover)), dhcpv4.MessageTypeNone},
		{"another server's client", request(one[:], dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), elsewhere), dhcpv4.MessageTypeNone},
		{"release", request(one[:], dhcpv4.WithMessageType(dhcpv4.MessageTypeRelease)), dhcpv4.MessageTypeNone},
	} {
		raw, _ := g.answerDHCP(c.m.ToBytes())
		got := dhcpv4.MessageTypeNone
		if raw != nil {
			reply, err := dhcpv4.FromBytes(raw)
			if err != nil {
				t.Fatal(err)
			}
			if got = reply.MessageType(); !reply.YourIPAddr.IsUnspecified() {
				t.Errorf("%s: gives %s", c.name, reply.YourIPAddr)
			}
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	if raw, _ := g.answerDHCP([]byte("noise")); raw != nil {
		t.Error("noise is answered")
	}
}

func FuzzAnswers(f *testing.F) {
	s := ethernet.New(ethernet.Options{})
	g, err := New(s, Config{Network: netip.MustParsePrefix("10.9.0.1/24"), Leases: []Lease{{hw(1), netip.MustParseAddr("10.9.0.11")}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { g.Close(); s.Close() })
	one := hw(1)
	m, _ := dhcpv4.New(dhcpv4.WithHwAddr(one[:]), dhcpv4.WithMessageType(dhcpv4.MessageTypeDiscover))
	f.Add(m.ToBytes())
	f.Add([]byte("\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02cp\x00\x00\x01\x00\x01"))
	f.Fuzz(func(t *testing.T, request []byte) {
		if reply, _ := g.answerDHCP(request); reply != nil {
			if _, err := dhcpv4.FromBytes(reply); err != nil {
				t.Error(err)
			}
		}
		if reply, _ := g.answerDNS(request); reply != nil {
			if err := new(dnsmessage.Message).Unpack(reply); err != nil {
				t.Error(err)
			}
		}
	})
}

// Go's own resolver asks from the guest.
func TestDNS(t *testing.T) {
	s, g := lan(t)
	m := newGuest(t, s, hw(1), "10.9.0.11")
	r := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		to := full(netip.AddrPortFrom(g.Address(), 53))
		return gonet.DialUDP(m.Stack, nil, &to, ipv4.ProtocolNumber)
	}}
	for name, want := range map[string]string{"API.demo.test.": "10.9.0.100", "cp.": "10.9.0.11 10.9.0.12"} {
		got, err := r.LookupHost(limit(t), name)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %v %v, want %s", name, got, err, want)
		}
	}
	_, err := r.LookupHost(limit(t), "example.org.")
	if e, ok := err.(*net.DNSError); !ok || !e.IsNotFound {
		t.Errorf("an unknown name: %v", err)
	}
}

func get(ctx context.Context, t *testing.T, g *Gateway, address string) (string, error) {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, a string) (net.Conn, error) { return g.Dial(ctx, a) }}
	return fetch(ctx, tr, "http://"+address)
}

func fetch(ctx context.Context, tr *http.Transport, u string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return "", err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}

// The host reaches guests, by address, by name and through the proxy; guests reach the host.
func TestConnections(t *testing.T) {
	s, g := lan(t)
	m := newGuest(t, s, hw(1), "10.9.0.11")
	m.says(t, "one")
	for _, a := range []string{"10.9.0.11:6443", "cp:6443"} {
		if got, err := get(limit(t), t, g, a); got != "one" {
			t.Errorf("%s: %q %v", a, got, err)
		}
	}
	for _, bad := range []string{"10.9.0.11", "nobody:1", "192.0.2.1:80", "10.9.0.11:http"} {
		if c, err := g.Dial(limit(t), bad); err == nil || c != nil {
			t.Errorf("dialling %s: %v %v", bad, c, err)
		}
	}
	proxy, err := g.Proxy()
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(proxy)
	// A transport tunnels TLS only, so CONNECT is spoken by hand.
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(conn, "CONNECT cp:6443 HTTP/1.1\r\nHost: cp:6443\r\n\r\nGET / HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(text), "HTTP/1.1 200 ") || !strings.HasSuffix(string(text), "\r\n\r\none") {
		t.Errorf("through the proxy: %q %v", text, err)
	}
	if resp, err := http.Get(proxy); err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("a plain request to the proxy: %v %v", resp, err)
	}

	l, err := g.Listen(8080)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RemoteAddr) }))
	srv.Listener.Close()
	srv.Listener = l
	srv.Start()
	defer srv.Close()
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return gonet.DialContextTCP(ctx, m.Stack, full(netip.AddrPortFrom(g.Address(), 8080)), ipv4.ProtocolNumber)
	}}
	if got, err := fetch(limit(t), tr, "http://host:8080"); !strings.HasPrefix(got, "10.9.0.11:") {
		t.Errorf("a guest asks the host: %q %v", got, err)
	}
}

// An address moves from one machine to another that announces it, as a virtual address does.
func TestAddressMoves(t *testing.T) {
	s, g := lan(t)
	one, two := newGuest(t, s, hw(1), "10.9.0.11", vip.String()), newGuest(t, s, hw(2), "10.9.0.12")
	one.says(t, "one")
	two.says(t, "two")
	if got, err := get(limit(t), t, g, "api.demo.test:6443"); got != "one" {
		t.Fatalf("%q %v", got, err)
	}
	// The owner vanishes without a word; the other one takes the address.
	s.Where(hw(1)).Cut()
	two.take(t, vip)
	seen := make(chan struct{}, 1)
	defer g.Port().Tap(func(s ethernet.Seen) {
		if a, ok := ethernet.ParseARP(s.Frame); ok && !a.Request && a.SenderMAC == g.config.MAC && s.Direction == ethernet.FromStation {
			select {
			case seen <- struct{}{}:
			default:
			}
		}
	})()
	two.announce(t, vip)
	<-seen                                                         // the stack answers what it was told
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // less than the stack needs to have doubts of its own
	defer cancel()
	if got, err := get(ctx, t, g, "api.demo.test:6443"); got != "two" {
		t.Errorf("after the move: %q %v", got, err)
	}
}

func TestConfig(t *testing.T) {
	s := ethernet.New(ethernet.Options{})
	defer s.Close()
	for _, c := range []Config{{}, {Network: netip.MustParsePrefix("fd00::1/64")},
		{Network: netip.MustParsePrefix("10.9.0.1/24"), Leases: []Lease{{hw(1), netip.MustParseAddr("10.9.1.1")}}}} {
		if g, err := New(s, c); err == nil {
			g.Close()
			t.Errorf("%+v is accepted", c)
		}
	}
}

// A gateway ends although connections to machines that are gone are in every state.
func TestCloseWithDeadPeers(t *testing.T) {
	s, g := lan(t)
	m := newGuest(t, s, hw(1), "10.9.0.11")
	m.says(t, "one")
	var open []net.Conn
	for range 2 {
		c, err := g.Dial(limit(t), "10.9.0.11:6443")
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	s.Where(hw(1)).Cut()
	if _, err := io.WriteString(open[0], "GET / HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	open[1].Close() // its FIN is never acknowledged
	for _, a := range []string{"10.9.0.11:6443", "10.9.0.12:6443"} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		if c, err := g.Dial(ctx, a); err == nil {
			t.Errorf("%s answers: %v", a, c)
		}
		cancel()
	}
	ended := make(chan struct{})
	go func() { g.Close(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		panic("the gateway does not end")
	}
	g.Close() // again is nothing
}
