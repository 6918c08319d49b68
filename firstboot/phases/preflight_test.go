// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/balancer"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// healthy are the files of a machine on which every condition holds.
var healthy = map[string]string{
	RolesFile:                           "control-plane\n",
	"/proc/swaps":                       "Filename\tType\tSize\tUsed\tPriority\n",
	"/sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory hugetlb pids\n",
	"/proc/filesystems":                 "nodev\tsysfs\nnodev\toverlay\n\text4\n",
	"/proc/sys/net/bridge/bridge-nf-call-iptables": "1\n",
	"/proc/sys/net/ipv4/ip_forward":                "1\n",
	"/proc/meminfo":                                "MemTotal:        4026532 kB\nMemFree: 1 kB\n",
	"/var/keep":                                    "",
	"/etc/machine-id":                              "0123456789abcdef0123456789abcdef\n",
	"/sys/class/dmi/id/product_uuid":               "11111111-2222-3333-4444-555555555555\n",
}

func machineWith(t *testing.T, changes map[string]string) (*State, *bytes.Buffer) {
	t.Helper()
	root := t.TempDir()
	for _, files := range []map[string]string{healthy, changes} {
		for path, text := range files {
			p := filepath.Join(root, path)
			if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
				t.Fatal(err)
			}
			if text == "absent" {
				if err := os.Remove(p); err != nil && !os.IsNotExist(err) {
					t.Fatal(err)
				}
				continue
			}
			if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	n := &node.Node{Role: node.ControlPlane, Node: node.Machine{Name: "cp-1"}}
	node.SetDefaults(n)
	var log bytes.Buffer
	s := NewState(n, slog.New(slog.NewTextHandler(&log, nil)), func(string) {})
	s.Root, s.Start = root, time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	s.now = func() time.Time { return s.Start }
	return s, &log
}

func TestPreflight(t *testing.T) {
	s, _ := machineWith(t, nil)
	if err := preflight(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, text, want string }{
		{RolesFile, "worker\n", "role: this image cannot be a control-plane; it can be: worker"},
		{"/proc/swaps", "Filename\n/dev/sda2 partition 1 0 -2\n", "swap: swap is on (/dev/sda2)"},
		{"/sys/fs/cgroup/cgroup.controllers", "absent", "cgroups: the unified"},
		{"/sys/fs/cgroup/cgroup.controllers", "cpu cpuset memory", "no pids controller"},
		{"/proc/filesystems", "nodev\tsysfs\n", "modules are not loaded: overlay"},
		{"/proc/sys/net/bridge/bridge-nf-call-iptables", "absent", "br_netfilter"},
		{"/proc/sys/net/ipv4/ip_forward", "0\n", "ip_forward is 0"},
		{"/proc/meminfo", "MemTotal: 1000000 kB\n", "memory: 976 MiB"},
		{"/proc/meminfo", "x\n", "does not say"},
		{"/etc/machine-id", "uninitialized\n", "machine-id"},
		{kubeadm.PKIDir + "/ca.crt", authorityFrom(t, time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)), "clock: the clock says 2026-11-21T00:00:00Z, and the cluster's authority was made at 2026-12-31T23:55:00Z"},
		{"/var/lib/etcd/member/x", "", "etcd-data: /var/lib/etcd is not empty"},
	} {
		s, _ := machineWith(t, map[string]string{c.path: c.text})
		if err := preflight(t.Context(), s); err == nil || !strings.Contains(err.Error(), c.want) || strings.Count(err.Error(), "\n") != 0 {
			t.Errorf("%s = %q: got %v, want %q and nothing else", c.path, c.text, err, c.want)
		}
	}
}

// authorityFrom is an authority made at a moment.
func authorityFrom(t *testing.T, at time.Time) string {
	t.Helper()
	m := &pki.Maker{Algorithm: node.ECDSAP256, CAValidity: time.Hour, Now: at}
	key, err := m.Key()
	if err != nil {
		t.Fatal(err)
	}
	pair, err := m.Authority(pki.Spec{Name: "ca", CommonName: "kubernetes"}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pair.CertPEM())
}

func TestPreflightReportsTogetherAndWarns(t *testing.T) {
	s, log := machineWith(t, map[string]string{"/proc/sys/net/ipv4/ip_forward": "0", "/etc/machine-id": "", "/sys/class/dmi/id/product_uuid": "00000000-0000-0000-0000-000000000000"})
	err := preflight(t.Context(), s)
	if err == nil || strings.Count(err.Error(), "\n") != 1 || strings.Contains(err.Error(), "UUID") {
		t.Errorf("got %v, want two problems", err)
	}
	if !strings.Contains(log.String(), "product-uuid") {
		t.Errorf("no warning about the UUID: %s", log)
	}
}

