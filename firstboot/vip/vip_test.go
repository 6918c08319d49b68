// SPDX-License-Identifier: Apache-2.0

package vip

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm/kubeadmtest"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// three is a cluster of three with a virtual address; the reference machine is its first.
func three(n *node.Node) {
	n.Cluster.EndpointMode = node.EndpointVIP
	n.Cluster.ControlPlanes = []node.Peer{{Name: "cp-3", Address: "192.0.2.13"}, {Name: "cp-1", Address: "192.0.2.11"}, {Name: "cp-2", Address: "192.0.2.12"}}
	n.VIP = node.VIP{Provider: node.VIPKeepalived, Address: "192.0.2.10"}
	node.SetDefaults(n)
}

func six(n *node.Node) {
	n.Cluster.ControlPlanes = []node.Peer{{Name: "cp-1", Address: "2001:db8::11"}, {Name: "cp-2", Address: "2001:db8::12"}}
	n.Node.Address, n.VIP.Address, n.VIP.RouterID = "2001:db8::11", "2001:db8::10", 7
	n.VIP.Priority, n.VIP.AdvertInterval = 254, node.Duration(time.Second)
}

func one(n *node.Node) { n.Cluster.ControlPlanes = nil }

// apart has the virtual address on another interface than the machine's own.
func apart(n *node.Node) { n.VIP.Interface = "eth1" }

func document(edits ...func(*node.Node)) *node.Node {
	n := kubeadmtest.Document()
	for _, e := range append([]func(*node.Node){three}, edits...) {
		e(n)
	}
	return n
}

