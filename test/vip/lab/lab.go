// SPDX-License-Identifier: Apache-2.0

// Package lab is a network segment with machines that carry a virtual address: network
// namespaces on a bridge, each with the real keepalived, the real watch beside it and a TLS
// server in place of an API server. It leaves nothing behind on the host, and needs to be root
// on it or in a user namespace.
package lab

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/imgbuild/imgbuild/builder/tool"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// The addresses of the segment.
var (
	VIP    = netip.MustParseAddr("10.77.0.100")
	client = netip.MustParsePrefix("10.77.0.254/24")
)

// Port is that of the servers.
const Port = 6443

// Lab is a segment with machines.
type Lab struct {
	Machines []*Machine
	tools    *tool.Set
	apart    bool   // the machines' own addresses are on a segment of their own
	watch    string // the program vip-health
	dir      string
	ca       *pki.Pair
	maker    *pki.Maker
	wire     *space // holds the bridge, and whoever asks from outside
}

// ErrPrivilege says that this process may not make network namespaces.
var ErrPrivilege = errors.New("network namespaces need root, or user namespaces for everybody")

// New makes a segment with count machines, on which nothing runs yet. Tools holds keepalived,
// watch is the program vip-health; dir is for files.
func New(count int, tools *tool.Set, watch, dir string) (*Lab, error) {
	return newLab(count, tools, watch, dir, false)
}

// NewApart is New with machines that know each other by addresses on a second segment. The
// virtual address stays on the first.
func NewApart(count int, tools *tool.Set, watch, dir string) (*Lab, error) {
	return newLab(count, tools, watch, dir, true)
}

func newLab(count int, tools *tool.Set, watch, dir string, apart bool) (*Lab, error) {
	now := time.Now()
	l := &Lab{tools: tools, watch: watch, dir: dir, apart: apart,
		maker: &pki.Maker{Algorithm: node.ECDSAP256, CAValidity: 24 * time.Hour, Validity: 12 * time.Hour, Now: now}}
	key, err := l.maker.Key()
	if err != nil {
		return nil, err
	}
	if l.ca, err = l.maker.Authority(pki.Spec{Name: pki.CA, CommonName: "kubernetes"}, key); err != nil {
		return nil, err
	}
	if l.wire, err = newSpace(); err != nil {
		return nil, err
	}
	if err := l.wire.do(func() error {
		// A bridge without an address of its own takes the lowest of its ports. It would change
		// when that port is unplugged, and machines would answer to nobody for five seconds.
		mac := net.HardwareAddr{0x02, 0, 0, 0, 0, 0xfe}
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "wire", HardwareAddr: mac}}); err != nil {
			return err
		}
		if apart {
			second := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "second"}}
			if err := errors.Join(netlink.LinkAdd(second), netlink.LinkSetUp(second)); err != nil {
				return err
			}
		}
		return raise("wire", client)
	}); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	for i := range count {
		m, err := l.machine(i)
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		l.Machines = append(l.Machines, m)
	}
	for _, m := range l.Machines {
		m.listed = l.Machines[:count:count]
	}
	return l, nil
}

// Close ends everything.
func (l *Lab) Close() error {
	var errs []error
	for _, m := range l.Machines {
		errs = append(errs, m.Stop(), m.StopAPI())
		m.space.close()
	}
	l.wire.close()
	return errors.Join(errs...)
}

// raise gives a link an address and sets it up.
func raise(name string, address netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(address.String())
	if err != nil {
		return err
	}
	return errors.Join(netlink.AddrAdd(link, a), netlink.LinkSetUp(link))
}

// strict makes the machine of this namespace refuse what comes in by another interface than an
// answer would take (RFC 3704, section 2.2). Others would hear adverts on the wrong one, too.
func strict() error {
	return os.WriteFile("/proc/sys/net/ipv4/conf/all/rp_filter", []byte("1"), 0o644)
}

// machine makes the i-th machine and plugs it in.
func (l *Lab) machine(i int) (*Machine, error) {
	m := &Machine{lab: l, Name: "cp-" + strconv.Itoa(i+1), Address: netip.AddrFrom4([4]byte{10, 77, 0, byte(11 + i)}), own: "eth0"}
	m.dir = filepath.Join(l.dir, m.Name)
	var err error
	if err = os.MkdirAll(m.dir, 0o755); err != nil {
		return nil, err
	}
	if m.space, err = newSpace(); err != nil {
		return nil, err
	}
	if err := errors.Join(m.cable(m.Name, "eth0"), m.Plug(true)); err != nil {
		return nil, fmt.Errorf("%s: %w", m.Name, err)
	}
	if l.apart {
		m.Address, m.own = netip.AddrFrom4([4]byte{10, 78, 0, byte(11 + i)}), "eth1"
		if err := errors.Join(m.cable(m.second(), "eth1"), m.attach(m.second(), "second"), m.space.do(strict)); err != nil {
			return nil, fmt.Errorf("%s: %w", m.Name, err)
		}
	}
	text := m.lab.ca.CertPEM()
	return m, os.WriteFile(filepath.Join(m.dir, "ca.crt"), text, 0o644)
}

// document is the node document of the i-th machine, as far as the address goes.
func (l *Lab) document(m *Machine) (*node.Node, *kubeadm.Config, error) {
	n := &node.Node{Role: node.ControlPlane, Node: node.Machine{Name: m.Name, Address: m.Address.String()},
		Cluster: node.Cluster{Endpoint: netip.AddrPortFrom(VIP, Port).String()},
		VIP:     node.VIP{Provider: node.VIPKeepalived, Address: VIP.String()}}
	for _, p := range m.listed {
		n.Cluster.ControlPlanes = append(n.Cluster.ControlPlanes, node.Peer{Name: p.Name, Address: p.Address.String()})
	}
	if l.apart {
		n.VIP.Interface = "eth0"
	}
	node.SetDefaults(n)
	c, err := kubeadm.New(n, kubeadm.Host{Hostname: m.Name, KubernetesVersion: "v1.36.3", Now: time.Now()})
	return n, c, err
}

// Owners are the machines whose interface carries the address.
func (l *Lab) Owners() ([]*Machine, error) {
	var owners []*Machine
	for _, m := range l.Machines {
		has, err := m.owns()
		if err != nil {
			return nil, err
		}
		if has {
			owners = append(owners, m)
		}
	}
	return owners, nil
}

// Ask asks on the virtual address who is there, from outside.
func (l *Lab) Ask(ctx context.Context) (string, error) {
	pool := x509.NewCertPool()
	pool.AddCert(l.ca.Cert)
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "kubernetes"},
		DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
			err = l.wire.do(func() error {
				conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
				return err
			})
			return conn, err
		}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+netip.AddrPortFrom(VIP, Port).String()+"/livez", nil)
	if err != nil {
		return "", err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	name, err := io.ReadAll(resp.Body)
	return string(name), err
}
