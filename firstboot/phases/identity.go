// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// identity resolves the node document against the machine.
func identity(ctx context.Context, s *State) error {
	h, err := s.Host(ctx, s.Root, s.Node)
	if err != nil {
		return err
	}
	h.Now = s.Start
	c, err := kubeadm.New(s.Node, h)
	if err != nil {
		return phase.Permanent(err)
	}
	s.Config = c
	s.Log.Info("identity", "node", c.NodeName, "role", string(c.Role), "address", c.Address.String(), "endpoint", c.Endpoint(), "kubernetes", c.KubernetesVersion)
	return nil
}

// Programs and directories FindHost looks at.
const (
	kubeletProgram = "/usr/bin/kubelet"
	resolvedFile   = "/run/systemd/resolve/resolv.conf"
)

// caDirs are the places besides /etc/ssl/certs where distributions keep authorities;
// kubeadm mounts those that exist into the API server and the controller manager.
var caDirs = []string{"/etc/pki/ca-trust", "/etc/pki/tls/certs", "/etc/ca-certificates", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates"}

// FindHost finds out about the machine. It waits until the address the document names, or
// one the default route leads to, is configured.
func FindHost(ctx context.Context, root string, n *node.Node) (kubeadm.Host, error) {
	h := kubeadm.Host{ExternalCA: pki.External(root)}
	var err error
	if h.Hostname, err = os.Hostname(); err != nil {
		return h, err
	}
	if h.KubernetesVersion, err = kubernetesVersion(ctx, filepath.Join(root, kubeletProgram)); err != nil {
		return h, err
	}
	if want := n.Cluster.KubernetesVersion; want != "" && want != h.KubernetesVersion {
		return h, phase.Permanent(fmt.Errorf("cluster.kubernetesVersion is %s, this image carries %s; boot an image of that version or change the document", want, h.KubernetesVersion))
	}
	for _, d := range caDirs {
		if st, err := os.Stat(filepath.Join(root, d)); err == nil && st.IsDir() {
			h.ExtraCADirs = append(h.ExtraCADirs, d)
		}
	}
	if _, err := os.Stat(filepath.Join(root, resolvedFile)); err == nil {
		h.UploadResolvConf = resolvedFile
	}
	var vip netip.Addr
	if n.VIP.Address != "" {
		if vip, err = netip.ParseAddr(n.VIP.Address); err != nil {
			return h, phase.Permanent(fmt.Errorf("vip.address: %w", err))
		}
	}
	h.Address, err = awaitAddress(ctx, n.Node.Address, n.Node.Interface, vip.Unmap())
	return h, err
}

// kubernetesVersion reads the version of Kubernetes that the kubelet was built from out of
// the program's own build information, which takes no process and cannot be out of date.
// A program whose information does not say (upstream's releases) is asked.
func kubernetesVersion(ctx context.Context, program string) (string, error) {
	if info, err := buildinfo.ReadFile(program); err == nil {
		for _, m := range append(info.Deps, &info.Main) {
			if m.Path == "k8s.io/kubernetes" && strings.HasPrefix(m.Version, "v1.") {
				return m.Version, nil
			}
		}
	}
	out, err := exec.CommandContext(ctx, program, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("asking %s for its version: %w", program, err)
	}
	version, ok := strings.CutPrefix(strings.TrimSpace(string(out)), "Kubernetes ")
	if !ok {
		return "", fmt.Errorf("%s --version says %q", program, out)
	}
	return version, nil
}

// awaitAddress returns the node's address once a network interface carries it.
func awaitAddress(ctx context.Context, want, iface string, vip netip.Addr) (netip.Addr, error) {
	for {
		a, err := findAddress(want, iface, vip)
		if err == nil {
			return a, nil
		}
		select {
		case <-ctx.Done():
			return netip.Addr{}, fmt.Errorf("%w; %w", err, context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func findAddress(want, iface string, vip netip.Addr) (netip.Addr, error) {
	if want != "" {
		w, err := netip.ParseAddr(want)
		if err != nil {
			return w, phase.Permanent(err)
		}
		addrs, err := net.InterfaceAddrs()
		if err != nil {
			return w, err
		}
		for _, a := range addrs {
			if got, ok := global(a); ok && got == w.Unmap() {
				return w, nil
			}
		}
		return w, fmt.Errorf("no interface has the address %s that node.address names", want)
	}
	if iface == "" {
		var err error
		if iface, err = defaultInterface(); err != nil {
			return netip.Addr{}, err
		}
	}
	link, err := net.InterfaceByName(iface)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("interface %s: %w", iface, err)
	}
	addrs, err := link.Addrs()
	if err != nil {
		return netip.Addr{}, err
	}
	if a, ok := chooseAddress(addrs, vip); ok {
		return a, nil
	}
	return netip.Addr{}, fmt.Errorf("interface %s has no global address of its own yet", iface)
}

// chooseAddress returns the first global IPv4 address, or else the first IPv6 address. The
// virtual address is none of the machine's own: it may be on the interface, of an owner whose
// first boot runs again, and would be elsewhere a moment later.
func chooseAddress(addrs []net.Addr, vip netip.Addr) (netip.Addr, bool) {
	var v6 netip.Addr
	for _, a := range addrs {
		got, ok := global(a)
		switch {
		case !ok || got == vip:
		case got.Is4():
			return got, true
		case !v6.IsValid():
			v6 = got
		}
	}
	return v6, v6.IsValid()
}

// global returns a as an address other machines can reach.
func global(a net.Addr) (netip.Addr, bool) {
	n, ok := a.(*net.IPNet)
	if !ok {
		return netip.Addr{}, false
	}
	ip, ok := netip.AddrFromSlice(n.IP)
	ip = ip.Unmap()
	return ip, ok && ip.IsGlobalUnicast()
}

// defaultInterface returns the interface of the default route with the lowest metric.
func defaultInterface() (string, error) {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteList(nil, family)
		if err != nil {
			return "", fmt.Errorf("reading the routes: %w", err)
		}
		best := -1
		for i, r := range routes {
			isDefault := r.Dst == nil || r.Dst.IP.IsUnspecified() && isZero(r.Dst.Mask)
			if isDefault && r.LinkIndex > 0 && (best < 0 || r.Priority < routes[best].Priority) {
				best = i
			}
		}
		if best < 0 {
			continue
		}
		link, err := netlink.LinkByIndex(routes[best].LinkIndex)
		if err != nil {
			return "", err
		}
		return link.Attrs().Name, nil
	}
	return "", errors.New("there is no default route yet; set node.address or node.interface if there will be none")
}

func isZero(m net.IPMask) bool {
	ones, _ := m.Size()
	return ones == 0
}
