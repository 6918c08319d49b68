// SPDX-License-Identifier: Apache-2.0

// Package host finds out about the machine that first boot runs on: which of the document's
// hosts it is, its address, and what its image carries.
package host

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// Programs and directories Find looks at.
const (
	kubeletProgram = "/usr/bin/kubelet"
	resolvedFile   = "/run/systemd/resolve/resolv.conf"
)

// caDirs are the places besides /etc/ssl/certs where distributions keep authorities;
// kubeadm mounts those that exist into the API server and the controller manager.
var caDirs = []string{"/etc/pki/ca-trust", "/etc/pki/tls/certs", "/etc/ca-certificates", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates"}

// Find finds out about the machine. It waits until the address the document names, or
// one the default route leads to, is configured.
func Find(ctx context.Context, root string, n *node.Node) (kubeadm.Host, error) {
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
