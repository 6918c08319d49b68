// SPDX-License-Identifier: Apache-2.0

// Package pki makes the keys and certificates of a control-plane node: the table of what there
// is (certlist.go), how one is made (make.go), and the rules that bring a directory to that
// state while keeping what is already right (ensure.go). File names, subjects and extensions
// are those of kubeadm v1.36; keys default to ECDSA P-256. Time, randomness and the source of
// keys are parameters.
package pki

import (
	"net/netip"
	"slices"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
)

// Names of the authorities, which are also their files below the pki directory.
const (
	CA           = "ca"
	FrontProxyCA = "front-proxy-ca"
	EtcdCA       = "etcd/ca"
	// ServiceAccount is a bare key pair: sa.key and sa.pub.
	ServiceAccount = "sa"
)

// Spec describes one certificate. Its files are Name + ".crt" and Name + ".key".
type Spec struct {
	Name         string
	CommonName   string
	Organization []string
	// Signer is the name of the authority; empty for an authority itself.
	Signer         string
	Server, Client bool
	// DNS and IPs are the subject alternative names, free of duplicates, DNS sorted.
	DNS []string
	IPs []netip.Addr
}

// IsCA says whether the spec is an authority.
func (s Spec) IsCA() bool { return s.Signer == "" }

// Specs lists every certificate of a control plane, authorities first.
func Specs(c *kubeadm.Config) []Spec {
	etcdNames := []string{c.NodeName, "localhost", c.Address.String(), "127.0.0.1", "::1"}
	api := []string{c.NodeName, "kubernetes", "kubernetes.default", "kubernetes.default.svc",
		"kubernetes.default.svc." + c.DNSDomain, c.ServiceIP(1).String(), c.Address.String(), c.EndpointHost}
	if c.VIP.IsValid() {
		api = append(api, c.VIP.String())
	}
	// Whoever was sent to one API server may be led to another: by a balancer, by a name with
	// several addresses, by a kubeconfig that was written for one machine. Etcd's members are
	// only ever reached as themselves.
	for _, p := range c.ControlPlanes {
		api = append(api, p.Name, p.Address)
	}
	list := []Spec{
		{Name: CA, CommonName: "kubernetes"},
		{Name: FrontProxyCA, CommonName: "front-proxy-ca"},
		{Name: EtcdCA, CommonName: "etcd-ca"},
		{Name: "apiserver", CommonName: "kube-apiserver", Signer: CA, Server: true},
		{Name: "apiserver-kubelet-client", CommonName: "kube-apiserver-kubelet-client", Signer: CA, Client: true},
		{Name: "front-proxy-client", CommonName: "front-proxy-client", Signer: FrontProxyCA, Client: true},
		{Name: "etcd/server", CommonName: c.NodeName, Signer: EtcdCA, Server: true, Client: true},
		{Name: "etcd/peer", CommonName: c.NodeName, Signer: EtcdCA, Server: true, Client: true},
		{Name: "etcd/healthcheck-client", CommonName: "kube-etcd-healthcheck-client", Signer: EtcdCA, Client: true},
		{Name: "apiserver-etcd-client", CommonName: "kube-apiserver-etcd-client", Signer: EtcdCA, Client: true},
	}
	for i := range list {
		s := &list[i]
		switch {
		case s.IsCA():
			s.setSANs([]string{s.CommonName})
		case s.Name == "apiserver":
			s.setSANs(append(api, c.APIServerSANs...))
		case s.Name == "etcd/server":
			s.setSANs(append(slices.Clone(etcdNames), c.EtcdServerSANs...))
		case s.Name == "etcd/peer":
			s.setSANs(append(slices.Clone(etcdNames), c.EtcdPeerSANs...))
		}
	}
	return list
}

// setSANs sorts names into addresses, in order, and DNS names, sorted; each once.
func (s *Spec) setSANs(names []string) {
	for _, n := range names {
		if a, err := netip.ParseAddr(n); err == nil {
			if a = a.Unmap(); !slices.Contains(s.IPs, a) {
				s.IPs = append(s.IPs, a)
			}
		} else if n != "" && !slices.Contains(s.DNS, n) {
			s.DNS = append(s.DNS, n)
		}
	}
	slices.Sort(s.DNS)
}

// Users returns the subjects of the client certificates inside the kubeconfig files, keyed by
// the file's base name, all signed by CA.
func Users(nodeName string) map[string]Spec {
	user := func(cn string, org ...string) Spec {
		return Spec{CommonName: cn, Organization: org, Signer: CA, Client: true}
	}
	return map[string]Spec{
		"admin.conf":              user("kubernetes-admin", kubeadm.ClusterAdminsGroup),
		"super-admin.conf":        user("kubernetes-super-admin", kubeadm.SystemMasters),
		"controller-manager.conf": user("system:kube-controller-manager"),
		"scheduler.conf":          user("system:kube-scheduler"),
		"kubelet.conf":            user("system:node:"+nodeName, kubeadm.NodesGroup),
	}
}
