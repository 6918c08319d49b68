// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

func swapOff(m *Machine) error {
	text, err := os.ReadFile(m.path("/proc/swaps"))
	if err != nil {
		return nil //nolint:nilerr // a kernel without swap has no such file
	}
	if lines := strings.Split(strings.TrimSpace(string(text)), "\n"); len(lines) > 1 {
		return fmt.Errorf("swap is on (%s) and the kubelet refuses to start with it; turn it off with swapoff and remove it from fstab or its .swap unit", strings.Fields(lines[1])[0])
	}
	return nil
}

func cgroupV2(m *Machine) error {
	text, err := os.ReadFile(m.path("/sys/fs/cgroup/cgroup.controllers"))
	if err != nil {
		return errors.New("the unified cgroup hierarchy (v2) is not mounted, and the kubelet needs it; remove systemd.unified_cgroup_hierarchy=0 and cgroup_no_v1 from the kernel's command line")
	}
	have := strings.Fields(string(text))
	for _, want := range []string{"cpu", "cpuset", "memory", "pids"} {
		if !slices.Contains(have, want) {
			return fmt.Errorf("the kernel offers no %s controller (it has %s); remove cgroup_disable from the kernel's command line", want, strings.Join(have, ", "))
		}
	}
	return nil
}

// iptablesModules are what kube-proxy's rules need where it runs iptables, on the packet filter
// of today.
var iptablesModules = []string{"ipt_REJECT", "nf_tables", "nft_chain_nat", "nft_compat", "xt_MASQUERADE", "xt_addrtype", "xt_comment", "xt_conntrack", "xt_mark", "xt_nat", "xt_statistic"}

// proxyModules are the kernel modules that each mode of kube-proxy needs, by their names in
// Linux 6.12. The kernel loads them when a rule first uses them, except those of ipvs.
var proxyModules = map[node.ProxyMode][]string{
	node.ProxyNFTables: {"nf_conntrack", "nf_tables", "nft_chain_nat", "nft_ct", "nft_fib_inet", "nft_masq", "nft_nat", "nft_numgen", "nft_reject_inet"},
	node.ProxyIPTables: iptablesModules,
	node.ProxyUpstream: iptablesModules,
	node.ProxyIPVS: append([]string{"dummy", "ip_set", "ip_set_bitmap_port", "ip_set_hash_ip", "ip_set_hash_ipport", "ip_set_hash_ipportip",
		"ip_set_hash_ipportnet", "ip_set_hash_net", "ip_vs", "ip_vs_rr", "ip_vs_sh", "ip_vs_wrr", "nf_conntrack", "xt_set"}, iptablesModules...),
}

// ProxyModules are the kernel modules that a mode of kube-proxy needs.
func ProxyModules(mode node.ProxyMode) []string { return slices.Clone(proxyModules[mode]) }

// ipset is a program that kube-proxy runs in mode ipvs.
const ipset = "/usr/sbin/ipset"

// proxyParts looks for what the chosen mode of kube-proxy needs, in the kernel or loadable.
func proxyParts(m *Machine) error {
	mode := m.Node.Cluster.ProxyMode
	if mode == node.ProxyIPVS && m.Node.Delivery.For(kubeadm.Proxy) == node.DeliveryVerity && m.absent(ipset) {
		return fmt.Errorf("cluster.proxyMode ipvs needs %s, which this image lacks; add the package ipset to the profile, or choose nftables", ipset)
	}
	missing, err := m.lacks(proxyModules[mode]...)
	if err == nil && missing != nil {
		err = fmt.Errorf("cluster.proxyMode %s needs kernel modules that this image lacks: %s; add them to kernel.modules of the profile, or choose another mode", mode, strings.Join(missing, ", "))
	}
	return err
}

// lacks returns those modules that the kernel neither has nor could load.
func (m *Machine) lacks(modules ...string) ([]string, error) {
	return unlisted(m.Root, []string{"modules.dep", "modules.builtin"}, modules)
}

// NotLoaded returns those modules that the kernel below root does not have now.
func NotLoaded(root string, modules ...string) ([]string, error) {
	return unlisted(root, []string{"modules.builtin"}, modules)
}

// unlisted returns those modules that are not loaded and that none of the running kernel's lists
// names. A module that is built in has no directory in /sys/module unless it has parameters;
// modules.builtin lists it.
func unlisted(root string, lists, modules []string) (missing []string, err error) {
	release, err := os.ReadFile(filepath.Join(root, "/proc/sys/kernel/osrelease"))
	if err != nil {
		return nil, err
	}
	var listed []byte
	for _, list := range lists {
		text, err := os.ReadFile(filepath.Join(root, "/usr/lib/modules", strings.TrimSpace(string(release)), list))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		listed = append(listed, text...)
	}
	for _, name := range modules {
		_, err := os.Lstat(filepath.Join(root, "/sys/module", name))
		if errors.Is(err, fs.ErrNotExist) && !bytes.Contains(listed, []byte("/"+name+".ko")) {
			missing = append(missing, name)
		}
	}
	return missing, nil
}

// vxlan is the module of flannel's only backend here. The kernel loads it with flannel's interface.
const vxlan = "vxlan"

// kernelParts looks for what containers and the pod network need, built in or loaded, and for
// what the pod network will have loaded.
func kernelParts(m *Machine) error {
	filesystems, err := os.ReadFile(m.path("/proc/filesystems"))
	if err != nil {
		return err
	}
	var errs []error
	var missing []string
	if !bytes.Contains(filesystems, []byte("\toverlay\n")) {
		missing = append(missing, "overlay")
	}
	if m.Node.Network.Provider == node.NetworkFlannel {
		if _, err := os.Stat(m.path("/proc/sys/net/bridge/bridge-nf-call-iptables")); err != nil {
			missing = append(missing, "br_netfilter")
		}
		lacking, err := m.lacks(vxlan)
		if err == nil && lacking != nil {
			err = fmt.Errorf("flannel needs the kernel module %s, which this image lacks; add it to kernel.modules of the profile, or choose network.provider none", vxlan)
		}
		errs = append(errs, err)
	}
	if missing != nil {
		errs = append(errs, fmt.Errorf("kernel modules are not loaded: %s; list them in modules-load.d", strings.Join(missing, ", ")))
	}
	return errors.Join(errs...)
}

func ipForward(m *Machine) error {
	text, err := os.ReadFile(m.path("/proc/sys/net/ipv4/ip_forward"))
	if err != nil {
		return err
	}
	if v := strings.TrimSpace(string(text)); v != "1" {
		return fmt.Errorf("net.ipv4.ip_forward is %s, not 1; set it in sysctl.d", v)
	}
	return nil
}