func keepalived(t *testing.T, edits ...func(*node.Node)) Keepalived {
	t.Helper()
	k, err := New(document(edits...), kubeadmtest.Config(t, append([]func(*node.Node){three}, edits...)...), "eth0")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var shapes = map[string][]func(*node.Node){"three": nil, "ipv6": {six}, "one": {one}, "apart": {apart}}

func TestKeepalivedConfig(t *testing.T) {
	for name, edits := range shapes {
		f := keepalived(t, edits...).Config()
		kubeadmtest.Golden(t, name+".conf", f.Data)
		if f.Path != ConfigFile || f.Mode != 0o644 {
			t.Errorf("%s: %v", name, f)
		}
	}
}

// Every machine has to say the same about what they share, and name all others as peers.
func TestMachinesAgree(t *testing.T) {
	var shared string
	for _, own := range []string{"192.0.2.11", "192.0.2.12", "192.0.2.13"} {
		text := string(keepalived(t, func(n *node.Node) { n.Node.Address = own }).Config().Data)
		var common []string
		for line := range strings.Lines(text) {
			if f := strings.Fields(line); len(f) > 1 && (f[0] == "virtual_router_id" || f[0] == "advert_int" || f[0] == "vrrp_version" || f[1] == "dev") {
				common = append(common, line)
			}
		}
		if c := strings.Join(common, ""); shared == "" {
			shared = c
		} else if shared != c {
			t.Errorf("%s says\n%sthe others say\n%s", own, c, shared)
		}
		for _, other := range []string{"192.0.2.11", "192.0.2.12", "192.0.2.13"} {
			if peer := strings.Contains(text, "        "+other+" min_ttl"); peer == (other == own) {
				t.Errorf("%s lists %s as a peer: %v", own, other, peer)
			}
		}
	}
}

// No two machines are equally quick to take over, and all are quicker than one whose API server
// is not healthy; somebody's own priority stays what it is.
func TestCandidates(t *testing.T) {
	for _, count := range []int{2, 3, 5, 7} {
		peers := func(n *node.Node) {
			n.Cluster.ControlPlanes = nil
			for i := range count {
				n.Cluster.ControlPlanes = append(n.Cluster.ControlPlanes, node.Peer{Name: fmt.Sprint("cp-", i), Address: fmt.Sprint("192.0.2.", 20+i)})
			}
		}
		seen := map[int]bool{}
		for i := range count {
			own := func(n *node.Node) { n.Node.Address = fmt.Sprint("192.0.2.", 20+i) }
			c := keepalived(t, peers, own).candidate()
			if seen[c] || c <= unhealthy || c >= node.DefaultVIPPriority {
				t.Errorf("machine %d of %d stands with %d, others with %v", i+1, count, c, seen)
			}
			seen[c] = true
			if c := keepalived(t, peers, own, func(n *node.Node) { n.VIP.Priority = 150 }).candidate(); c != 150 {
				t.Errorf("chosen 150, stands with %d", c)
			}
		}
	}
}

func TestMachineOutsideTheList(t *testing.T) {
	stranger := func(n *node.Node) { n.Node.Address = "192.0.2.99" }
	_, err := New(document(stranger), kubeadmtest.Config(t, three, stranger), "eth0")
	if err == nil || !strings.Contains(err.Error(), "cluster.controlPlanes does not list this machine's address 192.0.2.99") {
		t.Error(err)
	}
}

func TestKubeVIP(t *testing.T) {
	edit := func(n *node.Node) {
		n.VIP.Provider, n.VIP.Image = node.VIPKubeVIP, "ghcr.io/kube-vip/kube-vip:v1.0.0@sha256:"+strings.Repeat("0123456789abcdef", 4)
	}
	for _, c := range []struct{ name, conf string }{{"kube-vip.yaml", "admin.conf"}, {"kube-vip-super.yaml", "super-admin.conf"}} {
		f, err := KubeVIP(document(edit), kubeadmtest.Config(t, three, edit), "eth0", c.conf)
		if err != nil {
			t.Fatal(err)
		}
		kubeadmtest.Golden(t, c.name, f.Data)
		var pod corev1.Pod
		if err := yaml.UnmarshalStrict(f.Data, &pod); err != nil {
			t.Fatal(err)
		}
		if f.Path != "/etc/kubernetes/manifests/kube-vip.yaml" || pod.Spec.Containers[0].Image != document(edit).VIP.Image ||
			pod.Spec.Volumes[0].HostPath.Path != "/etc/kubernetes/"+c.conf || pod.Spec.Containers[0].VolumeMounts[0].MountPath != "/etc/kubernetes/admin.conf" {
			t.Errorf("%s: %s", f, f.Data)
		}
	}
}

// kube-vip gives up when it could not renew its lease for longer than it keeps trying, and tries
// several times before.
func TestKubeVIPLease(t *testing.T) {
	for lease, want := range map[time.Duration]string{5 * time.Second: "5 3 1", 7 * time.Second: "7 4 1", 30 * time.Second: "30 18 6", 2 * time.Minute: "120 72 24"} {
		edit := func(n *node.Node) { n.VIP.Provider, n.VIP.LeaseDuration = node.VIPKubeVIP, node.Duration(lease) }
		f, err := KubeVIP(document(edit), kubeadmtest.Config(t, three, edit), "eth0", "admin.conf")
		if err != nil {
			t.Fatal(err)
		}
		var pod corev1.Pod
		if err := yaml.UnmarshalStrict(f.Data, &pod); err != nil {
			t.Fatal(err)
		}
		env := map[string]string{}
		for _, e := range pod.Spec.Containers[0].Env {
			env[e.Name] = e.Value
		}
		if got := env["vip_leaseduration"] + " " + env["vip_renewdeadline"] + " " + env["vip_retryperiod"]; got != want {
			t.Errorf("%v: %s, not %s", lease, got, want)
		}
	}
}

// Whoever carries the address, the API server's certificate covers it.
func TestCertificateCoversTheAddress(t *testing.T) {
	for _, p := range []node.VIPProvider{node.VIPKeepalived, node.VIPKubeVIP, node.VIPExternal} {
		c := kubeadmtest.Config(t, three, func(n *node.Node) { n.VIP.Provider, n.VIP.Address = p, "192.0.2.200" })
		covered := false
		for _, s := range pki.Specs(c) {
			for _, ip := range s.IPs {
				covered = covered || s.Name == "apiserver" && ip.String() == "192.0.2.200"
			}
		}
		if !covered {
			t.Errorf("%s: the certificate does not cover the address", p)
		}
	}
}

func TestWatchFile(t *testing.T) {
	if f := Watch("192.0.2.11:6443", netip.MustParseAddr("192.0.2.10"), 1500*time.Millisecond); string(f.Data) != "ENDPOINT=192.0.2.11:6443\nADDRESS=192.0.2.10\nTIMEOUT=1.5s\n" || f.Path != WatchFile {
		t.Errorf("%s %s", f, f.Data)
	}
}
