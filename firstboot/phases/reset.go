// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/firstboot/addons"
	"github.com/imgbuild/imgbuild/firstboot/addons/cni"
	"github.com/imgbuild/imgbuild/firstboot/balancer"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/manifests"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
	"github.com/imgbuild/imgbuild/firstboot/vip"
)

// podsGroup is the control group that holds every process of every pod.
const podsGroup = "/sys/fs/cgroup/kubepods.slice"

// Leave takes this machine's etcd member out of the cluster, if there are others to take over.
// It says what it did. An error means that the member may still be listed.
func Leave(ctx context.Context, s *State) (string, error) {
	if s.Config.Role != node.ControlPlane || !s.etcdHasData() {
		return "this machine has no etcd member", nil
	}
	if len(s.others()) == 0 {
		return "no other control plane is known; the cluster ends with this machine", nil
	}
	c, err := s.dialEtcd(ctx, append(s.others(), s.self())...)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := s.inTime(ctx, func(ctx context.Context) error { return c.Leave(ctx, s.self()) }); err != nil {
		return "", fmt.Errorf("leaving etcd: %w; the other control planes go on without it, and it is removed when this machine joins again", err)
	}
	return "this machine's etcd member was removed", nil
}

// endpointUnits are the units that carry the endpoint, by the file that lets each start. Who
// carries the address gives it up first, while another can still take it.
var endpointUnits = []struct{ unit, file string }{
	{FollowUnit, FollowFile}, {vip.Unit, vip.ConfigFile}, {vip.WatchUnit, vip.WatchFile}, {balancer.Unit, balancer.ConfigFile},
}

// stopEndpoint stops what carries the endpoint on this machine.
func stopEndpoint(ctx context.Context, s *State) error {
	var errs []error
	for _, u := range endpointUnits {
		if !s.absent(u.file) {
			errs = append(errs, s.StopUnit(ctx, u.unit))
		}
	}
	return errors.Join(errs...)
}

// dropAddress takes the virtual address off the machine's interfaces. A kube-vip that was
// killed leaves it there, to be answered for beside its next owner.
func dropAddress(address string) error {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return nil //nolint:nilerr // there is none
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("reading the interfaces' addresses: %w", err)
	}
	var errs []error
	for _, a := range addrs {
		if got, ok := netip.AddrFromSlice(a.IP); !ok || got.Unmap() != ip.Unmap() {
			continue
		}
		link, err := netlink.LinkByIndex(a.LinkIndex)
		if err == nil {
			err = netlink.AddrDel(link, &a)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("taking %s off this machine: %w", ip, err))
		}
	}
	return errors.Join(errs...)
}

