// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/firstboot/balancer"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm/kubeadmtest"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
	"github.com/imgbuild/imgbuild/firstboot/vip"
)

// The addresses of tests are on no interface.
func init() { carrier = func(netip.Addr) (string, error) { return "eth3", nil } }

func TestInterfaceOfAnAddress(t *testing.T) {
	name, err := interfaceOf(netip.MustParseAddr("127.0.0.1"))
	if link, e := net.InterfaceByName(name); err != nil || e != nil || link.Flags&net.FlagLoopback == 0 {
		t.Errorf("%q %v %v", name, err, e)
	}
	if name, err := interfaceOf(netip.MustParseAddr("192.0.2.11")); err == nil || !strings.Contains(err.Error(), "192.0.2.11") {
		t.Errorf("%q %v", name, err)
	}
}

// endpointState is a machine whose units are only noted.
func endpointState(t *testing.T, edit func(*node.Node)) (*State, *[]string) {
	t.Helper()
	base := func(n *node.Node) {
		n.Cluster.ControlPlanes = []node.Peer{{Name: "cp-1", Address: "192.0.2.11"}, {Name: "cp-2", Address: "192.0.2.12"}}
		n.VIP = node.VIP{Provider: node.VIPKeepalived, Address: "192.0.2.10", Interface: "eth7"}
		edit(n)
		node.SetDefaults(n)
	}
	n := kubeadmtest.Document()
	base(n)
	units := &[]string{}
	note := func(verb string) func(context.Context, string) error {
		return func(_ context.Context, unit string) error { *units = append(*units, verb+" "+unit); return nil }
	}
	return &State{Root: t.TempDir(), Node: n, Config: kubeadmtest.Config(t, base), StartUnit: note("start"), RestartUnit: note("restart")}, units
}

