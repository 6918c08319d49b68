// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/balancer"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
	"github.com/imgbuild/imgbuild/firstboot/vip"
)

// The phases of the virtual address. kubeadm has none.
const (
	VIP    = "vip"
	VIPPod = "vip-pod"
)

// vipPhase starts keepalived on a machine that starts the cluster with others: all of them have
// the same list, so the address has an owner before any API server answers, and machines that
// join wait for a port to open. A machine that joins is unknown to those that are there; its
// keepalived is configured here and started by FollowUnit when they know it. So is that of a
// machine whose first boot goes on after a power cut: while it was off others may have been
// added, which it does not know.
func vipPhase() phase.Phase[*State] {
	return phase.Phase[*State]{Name: VIP, Purpose: "the control planes elect an owner of the virtual address",
		Needs: []string{Discovery}, Roles: []string{string(node.ControlPlane)},
		Run: startKeepalived, Timeout: time.Minute, Attempts: 3, Pause: time.Second, OnChange: phase.Redo}
}

// vipPodPhase places kube-vip, which elects through the API and so cannot begin before it.
// By then admin.conf administers the cluster on every control plane. Placed earlier, as
// kubeadm's users have to, the first machine's pod would need super-admin.conf.
func vipPodPhase() phase.Phase[*State] {
	return phase.Phase[*State]{Name: VIPPod, Purpose: "kube-vip carries the virtual address",
		Needs: []string{API}, Roles: []string{string(node.ControlPlane)},
		Run: placeKubeVIP, Timeout: time.Minute, OnChange: phase.Redo}
}

func startKeepalived(ctx context.Context, s *State) error {
	if s.Node.VIP.Provider != node.VIPKeepalived {
		return nil
	}
	k, err := s.keepalived()
	if err != nil {
		return err
	}
	// With a load balancer the owner serves through any healthy API server.
	endpoint := s.Config.LocalEndpoint()
	if balancer.Wanted(s.Node) {
		endpoint = balancer.New(s.Node, s.Config, "").Local()
	}
	// The watch first: keepalived follows the file it keeps.
	if err := s.startWith(ctx, vip.WatchUnit, vip.Watch(endpoint, s.Config.VIP.Unmap(), s.Node.VIP.HealthTimeout.D())); err != nil {
		return err
	}
	if s.absent(vip.AdmittedFile) && (s.joined() || s.etcdHasData()) {
		return s.holdKeepalived(ctx, k)
	}
	if _, err := kubeadm.WriteFiles(s.Root, kubeadm.File{Path: vip.AdmittedFile, Mode: 0o644}); err != nil {
		return err
	}
	return s.startWith(ctx, vip.Unit, k.Config())
}

// holdKeepalived leaves it to FollowUnit to start keepalived. With a machine that joins phase Follow
// begins; with one that the cluster may know already there is nothing to wait for.
func (s *State) holdKeepalived(ctx context.Context, k vip.Keepalived) error {
	if _, err := kubeadm.WriteFiles(s.Root, k.Config()); err != nil || s.joined() {
		return err
	}
	if s.absent(FollowFile) {
		if err := s.remember(nil, time.Now()); err != nil {
			return err
		}
	}
	return s.StartUnit(ctx, FollowUnit)
}

// keepalived is this machine's configuration with the control planes that are known now.
func (s *State) keepalived() (vip.Keepalived, error) {
	iface, err := carrier(s.Config.Address)
	if err != nil {
		return vip.Keepalived{}, err
	}
	n, err := s.current()
	if err != nil {
		return vip.Keepalived{}, err
	}
	k, err := vip.New(n, s.Config, iface)
	if err != nil {
		err = phase.Permanent(err)
	}
	return k, err
}

func placeKubeVIP(_ context.Context, s *State) error {
	if s.Node.VIP.Provider != node.VIPKubeVIP {
		return nil
	}
	iface := s.Node.VIP.Interface
	if iface == "" {
		var err error
		if iface, err = carrier(s.Config.Address); err != nil {
			return err
		}
	}
	file, err := vip.KubeVIP(s.Node, s.Config, iface, kubeconfig.Admin)
	if err != nil {
		return err
	}
	_, err = kubeadm.WriteFiles(s.Root, file)
	return err
}

// startWith writes a unit's file and starts the unit, or restarts it when the file was
// another: neither program of ours is asked to take over a changed configuration while it
// runs, because first boot is over before anybody depends on them.
func (s *State) startWith(ctx context.Context, unit string, file kubeadm.File) error {
	changed, err := kubeadm.WriteFiles(s.Root, file)
	if err != nil {
		return err
	}
	if len(changed) > 0 {
		return s.RestartUnit(ctx, unit)
	}
	return s.StartUnit(ctx, unit)
}

// carrier finds an address's interface. Tests have addresses that are on none.
var carrier = interfaceOf

func interfaceOf(address netip.Addr) (string, error) {
	links, err := net.Interfaces()
	if err != nil {
		return "", err
	}
	var errs []error
	for _, l := range links {
		addrs, err := l.Addrs()
		errs = append(errs, err)
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok {
				if got, ok := netip.AddrFromSlice(n.IP); ok && got.Unmap() == address {
					return l.Name, nil
				}
			}
		}
	}
	return "", errors.Join(append(errs, fmt.Errorf("no interface carries the node's address %s; set node.address to one that the machine has", address))...)
}