// StopPods stops what carries the endpoint, then the kubelet, and ends every pod.
func StopPods(ctx context.Context, s *State) error {
	if err := stopEndpoint(ctx, s); err != nil {
		return err
	}
	if err := s.StopUnit(ctx, KubeletUnit); err != nil {
		return err
	}
	if err := os.WriteFile(s.path(podsGroup+"/cgroup.kill"), []byte("1"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("ending the pods: %w", err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		text, err := os.ReadFile(s.path(podsGroup + "/cgroup.events"))
		if err != nil || !strings.Contains(string(text), "populated 1") {
			break
		}
		if time.Now().After(deadline) {
			return errors.New("the processes of the pods do not end")
		}
	}
	if s.Node.VIP.Provider == node.VIPKubeVIP {
		if err := dropAddress(s.Node.VIP.Address); err != nil {
			return err
		}
	}
	if err := s.StopUnit(ctx, "containerd.service"); err != nil {
		return err
	}
	return unmountBelow(s.Root, kubeadm.KubeletDir, "/run/containerd", "/run/netns")
}

// unmountBelow takes mounts below the directories off, the last one first.
func unmountBelow(root string, dirs ...string) error {
	text, err := os.ReadFile(filepath.Join(root, "/proc/self/mountinfo"))
	if err != nil {
		return err
	}
	var points []string
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 4 && slices.ContainsFunc(dirs, func(d string) bool { return strings.HasPrefix(f[4], d+"/") }) {
			points = append(points, strings.NewReplacer(`\040`, " ", `\011`, "\t", `\134`, `\`).Replace(f[4]))
		}
	}
	var errs []error
	for _, p := range slices.Backward(points) {
		if err := unix.Unmount(p, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmounting %s: %w", p, err))
		}
	}
	return errors.Join(errs...)
}

// Forget removes what first boot made. What Ignition delivered stays: the node document, and
// with pki.mode shared or external the files that this machine cannot make itself. The done
// marker goes first and the journal last, so that a cut leaves a machine whose next boot
// either repeats first boot or is reset again.
func Forget(s *State) error {
	keep := map[string]bool{}
	if s.Node.PKI.Mode == node.PKIShared && s.Node.Role == node.ControlPlane {
		for _, f := range addons.SharedFiles {
			keep[kubeadm.PKIDir+"/"+f] = true
		}
	}
	if err := s.remove(DoneMarker); err != nil {
		return err
	}
	var errs []error
	if s.Node.PKI.Mode != node.PKIExternal {
		errs = append(errs, s.prune(kubeadm.PKIDir, keep))
		conf, err := filepath.Glob(s.path(kubeadm.Dir + "/*.conf"))
		errs = append(errs, err)
		for _, f := range conf {
			errs = append(errs, os.Remove(f))
		}
	}
	if s.Node.PKI.Mode == node.PKIExternal {
		errs = append(errs, s.forgetKubelet())
	} else {
		errs = append(errs, s.clear(kubeadm.KubeletDir))
	}
	errs = append(errs, s.forgetName())
	for _, u := range endpointUnits {
		errs = append(errs, s.clear(u.file))
	}
	for _, path := range []string{kubeadm.ManifestsDir, kubeadm.BootstrapConf, kubeadm.EtcdDataDir, manifests.KubeletExtraArgsFile, cni.ConfigFile, cni.NetworkFile, filepath.Dir(cni.SubnetFile), "/var/lib/cni", MembershipFile, vip.AdmittedFile} {
		errs = append(errs, s.clear(path))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return s.remove(phase.JournalPath)
}

// forgetKubelet removes what the kubelet keeps, except the certificate that was delivered.
func (s *State) forgetKubelet() error {
	entries, err := os.ReadDir(s.path(kubeadm.KubeletDir))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if e.Name() != filepath.Base(filepath.Dir(kubeadm.KubeletPEM)) {
			err = errors.Join(err, os.RemoveAll(s.path(kubeadm.KubeletDir+"/"+e.Name())))
		}
	}
	return err
}

// forgetName takes the line out of /etc/hosts that leads the endpoint's name here.
func (s *State) forgetName() error {
	old, err := os.ReadFile(s.path(balancer.HostsFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	data, ours := balancer.WithoutHosts(old)
	if !ours {
		return nil
	}
	_, err = kubeadm.WriteFiles(s.Root, kubeadm.File{Path: balancer.HostsFile, Mode: 0o644, Data: data})
	return err
}

// clear removes a file, or everything in a directory: the directory may be a mount point.
func (s *State) clear(path string) error {
	full := s.path(path)
	st, err := os.Lstat(full)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil || !st.IsDir() {
		return errors.Join(err, os.Remove(full))
	}
	entries, err := os.ReadDir(full)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(full, e.Name())))
	}
	return err
}

// prune removes the files below dir that are not kept.
func (s *State) prune(dir string, keep map[string]bool) error {
	entries, err := os.ReadDir(s.path(dir))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		switch p := dir + "/" + e.Name(); {
		case e.IsDir():
			err = errors.Join(err, s.prune(p, keep))
		case !keep[p]:
			err = errors.Join(err, os.Remove(s.path(p)))
		}
	}
	return err
}

// remove removes a file and makes that survive a power cut.
func (s *State) remove(path string) error {
	err := os.Remove(s.path(path))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return kubeadm.SyncDir(filepath.Dir(s.path(path)))
}
