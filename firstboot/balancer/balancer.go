// SPDX-License-Identifier: Apache-2.0

// Package balancer produces what makes a node balance over the API servers: the configuration
// of haproxy and the line of /etc/hosts that leads the endpoint's name to it. Connections are
// passed on as they are; haproxy ends no TLS and sees no secret. It is pure.
package balancer

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// Paths and the unit.
const (
	// ConfigFile is where the unit looks; it starts once the file exists.
	ConfigFile = "/etc/haproxy/haproxy.cfg"
	Unit       = "haproxy.service"
	HostsFile  = "/etc/hosts"
	// CAFile is what verifies API servers that are asked for their health.
	CAFile = kubeadm.PKIDir + "/ca.crt"
)

// Balancer is what a machine's configuration follows from.
type Balancer struct {
	// Port is the endpoint's, on each of Addresses.
	Port      int32
	Addresses []netip.Addr
	// Servers are the control planes, ServerPort is the port of their API servers.
	Servers    []node.Peer
	ServerPort int32
	// CAFile verifies the servers' certificates in health checks; empty verifies nothing.
	CAFile string
	// Check is how often each server is asked whether it is ready, and how long that may take.
	Check time.Duration
}

// Wanted says whether a machine balances: every one with endpoint mode local, control planes
// with a load balancer behind the virtual address.
func Wanted(n *node.Node) bool {
	return n.Cluster.EndpointMode == node.EndpointLocal || n.VIP.LoadBalancer != "" && n.Role == node.ControlPlane
}

// New takes the settings from a defaulted document and its resolution.
//
// It listens on the loopback address. With a virtual address it listens there too, and in
// mode local on a control plane's own address: machines without a balancer of their own
// reach the endpoint by a DNS name of the control planes.
func New(n *node.Node, c *kubeadm.Config, caFile string) Balancer {
	b := Balancer{Port: c.EndpointPort, Addresses: []netip.Addr{netip.MustParseAddr(c.Loopback())},
		Servers: slices.Clone(n.Cluster.ControlPlanes), ServerPort: c.APIPort, CAFile: caFile, Check: n.Timeouts.BalancerHealthCheck.D()}
	switch {
	case n.VIP.LoadBalancer != "":
		b.Addresses = append(b.Addresses, c.VIP.Unmap())
	case n.Role == node.ControlPlane:
		b.Addresses = append(b.Addresses, c.Address)
	}
	if len(b.Servers) == 0 {
		b.Servers = []node.Peer{{Name: c.NodeName, Address: c.Address.String()}}
	}
	slices.SortFunc(b.Servers, func(x, y node.Peer) int { return cmp.Compare(x.Name, y.Name) })
	return b
}

// Local is host:port of the balancer for the machine itself.
func (b Balancer) Local() string { return netip.AddrPortFrom(b.Addresses[0], uint16(b.Port)).String() }

// Config renders haproxy's configuration. Decision 0021 says why it is as it is.
func (b Balancer) Config() kubeadm.File {
	var buf bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&buf, format+"\n", args...) }
	p("# Written by firstboot; a change is overwritten when it runs again.")
	p("global")
	p("    log stdout format raw daemon notice")
	p("    maxconn 4000")
	p("    nbthread 1")
	p("")
	p("defaults")
	p("    mode tcp")
	p("    log global")
	p("    option dontlognull")
	p("    option redispatch 1")
	p("    retries 3")
	p("    timeout connect 2s")
	p("    timeout queue 5s")
	p("    # Watches and attached terminals may be silent for long; keep-alives find dead peers.")
	p("    timeout client 4h")
	p("    timeout server 4h")
	p("    timeout client-fin 30s")
	p("    timeout server-fin 30s")
	p("    option clitcpka")
	p("    option srvtcpka")
	p("")
	p("frontend endpoint")
	for _, a := range b.Addresses {
		// transparent: the address may come, or come back, later.
		p("    bind %s%s", netip.AddrPortFrom(a, uint16(b.Port)), map[bool]string{false: " transparent"}[a.IsLoopback()])
	}
	p("    # With none ready, one that is not may serve nevertheless, as where all are only slow.")
	p("    use_backend unready if { nbsrv(apiservers) eq 0 }")
	p("    default_backend apiservers")
	p("")
	p("backend apiservers")
	p("    balance random")
	p("    option httpchk")
	p("    http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host kubernetes")
	p("    http-check expect status 200")
	verify := "verify none"
	if b.CAFile != "" {
		verify = "verify required ca-file " + b.CAFile + " verifyhost kubernetes"
	}
	// Without a timeout of its own a check may take the time of inter, connection and handshake
	// included; with one these have to be made within the timeout for connections.
	p("    default-server check check-ssl %s check-sni kubernetes check-alpn http/1.1 inter %dms fastinter 500ms downinter 1s rise 1 fall 2 observe layer4 error-limit 2 on-error fastinter on-marked-down shutdown-sessions", verify, b.Check.Milliseconds())
	servers := func(options string) {
		for _, s := range b.Servers {
			a, _ := netip.ParseAddr(s.Address) // validated with the document
			p("    server %s %s%s", s.Name, netip.AddrPortFrom(a.Unmap(), uint16(b.ServerPort)), options)
		}
	}
	servers("")
	p("")
	p("backend unready")
	p("    balance random")
	servers(" no-check")
	return kubeadm.File{Path: ConfigFile, Mode: 0o644, Data: buf.Bytes()}
}

// mark ends the line of /etc/hosts that is ours.
const mark = "# API endpoint, written by firstboot"

// WithoutHosts returns the content of /etc/hosts without our line, and whether there was one.
func WithoutHosts(old []byte) ([]byte, bool) {
	var out []byte
	for line := range bytes.Lines(old) {
		if !bytes.HasSuffix(bytes.TrimRight(line, "\n"), []byte(mark)) {
			out = append(out, line...)
		}
	}
	return out, len(out) != len(old)
}

// Hosts returns the content of /etc/hosts with name leading to address, and to nowhere else.
// Everything else in old stays.
func Hosts(old []byte, name, address string) kubeadm.File {
	var lines []string
	for line := range strings.SplitSeq(strings.TrimRight(string(old), "\n"), "\n") {
		text, _, _ := strings.Cut(line, "#")
		fields := strings.Fields(text)
		if strings.HasSuffix(line, mark) {
			continue
		}
		if len(fields) > 1 && slices.ContainsFunc(fields[1:], func(f string) bool { return strings.EqualFold(f, name) }) {
			kept := slices.DeleteFunc(fields[1:], func(f string) bool { return strings.EqualFold(f, name) })
			if len(kept) == 0 {
				continue
			}
			line = fields[0] + " " + strings.Join(kept, " ")
		}
		if line != "" || len(lines) > 0 {
			lines = append(lines, line)
		}
	}
	lines = append(lines, address+" "+name+" "+mark)
	return kubeadm.File{Path: HostsFile, Mode: 0o644, Data: []byte(strings.Join(lines, "\n") + "\n")}
}