func TestPreflightAcceptsItsOwnWork(t *testing.T) {
	s, _ := machineWith(t, map[string]string{"/var/lib/etcd/member/x": "", kubeadm.ManifestsDir + "/etcd.yaml": "x"})
	if err := preflight(t.Context(), s); err != nil {
		t.Errorf("a resumed first boot stumbles over itself: %v", err)
	}
}

func TestClockIsReadAgain(t *testing.T) {
	s, _ := machineWith(t, nil)
	s.Start, s.now = time.Unix(0, 0), time.Now
	if err := clockSet(s); err != nil || s.Start.Before(builtAfter) {
		t.Errorf("after the clock was set: %v, %v", err, s.Start)
	}
}

func TestWorkersNeedLess(t *testing.T) {
	s, _ := machineWith(t, map[string]string{"/proc/meminfo": "MemTotal: 1000000 kB\n", "/var/lib/etcd/x": "", RolesFile: "worker control-plane"})
	s.Node.Role = node.Worker
	if err := preflight(t.Context(), s); err != nil {
		t.Error(err)
	}
}

// TestGraph checks the promises the order of phases makes.
func TestGraph(t *testing.T) {
	var n node.Node
	node.SetDefaults(&n)
	g, err := Graph(n.Timeouts)
	if err != nil {
		t.Fatal(err)
	}
	needs := map[string][]string{}
	for _, p := range g.For(string(node.ControlPlane)) {
		needs[p.Name] = p.Needs
	}
	var reaches func(from, to string) bool
	reaches = func(from, to string) bool {
		return slices.ContainsFunc(needs[from], func(n string) bool { return n == to || reaches(n, to) })
	}
	for _, c := range []struct {
		phase, before string
		want          bool
		why           string
	}{
		{BootstrapToken, UploadConfig, true, "a joining machine reads the configuration right after cluster-info"},
		{BootstrapToken, Addons, true, "and kube-proxy's"},
		{Etcd, BaseImage, true, "a pod without its image is backed off for ten seconds"},
		{ControlPlane, BaseImage, true, "a pod without its image is backed off for ten seconds"},
		{KubeletStart, BaseImage, false, "the kubelet starts while the image is imported"},
		{KubeletStart, ControlPlane, false, "the kubelet starts while manifests are written"},
		{UploadConfig, WaitControlPlane, false, "objects are written while components report healthy"},
		{Etcd, Kubeconfig, false, "etcd needs certificates only"},
		{Certs, Preflight, true, "certificates need a clock that is set"},
	} {
		if got := reaches(c.phase, c.before); got != c.want {
			t.Errorf("%s after %s: %v; %s", c.phase, c.before, got, c.why)
		}
	}
	for name := range needs {
		if name != HandOver && !reaches(HandOver, name) {
			t.Errorf("first boot could end without %s", name)
		}
	}
}

