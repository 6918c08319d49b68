// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/firstboot/balancer"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
)

const modulesDep = "/usr/lib/modules/6.12.0-test/modules.dep"

// moduleIndex is a modules.dep (depmod(8)) with what flannel and a mode of kube-proxy need, except
// some.
func moduleIndex(mode node.ProxyMode, except ...string) string {
	var out strings.Builder
	for _, name := range append(ProxyModules(mode), vxlan) {
		if !slices.Contains(except, name) {
			out.WriteString("kernel/net/" + name + ".ko.xz: kernel/net/x.ko\n")
		}
	}
	return out.String()
}

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
	"/proc/sys/kernel/osrelease":                   "6.12.0-test\n",
	modulesDep:                                     moduleIndex(node.ProxyNFTables),
	"/etc/machine-id":                              "0123456789abcdef0123456789abcdef\n",
	"/sys/class/dmi/id/product_uuid":               "11111111-2222-3333-4444-555555555555\n",
}

func machineWith(t *testing.T, changes map[string]string) (*Machine, *[]string) {
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
	warnings := &[]string{}
	m := &Machine{Root: root, Node: n, Start: time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC),
		Warn: func(condition string, problem error) { *warnings = append(*warnings, condition+": "+problem.Error()) },
		Free: func(string) (uint64, error) { return minDisk, nil }, Listen: func(int) error { return nil }}
	m.Now = func() time.Time { return m.Start }
	return m, warnings
}

// only is an error of Check that names one problem and nothing else.
func only(err error, want string) bool {
	return err != nil && strings.Contains(err.Error(), want) && !strings.Contains(err.Error(), "\n")
}

func TestPreflight(t *testing.T) {
	m, _ := machineWith(t, nil)
	if err := m.Check(); err != nil {
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
		{modulesDep, moduleIndex(node.ProxyNFTables, vxlan), "kernel: flannel needs the kernel module vxlan, which this image lacks;"},
		{"/etc/machine-id", "uninitialized\n", "machine-id"},
		{modulesDep, moduleIndex(node.ProxyNFTables, "nft_ct", "nft_masq"), "kube-proxy: cluster.proxyMode nftables needs kernel modules that this image lacks: nft_ct, nft_masq;"},
		{"/var/lib/etcd/member/x", "", "etcd-data: /var/lib/etcd is not empty"},
		{"/var/lib/etcd/lost+found", "a file", "etcd-data: /var/lib/etcd is not empty"},
	} {
		m, _ := machineWith(t, map[string]string{c.path: c.text})
		if err := m.Check(); !only(err, c.want) {
			t.Errorf("%s = %q: got %v, want %q and nothing else", c.path, c.text, err, c.want)
		}
	}
}

func TestPreflightReportsTogetherAndWarns(t *testing.T) {
	m, warnings := machineWith(t, map[string]string{"/proc/sys/net/ipv4/ip_forward": "0", "/etc/machine-id": "", "/sys/class/dmi/id/product_uuid": "00000000-0000-0000-0000-000000000000"})
	err := m.Check()
	if err == nil || strings.Count(err.Error(), "\n") != 1 || strings.Contains(err.Error(), "UUID") {
		t.Errorf("got %v, want two problems", err)
	}
	if len(*warnings) == 0 || !strings.HasPrefix((*warnings)[0], "product-uuid: ") {
		t.Errorf("no warning about the UUID: %v", *warnings)
	}
}

// First boot looks again at what may come right, and at nothing else.
func TestWhatLooksCannotCure(t *testing.T) {
	for path, c := range map[string]struct {
		text      string
		permanent bool
	}{
		RolesFile:                           {"worker\n", true},
		"/proc/meminfo":                     {"MemTotal: 1000000 kB\n", true},
		"/sys/fs/cgroup/cgroup.controllers": {"absent", true},
		"/proc/swaps":                       {"Filename\n/dev/sda2 partition 1 0 -2\n", false},
		"/etc/machine-id":                   {"", false},
	} {
		m, _ := machineWith(t, map[string]string{path: c.text})
		if err := m.Check(); err == nil || errors.Is(err, phase.ErrPermanent) != c.permanent {
			t.Errorf("%s = %q: %v, permanent should be %v", path, c.text, err, c.permanent)
		}
	}
}

