// SPDX-License-Identifier: Apache-2.0

package kubeadm_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm/kubeadmtest"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

func TestNewResolves(t *testing.T) {
	c := kubeadmtest.Config(t)
	for what, got := range map[string][2]string{
		"endpoint": {c.EndpointURL(), "https://192.0.2.10:6443"}, "local": {c.LocalURL(), "https://192.0.2.11:6443"},
		"api service": {c.ServiceIP(1).String(), "10.96.0.1"}, "dns": {c.ServiceIP(10).String(), "10.96.0.10"},
		"apiserver image": {c.Image(kubeadm.APIServer), "registry.k8s.io/kube-apiserver:v1.36.3"},
		"etcd image":      {c.Image(kubeadm.Etcd), "registry.k8s.io/etcd:3.6.8-0"},
		"dns image":       {c.Image(kubeadm.CoreDNS), "registry.k8s.io/coredns/coredns:v1.14.2"},
		"token":           {c.Tokens[0].ID, "abcdef"},
		"expiry":          {c.Tokens[0].Expiration.Format(time.RFC3339), "2026-11-22T11:45:14Z"},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: %s, want %s", what, got[0], got[1])
		}
	}
	c = kubeadmtest.Config(t, func(n *node.Node) {
		n.Cluster.Endpoint, n.Node.Name = "", " CP-One "
		n.Delivery.ImageRepository = "example.net/mirror"
		n.Delivery.Images = map[string]string{kubeadm.Etcd: "example.net/etcd@sha256:00"}
	})
	if c.EndpointURL() != "https://192.0.2.11:6443" || c.EndpointSet || c.NodeName != "cp-one" {
		t.Errorf("own endpoint %s, set %v, name %q", c.EndpointURL(), c.EndpointSet, c.NodeName)
	}
	if c.Image(kubeadm.Etcd) != "example.net/etcd@sha256:00" || c.Image(kubeadm.CoreDNS) != "example.net/mirror/coredns:v1.14.2" {
		t.Errorf("images %s %s", c.Image(kubeadm.Etcd), c.Image(kubeadm.CoreDNS))
	}
}

func TestNewReportsEverything(t *testing.T) {
	n := kubeadmtest.Document()
	n.Node.Address = "300.1.1.1"
	n.Cluster.Networking.PodSubnet, n.Cluster.Networking.ServiceSubnet = "pods", "services"
	n.Cluster.Endpoint = "nowhere"
	n.VIP = node.VIP{Provider: node.VIPKeepalived, Address: "vip"}
	n.BootstrapTokens[0].Token = "leaked-secret-value"
	_, err := kubeadm.New(n, kubeadmtest.Host())
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"node.address: \"300.1.1.1\"", "podSubnet: \"pods\"", "serviceSubnet: \"services\"",
		"cluster.endpoint: \"nowhere\"", "vip.address: \"vip\"", "bootstrapTokens[0].token"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing from:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "leaked") {
		t.Errorf("the error shows a token: %v", err)
	}
}

func TestNewNeedsNameAndAddress(t *testing.T) {
	n := kubeadmtest.Document()
	n.Node.Name = ""
	if _, err := kubeadm.New(n, kubeadm.Host{Address: netip.MustParseAddr("192.0.2.1")}); err == nil || !strings.Contains(err.Error(), "node.name") {
		t.Errorf("without a name: %v", err)
	}
	if _, err := kubeadm.New(n, kubeadm.Host{Hostname: "a"}); err == nil || !strings.Contains(err.Error(), "node.address") {
		t.Errorf("without an address: %v", err)
	}
	n.Cluster.Networking.ServiceSubnet = "10.96.0.0/29"
	if _, err := kubeadm.New(n, kubeadmtest.Host()); err == nil || !strings.Contains(err.Error(), "fewer than 16") {
		t.Errorf("tiny service range: %v", err)
	}
}

func TestIPv6(t *testing.T) {
	c := kubeadmtest.Config(t, func(n *node.Node) { n.Node.Address = "2001:db8::1" })
	if c.Loopback() != "::1" || c.LocalURL() != "https://[2001:db8::1]:6443" || !c.AddressPinned {
		t.Errorf("%s %s %v", c.Loopback(), c.LocalURL(), c.AddressPinned)
	}
}
