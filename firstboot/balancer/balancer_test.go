// SPDX-License-Identifier: Apache-2.0

package balancer

import (
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm/kubeadmtest"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

func servers(n *node.Node) {
	n.Cluster.ControlPlanes = []node.Peer{{Name: "cp-2", Address: "192.0.2.12"}, {Name: "cp-1", Address: "192.0.2.11"}}
}

func local(n *node.Node) {
	servers(n)
	n.Cluster.Endpoint, n.Cluster.EndpointMode = "api.example.com:7443", node.EndpointLocal
}

func worker(n *node.Node) {
	local(n)
	n.Role, n.Node.Address = node.Worker, "192.0.2.21"
}

func six(n *node.Node) {
	n.Cluster.ControlPlanes = []node.Peer{{Name: "cp-1", Address: "2001:db8::11"}}
	n.Cluster.Endpoint, n.Cluster.EndpointMode = "api.example.com:7443", node.EndpointLocal
	n.Node.Address = "2001:db8::11"
}

func address(n *node.Node) {
	servers(n)
	n.Cluster.Endpoint = "192.0.2.10:8443"
	n.VIP = node.VIP{Provider: node.VIPKeepalived, Address: "192.0.2.10", LoadBalancer: "haproxy"}
}

var shapes = map[string]func(*node.Node){"control-plane": local, "worker": worker, "ipv6": six, "vip": address}

func made(t *testing.T, ca string, edit func(*node.Node)) Balancer {
	t.Helper()
	n := kubeadmtest.Document()
	edit(n)
	if !Wanted(n) {
		t.Error("no balancer is wanted")
	}
	return New(n, kubeadmtest.Config(t, edit), ca)
}

func TestConfig(t *testing.T) {
	for name, edit := range shapes {
		ca := CAFile
		if name == "worker" {
			ca = "" // before it joined
		}
		f := made(t, ca, edit).Config()
		kubeadmtest.Golden(t, name+".cfg", f.Data)
		if f.Path != ConfigFile {
			t.Error(f)
		}
	}
}

// Slow hosts give API servers more time; a virtual address that waits for long is enough.
func TestChecksFollowTheSettings(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*node.Node)
		want string
	}{
		{"default", local, " inter 5000ms "},
		{"local", func(n *node.Node) { local(n); n.Timeouts.BalancerHealthCheck = node.Duration(30 * time.Second) }, " inter 30000ms "},
		{"virtual address", func(n *node.Node) { address(n); n.VIP.HealthTimeout = node.Duration(20 * time.Second) }, " inter 20000ms "},
		{"quick virtual address", func(n *node.Node) { address(n); n.VIP.HealthTimeout = node.Duration(time.Second) }, " inter 5000ms "},
		{"both", func(n *node.Node) {
			address(n)
			n.VIP.HealthTimeout, n.Timeouts.BalancerHealthCheck = node.Duration(20*time.Second), node.Duration(1500*time.Millisecond)
		}, " inter 1500ms "},
	} {
		text := string(made(t, CAFile, func(n *node.Node) {
			n.Timeouts.BalancerHealthCheck = 0
			c.edit(n)
			node.SetDefaults(n)
		}).Config().Data)
		// A timeout of their own would leave them no more for the handshake than connections have.
		if !strings.Contains(text, c.want) || strings.Contains(text, "timeout check") {
			t.Errorf("%s: not%s:\n%s", c.name, c.want, text)
		}
	}
}

func TestWanted(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*node.Node)
		want bool
	}{
		{"direct", func(*node.Node) {}, false},
		{"virtual address", func(n *node.Node) { address(n); n.VIP.LoadBalancer = "" }, false},
		{"worker behind a virtual address", func(n *node.Node) { address(n); n.Role = node.Worker }, false},
		{"control plane behind one", address, true},
		{"local worker", worker, true},
	} {
		n := kubeadmtest.Document()
		c.edit(n)
		if got := Wanted(n); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestHosts(t *testing.T) {
	const base = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n"
	const ours = "127.0.0.1 api.example.com " + mark + "\n"
	for _, c := range []struct{ name, old, want string }{
		{"fresh", base, base + ours},
		{"absent", "", ours},
		{"again", base + ours, base + ours},
		{"another name of ours", base + "127.0.0.1 old.example.com " + mark + "\n", base + ours},
		{"somebody's own entry", base + "192.0.2.11 api.example.com\n", base + ours},
		{"one of several names", base + "192.0.2.11 cp-1 API.example.com\n", base + "192.0.2.11 cp-1\n" + ours},
		{"a comment", base + "# api.example.com\n", base + "# api.example.com\n" + ours},
		{"no newline at the end", strings.TrimSuffix(base, "\n"), base + ours},
	} {
		f := Hosts([]byte(c.old), "api.example.com", "127.0.0.1")
		if string(f.Data) != c.want {
			t.Errorf("%s: %q", c.name, f.Data)
		}
		if again := Hosts(f.Data, "api.example.com", "127.0.0.1"); string(again.Data) != c.want {
			t.Errorf("%s: a second time: %q", c.name, again.Data)
		}
	}
}

func FuzzHosts(f *testing.F) {
	f.Add([]byte("127.0.0.1 localhost\n"), "api.example.com")
	f.Fuzz(func(t *testing.T, old []byte, name string) {
		if name == "" || strings.ContainsAny(name, "# \t\n\r\v\f") || strings.Fields(name) == nil {
			t.Skip()
		}
		once := Hosts(old, name, "127.0.0.1").Data
		if twice := Hosts(once, name, "127.0.0.1").Data; string(twice) != string(once) {
			t.Errorf("%q, then %q", once, twice)
		}
	})
}