func TestPreflightAcceptsItsOwnWork(t *testing.T) {
	m, _ := machineWith(t, map[string]string{"/var/lib/etcd/member/x": "", kubeadm.ManifestsDir + "/etcd.yaml": "x"})
	if err := m.Check(); err != nil {
		t.Errorf("a resumed first boot stumbles over itself: %v", err)
	}
}

// A disk of etcd's own is as mkfs left it.
func TestEtcdOnAFileSystemOfItsOwn(t *testing.T) {
	m, _ := machineWith(t, nil)
	if err := os.MkdirAll(m.path(kubeadm.EtcdDataDir+"/lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := m.Check(); err != nil {
		t.Error(err)
	}
	if err := os.Mkdir(m.path(kubeadm.EtcdDataDir+"/member"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := m.Check(); err == nil || !strings.Contains(err.Error(), "/var/lib/etcd is not empty") {
		t.Errorf("an earlier cluster's data beside lost+found: %v", err)
	}
}

func TestWorkersNeedLess(t *testing.T) {
	for memory, want := range map[string]string{
		"1000000": "", "716800": "", // what a kernel has counted of 1 GiB, and the least
		"716799": "memory: 699 MiB of memory, a worker needs 700 MiB",
	} {
		m, _ := machineWith(t, map[string]string{"/proc/meminfo": "MemTotal: " + memory + " kB\n", "/var/lib/etcd/x": "", RolesFile: "worker control-plane"})
		m.Node.Role = node.Worker
		if err := m.Check(); (err == nil) != (want == "") || err != nil && !only(err, want) {
			t.Errorf("%s: %v, want %q", memory, err, want)
		}
	}
}

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
		m, _ := machineWith(t, c.have)
		if c.edit(m.Node); !slices.Equal(m.ports(), c.want) {
			t.Errorf("%s: %v, want %v", c.name, m.ports(), c.want)
		}
	}
}

// Every port that is taken is named, and only what the machine itself listens on counts.
func TestPortsThatAreTaken(t *testing.T) {
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().(*net.TCPAddr).Port
	m, _ := machineWith(t, nil)
	m.Node.APIServer.Port = int32(taken)
	in := func(port int) string { return "port " + strconv.Itoa(port) + " is in use; stop what listens there: " }
	m.Listen = func(port int) error {
		if port == taken {
			return listen(port)
		}
		return nil
	}
	if err := m.Check(); !only(err, "ports: "+in(taken)) {
		t.Errorf("%v, want port %d and nothing else", err, taken)
	}
	m.Listen = func(port int) error {
		if port == kubeadm.EtcdPeerPort || port == 10250 {
			return errors.New("taken")
		}
		return nil
	}
	if err := m.Check(); err == nil || !strings.Contains(err.Error(), "ports: "+in(10250)+"taken\n"+in(kubeadm.EtcdPeerPort)+"taken") || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("%v, want two ports", err)
	}
	m.Listen = nil
	if err := portsFree(m); err != nil {
		t.Errorf("a machine whose files are elsewhere: %v", err)
	}
	m.Root = "/"
	if err := portsFree(m); err == nil || !strings.Contains(err.Error(), in(taken)) {
		t.Errorf("this machine: %v, want port %d", err, taken)
	}
}

