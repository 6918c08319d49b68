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

	"github.com/imgbuild/imgbuild/firstboot/balancer"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/vip"
)

// podsGroup is the control group that holds every process of every pod.
const podsGroup = "/sys/fs/cgroup/kubepods.slice"

// podsEnd is how long the processes of the pods may take to end.
const podsEnd = 30 * time.Second

// endpointUnits are the units that carry the endpoint, by the file that lets each start. Who
// carries the address gives it up first, while another can still take it.
var endpointUnits = []struct{ unit, file string }{
	{vip.Unit, vip.ConfigFile}, {vip.WatchUnit, vip.WatchFile}, {balancer.Unit, balancer.ConfigFile},
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

// StopPods stops what carries the endpoint, then the kubelet, and ends every pod. After an error
// volumes may still be mounted.
func StopPods(ctx context.Context, s *State) error {
	if err := stopEndpoint(ctx, s); err != nil {
		return err
	}
	if err := s.StopUnit(ctx, KubeletUnit); err != nil {
		return err
	}
	if err := s.endPods(ctx); err != nil {
		return err
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

// endPods kills the processes of all pods and waits until there is none.
func (s *State) endPods(ctx context.Context) error {
	if err := os.WriteFile(s.path(podsGroup+"/cgroup.kill"), []byte("1"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("ending the pods: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, podsEnd, errors.New("the processes of the pods do not end"))
	defer cancel()
	for {
		text, err := os.ReadFile(s.path(podsGroup + "/cgroup.events"))
		if err != nil || !strings.Contains(string(text), "populated 1") {
			return nil //nolint:nilerr // there were no pods
		}
		if !pause(ctx, 100*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
}

// mountsBelow lists the mount points below directories, in the order of their mounting.
func mountsBelow(root string, dirs ...string) (points []string, err error) {
	text, err := os.ReadFile(filepath.Join(root, "/proc/self/mountinfo"))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 4 && slices.ContainsFunc(dirs, func(d string) bool { return strings.HasPrefix(f[4], d+"/") }) {
			points = append(points, strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(f[4]))
		}
	}
	return points, nil
}

// unmountBelow takes mounts below the directories off, the last one first.
func unmountBelow(root string, dirs ...string) error {
	points, err := mountsBelow(root, dirs...)
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range slices.Backward(points) {
		if err := unix.Unmount(p, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmounting %s: %w", p, err))
		}
	}
	return errors.Join(errs...)
}