func TestFindAddress(t *testing.T) {
	if _, err := findAddress("192.0.2.250", "", netip.Addr{}); err == nil || !strings.Contains(err.Error(), "192.0.2.250") {
		t.Errorf("an address nobody has: %v", err)
	}
	if _, err := findAddress("", "no-such-if0", netip.Addr{}); err == nil || !strings.Contains(err.Error(), "no-such-if0") {
		t.Errorf("an interface nobody has: %v", err)
	}
	addr, err := ownAddress()
	if err != nil {
		t.Skip(err)
	}
	if got, err := findAddress(addr.String(), "", netip.Addr{}); err != nil || got != addr {
		t.Errorf("own address: %v, %v", got, err)
	}
	ifaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range ifaces {
		if got, err := findAddress("", i.Name, netip.Addr{}); err == nil && !got.IsGlobalUnicast() {
			t.Errorf("%s: %v", i.Name, got)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := awaitAddress(ctx, "192.0.2.250", "", netip.Addr{}); err == nil {
		t.Error("waiting for an address nobody has ended well")
	}
}

func TestKubernetesVersionOfAProgramThatIsAsked(t *testing.T) {
	program := filepath.Join(t.TempDir(), "kubelet")
	for script, want := range map[string]string{"echo Kubernetes v1.36.3": "v1.36.3", "echo what": "", "exit 1": ""} {
		if err := os.WriteFile(program, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		got, err := kubernetesVersion(t.Context(), program)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", script, got, err)
		}
	}
	if components := os.Getenv(componentsEnv); components != "" {
		if got, err := kubernetesVersion(t.Context(), filepath.Join(components, "kubernetes")); err != nil || got != "v1.36.3" {
			t.Errorf("the built program: %q, %v", got, err)
		}
	}
}

// TestKubeletCredentials covers what kubeadm needs a kubelet and a restart for.
func TestKubeletCredentials(t *testing.T) {
	s, _ := machineWith(t, nil)
	c, err := kubeadm.New(s.Node, kubeadm.Host{Hostname: "cp-1", Address: mustAddr("192.0.2.11"), KubernetesVersion: "v1.36.3", Now: s.Start})
	if err != nil {
		t.Fatal(err)
	}
	s.Config, s.Log = c, slog.New(slog.NewTextHandler(io.Discard, nil))
	for name, f := range map[string]func(context.Context, *State) error{"certs": certsThere, "kubeconfigs": kubeconfigsThere, "etcd": etcdPlaced, "control plane": controlPlanePlaced} {
		if f(t.Context(), s) == nil {
			t.Errorf("%s are there before they were made", name)
		}
	}
	for _, f := range []func(context.Context, *State) error{certs, kubeconfigs, placeEtcd, placeControlPlane, certsThere, kubeconfigsThere, etcdPlaced, controlPlanePlaced} {
		if err := f(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	link := s.path(kubeadm.KubeletPEM)
	before, err := os.Readlink(link)
	if err != nil {
		t.Fatal(err)
	}
	if err := kubeconfigs(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.Readlink(link); after != before {
		t.Errorf("a second run made another certificate: %s, then %s", before, after)
	}
	// A power cut between file and link: the link is missing or leads nowhere.
	if err := replaceLink(link, "/var/lib/kubelet/pki/nowhere.pem"); err != nil {
		t.Fatal(err)
	}
	if kubeconfigsThere(t.Context(), s) == nil {
		t.Error("a link to nothing passes")
	}
	if err := kubeconfigs(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := kubeconfigsThere(t.Context(), s); err != nil {
		t.Error(err)
	}
	if st, err := os.Stat(s.path(kubeadm.KubeletDir)); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", st.Mode(), err)
	}
	if err := os.WriteFile(s.path(kubeadm.ManifestsDir+"/etcd.yaml"), []byte("edited"), 0o600); err != nil {
		t.Fatal(err)
	}
	if etcdPlaced(t.Context(), s) == nil {
		t.Error("an edited manifest passes")
	}
}

func mustAddr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestPorts(t *testing.T) {
	kubelet, controlPlane := []int{10248, 10250}, []int{6443, 2379, 2380, 2381, 10257, 10259}
	local := func(n *node.Node) {
		n.Cluster.Endpoint, n.Cluster.EndpointMode = "api.example.com:7443", node.EndpointLocal
	}
	for _, c := range []struct {
		name string
		edit func(*node.Node)
		have map[string]string
		want []int
	}{
		{"control plane", func(*node.Node) {}, nil, slices.Concat(kubelet, controlPlane)},
		{"worker", func(n *node.Node) { n.Role = node.Worker }, nil, kubelet},
		{"with a balancer", local, nil, slices.Concat(kubelet, controlPlane, []int{7443})},
		{"worker with a balancer", func(n *node.Node) { local(n); n.Role = node.Worker }, nil, append(slices.Clone(kubelet), 7443)},
		{"a balancer that runs", local, map[string]string{balancer.ConfigFile: "x"}, slices.Concat(kubelet, controlPlane)},
		{"a kubelet that runs", local, map[string]string{kubeadm.KubeletDir + "/config.yaml": "x"}, append(slices.Clone(controlPlane), 7443)},
		{"everything runs", local, map[string]string{balancer.ConfigFile: "x", kubeadm.KubeletDir + "/config.yaml": "x", kubeadm.ManifestsDir + "/etcd.yaml": "x"}, nil},
	} {
		s, _ := machineWith(t, c.have)
		if c.edit(s.Node); !slices.Equal(ports(s), c.want) {
			t.Errorf("%s: %v, want %v", c.name, ports(s), c.want)
		}
	}
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().(*net.TCPAddr).Port
	if err := free([]int{taken}); err == nil || !strings.Contains(err.Error(), strconv.Itoa(taken)+" is in use") {
		t.Errorf("port %d: %v", taken, err)
	}
}