func content(t *testing.T, s *State, path string) string {
	t.Helper()
	text, err := os.ReadFile(s.path(path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestKeepalivedIsStarted(t *testing.T) {
	s, units := endpointState(t, func(*node.Node) {})
	for range 2 {
		if err := startKeepalived(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"restart " + vip.WatchUnit, "restart " + vip.Unit, "start " + vip.WatchUnit, "start " + vip.Unit}
	if !slices.Equal(*units, want) {
		t.Errorf("%q, want %q", *units, want)
	}
	if text := content(t, s, vip.ConfigFile); !strings.Contains(text, "    interface eth3\n") || !strings.Contains(text, "192.0.2.10/32 dev eth7\n") {
		t.Error(text)
	}
	if text := content(t, s, vip.WatchFile); text != "ENDPOINT=192.0.2.11:6443\nADDRESS=192.0.2.10\nTIMEOUT=3s\n" {
		t.Error(text)
	}
}

// A machine that joins is configured, and started by firstboot-follow.service.
func TestKeepalivedOfAMachineThatJoins(t *testing.T) {
	s, units := endpointState(t, func(*node.Node) {})
	s.Membership = &Membership{Joined: true}
	if err := startKeepalived(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if want := []string{"restart " + vip.WatchUnit}; !slices.Equal(*units, want) || !s.absent(vip.AdmittedFile) || s.absent(vip.ConfigFile) {
		t.Errorf("%q", *units)
	}
	if err := s.admit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := startKeepalived(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if got := (*units)[len(*units)-1]; got != "start "+vip.Unit {
		t.Errorf("%q", *units)
	}
}

// A founder whose first boot goes on after a power cut may have missed that others were added. One
// that was cut off before etcd began asks again who founds, and one whose keepalived runs already
// was not switched off.
func TestKeepalivedOfAFounderAfterAPowerCut(t *testing.T) {
	for _, c := range []struct {
		name string
		data bool
		cut  bool
		held bool
	}{{"etcd began", true, true, true}, {"etcd had not begun", false, true, false}, {"first boot was started again", true, false, false}} {
		s, units := endpointState(t, func(*node.Node) {})
		s.Membership = &Membership{Members: s.Node.Cluster.ControlPlanes}
		if err := startKeepalived(t.Context(), s); err != nil || s.absent(vip.AdmittedFile) {
			t.Fatalf("%s: the first time: %v", c.name, err)
		}
		if c.data {
			if err := os.MkdirAll(s.path(kubeadm.EtcdDataDir+"/member"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if c.cut {
			if err := os.RemoveAll(s.path("/run")); err != nil {
				t.Fatal(err)
			}
		}
		*units = nil
		if err := startKeepalived(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		want := []string{"start " + vip.WatchUnit, "start " + vip.Unit}
		if c.held {
			want[1] = "start " + FollowUnit
		}
		if !slices.Equal(*units, want) || s.absent(vip.AdmittedFile) != c.held || s.absent(FollowFile) == c.held || s.absent(vip.ConfigFile) {
			t.Errorf("%s: %q, admitted %v, followed %v", c.name, *units, !s.absent(vip.AdmittedFile), !s.absent(FollowFile))
		}
	}
}

func TestOwnerWithBalancerFollowsTheBalancer(t *testing.T) {
	s, _ := endpointState(t, func(n *node.Node) { n.Cluster.Endpoint, n.VIP.LoadBalancer = "192.0.2.10:8443", "haproxy" })
	if err := errors.Join(startBalancer(t.Context(), s), startKeepalived(t.Context(), s)); err != nil {
		t.Fatal(err)
	}
	if text := content(t, s, vip.WatchFile); text != "ENDPOINT=127.0.0.1:8443\nADDRESS=192.0.2.10\nTIMEOUT=3s\n" {
		t.Error(text)
	}
	if _, err := os.Stat(s.path(balancer.HostsFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the endpoint's name was led to the machine itself: %v", err)
	}
}

func TestMachineOutsideTheListIsRefused(t *testing.T) {
	s, units := endpointState(t, func(n *node.Node) { n.Node.Address = "192.0.2.99" })
	if err := startKeepalived(t.Context(), s); !errors.Is(err, phase.ErrPermanent) || len(*units) > 0 {
		t.Errorf("%v %q", err, *units)
	}
}

func TestProvidersThatNeedNothing(t *testing.T) {
	for _, p := range []node.VIPProvider{node.VIPNone, node.VIPExternal} {
		s, units := endpointState(t, func(n *node.Node) { n.VIP = node.VIP{Provider: p} })
		if err := errors.Join(startKeepalived(t.Context(), s), placeKubeVIP(t.Context(), s), startBalancer(t.Context(), s)); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(s.Root); err != nil || len(left)+len(*units) > 0 {
			t.Errorf("%s: %v %v %v", p, left, *units, err)
		}
	}
}

func TestKubeVIPIsPlaced(t *testing.T) {
	s, units := endpointState(t, func(n *node.Node) { n.VIP.Provider = node.VIPKubeVIP })
	if err := errors.Join(startKeepalived(t.Context(), s), placeKubeVIP(t.Context(), s)); err != nil {
		t.Fatal(err)
	}
	text := content(t, s, kubeadm.ManifestsDir+"/kube-vip.yaml")
	if len(*units) > 0 || !strings.Contains(text, "value: eth7\n") || !strings.Contains(text, "path: /etc/kubernetes/admin.conf") || strings.Contains(text, "super-admin") {
		t.Errorf("%q\n%s", *units, text)
	}
}

// A machine balances before it has the cluster's authority, and verifies once it has it.
func TestBalancerLearnsTheAuthority(t *testing.T) {
	s, units := endpointState(t, func(n *node.Node) {
		n.VIP = node.VIP{Provider: node.VIPNone}
		n.Cluster.Endpoint, n.Cluster.EndpointMode = "api.example.com:7443", node.EndpointLocal
	})
	for _, want := range []string{"verify none", "verify required"} {
		if err := startBalancer(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if text := content(t, s, balancer.ConfigFile); !strings.Contains(text, want) {
			t.Errorf("not %s:\n%s", want, text)
		}
		ca := s.path(balancer.CAFile)
		if err := errors.Join(os.MkdirAll(filepath.Dir(ca), 0o755), os.WriteFile(ca, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"restart " + balancer.Unit, "restart " + balancer.Unit}; !slices.Equal(*units, want) {
		t.Errorf("%q", *units)
	}
	if text := content(t, s, balancer.HostsFile); !strings.HasPrefix(text, "127.0.0.1 api.example.com ") {
		t.Error(text)
	}
}
