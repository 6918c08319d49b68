// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/strict"
)

// validator reports to a document.
type validator struct{ doc *strict.Document }

func (v *validator) fail(path, message, allowed string) { v.doc.Report(path, message, allowed) }

// validate reports every problem of a defaulted document beyond those of decoding.
func validate(doc *strict.Document, n *Node) {
	v := &validator{doc: doc}
	strict.OneOf(v.doc, "apiVersion", n.APIVersion, APIVersion)
	strict.OneOf(v.doc, "kind", n.Kind, Kind)
	strict.OneOf(v.doc, "role", n.Role, ControlPlane, Worker)
	v.cluster(n)
	v.machine("node", n.Node, n.Role)
	v.hosts(n)
	v.pki(n)
	v.tokens(n)
	v.parts(n)
	v.kubelet("kubelet", n.Kubelet)
	if n.Cluster.Kubelet != nil {
		v.kubelet("cluster.kubelet", *n.Cluster.Kubelet)
	}
	v.vip(n)
	v.ports(n)
	v.timeouts(n)
	v.callback(n)
}

// The forms of names and secrets. Token, hash and key forms are those kubeadm accepts;
// names follow RFC 1123.
var (
	subdomainForm = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
	tokenForm     = regexp.MustCompile(`^[a-z0-9]{6}\.[a-z0-9]{16}$`)
	hashForm      = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	keyForm       = regexp.MustCompile(`^[0-9a-f]{64}$`)
	versionForm   = regexp.MustCompile(`^v1\.[0-9]+\.[0-9]+([-+].*)?$`)
	interfaceForm = regexp.MustCompile(`^[^/\s]{1,15}$`)
	labelForm     = regexp.MustCompile(`^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)
	bearerForm    = regexp.MustCompile(`^[!-~]+$`) // RFC 9110, section 5.5, without spaces
	valueForm     = regexp.MustCompile(`^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$`)
)

func (v *validator) match(path, got string, form *regexp.Regexp, message, allowed string) {
	if got != "" && !form.MatchString(got) {
		v.fail(path, message, allowed)
	}
}

const nameRule = "lower-case letters, digits, dashes and dots, at most 253 characters"

func (v *validator) name(path, got string) {
	if got != "" && (!subdomainForm.MatchString(got) || len(got) > 253) {
		v.fail(path, "is not a node name", nameRule)
	}
}

func (v *validator) ip(path, got string) netip.Addr {
	if got == "" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(got)
	if err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() {
		v.fail(path, "is not a usable IP address", "an IPv4 or IPv6 address of the machine, without prefix length or zone")
	}
	return a
}

// lengths are the shortest and the longest prefix that work.
type lengths struct{ shortest, longest int }

func (v *validator) prefix(path, got string, v4, v6 lengths) netip.Prefix {
	p, err := netip.ParsePrefix(got)
	if err != nil {
		v.fail(path, "is not an address range", "CIDR notation, for example 10.96.0.0/12")
		return netip.Prefix{}
	}
	if p != p.Masked() {
		v.fail(path, "has bits set behind the prefix", p.Masked().String())
	}
	allowed := v6
	if p.Addr().Is4() {
		allowed = v4
	}
	if p.Bits() < allowed.shortest || p.Bits() > allowed.longest {
		v.fail(path, "has a prefix length that does not work", fmt.Sprintf("/%d to /%d", allowed.shortest, allowed.longest))
	}
	return p
}

func (v *validator) cluster(n *Node) {
	c := n.Cluster
	v.match("cluster.name", c.Name, subdomainForm, "is not a cluster name", nameRule)
	if _, err := time.Parse(time.RFC3339, c.Created); c.Created != "" && err != nil {
		v.fail("cluster.created", "is not a moment", "RFC 3339, for example 2026-11-21T11:45:14Z")
	}
	if c.Endpoint != "" {
		v.endpoint("cluster.endpoint", c.Endpoint)
	} else if len(c.ControlPlanes) > 1 || n.Role == Worker {
		v.fail("cluster.endpoint", "is missing", "host:port of the API; only a single control plane can leave it out")
	}
	strict.OneOf(v.doc, "cluster.endpointMode", c.EndpointMode, EndpointDirect, EndpointVIP, EndpointLocal)
	v.match("cluster.kubernetesVersion", c.KubernetesVersion, versionForm, "is not a Kubernetes version", "vMAJOR.MINOR.PATCH, for example v1.36.3")
	strict.OneOf(v.doc, "cluster.proxyMode", c.ProxyMode, ProxyNFTables, ProxyIPTables, ProxyIPVS, ProxyUpstream)
	// A node's range has to fit at least once, and at most 16 bits tell nodes apart. kubeadm wants
	// at most 20 bits of services.
	pods := v.prefix("cluster.networking.podSubnet", c.Networking.PodSubnet, lengths{NodeBits4 - 16, NodeBits4}, lengths{NodeBits6 - 16, NodeBits6})
	services := v.prefix("cluster.networking.serviceSubnet", c.Networking.ServiceSubnet, lengths{12, 28}, lengths{108, 124})
	if pods.IsValid() && services.IsValid() && pods.Overlaps(services) {
		v.fail("cluster.networking.serviceSubnet", "overlaps cluster.networking.podSubnet "+pods.String(), "a range of its own")
	}
	v.match("cluster.networking.dnsDomain", c.Networking.DNSDomain, subdomainForm, "is not a DNS domain", nameRule)
	v.peers(n, pods, services)
}

func (v *validator) peers(n *Node, pods, services netip.Prefix) {
	names, addrs := map[string]int{}, map[netip.Addr]int{}
	for i, p := range n.Cluster.ControlPlanes {
		at := fmt.Sprintf("cluster.controlPlanes[%d]", i)
		if p.Name == "" {
			v.fail(at+".name", "is missing", nameRule)
		}
		if p.Address == "" {
			v.fail(at+".address", "is missing", "the IP address the node advertises")
		}
		v.name(at+".name", p.Name)
		a := v.ip(at+".address", p.Address)
		if j, dup := names[p.Name]; dup && p.Name != "" {
			v.fail(at+".name", fmt.Sprintf("is also the name of controlPlanes[%d]", j), "a name per machine")
		}
		if j, dup := addrs[a]; dup && a.IsValid() {
			v.fail(at+".address", fmt.Sprintf("is also the address of controlPlanes[%d]", j), "an address per machine")
		}
		names[p.Name], addrs[a] = i, i
		v.outside(at+".address", a, pods, services)
	}
	for i, f := range n.Cluster.Founders {
		at := fmt.Sprintf("cluster.founders[%d]", i)
		if _, ok := names[f]; !ok {
			v.fail(at, "is not the name of a control plane", "the names of cluster.controlPlanes")
		}
		if slices.Contains(n.Cluster.Founders[:i], f) {
			v.fail(at, "was already named", "each control plane once")
		}
	}
	v.outside("node.address", v.ip("node.address", n.Node.Address), pods, services)
	for i, h := range n.Hosts {
		at := fmt.Sprintf("hosts[%d].node.address", i)
		v.outside(at, v.ip(at, h.Node.Address), pods, services)
	}
}

func (v *validator) outside(path string, a netip.Addr, pods, services netip.Prefix) {
	if a.IsValid() && (pods.IsValid() && pods.Contains(a) || services.IsValid() && services.Contains(a)) {
		v.fail(path, "lies inside the pod or service range", "an address outside "+pods.String()+" and "+services.String())
	}
}

func (v *validator) endpoint(path, got string) {
	i := strings.LastIndexByte(got, ':')
	if i < 0 {
		v.fail(path, "has no port", "host:port, for example 192.0.2.10:6443")
		return
	}
	host, port := strings.Trim(got[:i], "[]"), got[i+1:]
	if p, err := strconv.Atoi(port); err != nil || p < 1 || p > 65535 {
		v.fail(path, "has no valid port", "1 to 65535")
	}
	if _, err := netip.ParseAddr(host); err != nil && !subdomainForm.MatchString(host) {
		v.fail(path, "has no valid host", "a DNS name or an IP address (IPv6 in brackets)")
	}
}

func (v *validator) callback(n *Node) {
	c := n.Callback
	if c.URL == "" && (c.CA != "" || c.Token != "") {
		v.fail("callback.url", "is missing", "an http or https URL; without one there is no callback")
	}
	if u, err := url.Parse(c.URL); c.URL != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil) {
		v.fail("callback.url", "is not a usable URL", "http://host/path or https://host/path, without user and password")
	}
	v.match("callback.token", c.Token.Reveal(), bearerForm, "cannot be sent as a bearer token", "one word of printable ASCII characters")
	if c.CA == "" {
		return
	}
	if err := CheckCertificates([]byte(c.CA)); err != nil {
		v.fail("callback.ca", err.Error(), "PEM text with certificates and nothing else")
	}
}