// Files that cannot be used are found before anything is started, with file and document.
func TestUserManifestsAreCheckedFirst(t *testing.T) {
	m, _ := machineWith(t, map[string]string{"/m/bad.yaml": "---\nkind: X\n---\na: b: c\n"})
	m.Node.Network.Manifests = []string{"/m/bad.yaml", "/m/none.yaml"}
	err := m.Check()
	for _, want := range []string{"manifests: /m/bad.yaml: document 1: apiVersion is missing", "/m/bad.yaml: document 2: is not YAML", "network.manifests[1]: /m/none.yaml does not exist"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	m.Node.Role = node.Worker
	if err := userManifests(m); err != nil {
		t.Errorf("a worker applies nothing: %v", err)
	}
}

// Every mode of kube-proxy names what it misses, and takes a module that is loaded for one that
// could be.
func TestProxyParts(t *testing.T) {
	for _, mode := range []node.ProxyMode{node.ProxyNFTables, node.ProxyIPTables, node.ProxyUpstream, node.ProxyIPVS} {
		files := map[string]string{modulesDep: moduleIndex(mode), ipset: ""}
		m, _ := machineWith(t, files)
		m.Node.Cluster.ProxyMode = mode
		if err := m.Check(); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
		lost := ProxyModules(mode)[1]
		files[modulesDep] = moduleIndex(mode, lost)
		m, _ = machineWith(t, files)
		m.Node.Cluster.ProxyMode = mode
		if err := m.Check(); err == nil || !strings.Contains(err.Error(), "lacks: "+lost+";") {
			t.Errorf("%s without %s: %v", mode, lost, err)
		}
		files["/sys/module/"+lost+"/refcnt"] = "0"
		m, _ = machineWith(t, files)
		m.Node.Cluster.ProxyMode = mode
		if err := m.Check(); err != nil {
			t.Errorf("%s with %s loaded: %v", mode, lost, err)
		}
	}
	m, _ := machineWith(t, map[string]string{modulesDep: moduleIndex(node.ProxyIPVS)})
	m.Node.Cluster.ProxyMode = node.ProxyIPVS
	if err := m.Check(); err == nil || !strings.Contains(err.Error(), "kube-proxy: cluster.proxyMode ipvs needs /usr/sbin/ipset") {
		t.Errorf("without ipset: %v", err)
	}
}

func TestNamesThatNoNodeCanHave(t *testing.T) {
	for _, name := range []string{"-a", "a_b", "a b", strings.Repeat("a", 300)} {
		m, _ := machineWith(t, nil)
		m.Node.Node.Name = name
		if err := m.Check(); err == nil || !strings.Contains(err.Error(), "hostname: ") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestDiskThatIsFull(t *testing.T) {
	m, _ := machineWith(t, nil)
	m.Free = func(path string) (uint64, error) {
		if path != m.path("/var") {
			t.Errorf("asked for %s", path)
		}
		return minDisk - 1, nil
	}
	if err := m.Check(); !only(err, "disk: 1023 MiB free in /var, at least 1024 MiB are needed") {
		t.Error(err)
	}
	m.Free = nil
	if err := os.RemoveAll(m.path("/var")); err != nil {
		t.Fatal(err)
	}
	if err := enoughDisk(m); err == nil || !strings.HasPrefix(err.Error(), "/var: ") {
		t.Error(err)
	}
	if n, err := free("/proc"); n != 0 || err != nil {
		t.Errorf("/proc has room for %d bytes: %v", n, err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(m.Root, &st); err != nil {
		t.Fatal(err)
	}
	if n, err := free(m.Root); err != nil || n == 0 || n > st.Blocks*uint64(st.Bsize) {
		t.Errorf("%d bytes are free of %d blocks: %v", n, st.Blocks, err)
	}
}

// The pod network is not always flannel's.
func TestModulesOfFlannel(t *testing.T) {
	without := map[string]string{modulesDep: moduleIndex(node.ProxyNFTables, vxlan)}
	m, _ := machineWith(t, without)
	m.Node.Network.Provider = node.NetworkNone
	if err := m.Check(); err != nil {
		t.Errorf("without flannel: %v", err)
	}
	for _, there := range []string{"/sys/module/vxlan/refcnt", "/usr/lib/modules/6.12.0-test/modules.builtin"} {
		without[there] = "kernel/drivers/net/vxlan/vxlan.ko\n"
		m, _ = machineWith(t, without)
		if err := m.Check(); err != nil {
			t.Errorf("with %s: %v", there, err)
		}
		delete(without, there)
	}
	without["/proc/filesystems"] = ""
	m, _ = machineWith(t, without)
	if err := m.Check(); err == nil || !strings.Contains(err.Error(), "vxlan") || !strings.Contains(err.Error(), "overlay") {
		t.Errorf("%v, want both", err)
	}
}

// The reference says of every condition what it asks for.
func TestConditionsAreExplained(t *testing.T) {
	for _, c := range conditions {
		if c.means == "" {
			t.Errorf("%s has no meaning", c.name)
		}
	}
}
