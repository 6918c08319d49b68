// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/imgbuild/imgbuild/firstboot/balancer"
	"github.com/imgbuild/imgbuild/firstboot/endpoint"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/vip"
)

// settle is what keepalived is given to read its configuration again before the machine
// announces what it says.
const settle = time.Second

// silence is how long nobody has had the virtual address when a machine that is held takes
// part nevertheless: the address is worth more than the certainty.
const silence = time.Minute

// Follower keeps what carries the endpoint on this machine in step with the control planes
// that the cluster has.
type Follower struct {
	State *State
	// Nodes lists the cluster's nodes, for control planes.
	Nodes func(context.Context) ([]corev1.Node, error)
	// Announce sets endpoint.Annotation of this machine's node.
	Announce func(ctx context.Context, value string) error
	// APIServers lists the addresses of the API servers, for workers.
	APIServers func(context.Context) ([]netip.Addr, error)
	// Owned says whether anybody has the virtual address.
	Owned func(context.Context) bool
	// Reload makes a running unit read its configuration again and waits until it has been
	// told. A unit that does not run is left alone.
	Reload func(ctx context.Context, unit string) error
	// Now is the clock, Settle the pause after a reload.
	Now    func() time.Time
	Settle time.Duration

	unowned time.Time // since when nobody has had the address
	view    []endpoint.ControlPlane
}

// Followed is what one look led to.
type Followed struct {
	// Changed are the files that were written.
	Changed []string
	// Verdict says whether the machine may stand for election, Missing why not. Both are empty
	// without keepalived.
	Verdict endpoint.Verdict
	Missing []string
	// Runs says that it does stand.
	Runs bool
}

// Once looks at the cluster and does what follows. Configuration is changed before this
// machine says that it was, and it says so before others go by it.
func (f *Follower) Once(ctx context.Context) (*Followed, error) {
	s, r := f.State, &Followed{}
	seen, err := f.look(ctx)
	if err != nil {
		return r, err
	}
	if err := s.remember(seen, f.Now()); err != nil {
		return r, err
	}
	if balancer.Wanted(s.Node) {
		file, err := s.balancerFile()
		if err == nil {
			err = f.apply(ctx, r, balancer.Unit, file)
		}
		if err != nil {
			return r, err
		}
	}
	if s.Config.Role != node.ControlPlane || s.Node.VIP.Provider != node.VIPKeepalived {
		return r, nil
	}
	k, err := s.keepalived()
	if err != nil {
		return r, err
	}
	if err := f.apply(ctx, r, vip.Unit, k.Config()); err != nil {
		return r, err
	}
	if err := f.announce(ctx, k.Peers, slices.Contains(r.Changed, vip.ConfigFile)); err != nil {
		return r, err
	}
	return r, f.judge(ctx, r)
}

// look asks who the control planes are.
func (f *Follower) look(ctx context.Context) ([]endpoint.Member, error) {
	c := f.State.Config
	var seen []endpoint.Member
	if c.Role == node.Worker {
		addresses, err := f.APIServers(ctx)
		for _, a := range addresses {
			if a.Is4() == c.Address.Is4() {
				seen = append(seen, endpoint.Member{Address: a})
			}
		}
		if err == nil && len(seen) == 0 {
			err = errors.New("the cluster names no API server")
		}
		return seen, err
	}
	nodes, err := f.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	f.view = controlPlanes(nodes, c.VIP.Unmap())
	for _, cp := range f.view {
		for _, a := range cp.Addresses {
			if a.Is4() == c.Address.Is4() {
				seen = append(seen, endpoint.Member{Name: cp.Name, Address: a})
				break
			}
		}
	}
	if len(seen) == 0 {
		return nil, errors.New("the cluster has no node with the label " + kubeadm.ControlPlaneLabel)
	}
	return seen, nil
}

// controlPlanes reads what nodes say about themselves. The virtual address is nobody's own,
// whatever a kubelet finds on its machine.
func controlPlanes(nodes []corev1.Node, virtual netip.Addr) []endpoint.ControlPlane {
	var out []endpoint.ControlPlane
	for _, n := range nodes {
		if _, ok := n.Labels[kubeadm.ControlPlaneLabel]; !ok {
			continue
		}
		_, ours := n.Labels[kubeadm.DeliveryLabel]
		cp := endpoint.ControlPlane{Name: n.Name, Foreign: !ours, Peers: endpoint.Announced(n.Annotations[endpoint.Annotation])}
		for _, a := range n.Status.Addresses {
			if ip, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP && ip.Unmap() != virtual {
				cp.Addresses = append(cp.Addresses, ip.Unmap())
			}
		}
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady {
				cp.Ready, cp.Since = c.Status == corev1.ConditionTrue, c.LastTransitionTime.Time
			}
		}
		out = append(out, cp)
	}
	return out
}

// apply writes a unit's configuration if it is another, and makes the unit read it. A mark in
// memory is there in between: whoever is killed after writing is made up for by the next.
func (f *Follower) apply(ctx context.Context, r *Followed, unit string, file kubeadm.File) error {
	s := f.State
	pending := s.path("/run/imgbuild/reload-" + unit)
	_, err := os.Stat(pending)
	due := err == nil
	if have, err := os.ReadFile(s.path(file.Path)); err != nil || !bytes.Equal(have, file.Data) {
		if err := errors.Join(os.MkdirAll(filepath.Dir(pending), 0o755), os.WriteFile(pending, nil, 0o644)); err != nil {
			return err
		}
		if _, err := kubeadm.WriteFiles(s.Root, file); err != nil {
			return err
		}
		due = true
	}
	if !due {
		return nil
	}
	r.Changed = append(r.Changed, file.Path)
	if err := f.Reload(ctx, unit); err != nil {
		return err
	}
	return os.Remove(pending)
}

// announce says on this machine's node whom it listens to. It is what lets a new control
// plane begin, so it is never said before it is so.
func (f *Follower) announce(ctx context.Context, peers []netip.Addr, changed bool) error {
	i := slices.IndexFunc(f.view, func(cp endpoint.ControlPlane) bool { return cp.Name == f.State.Config.NodeName })
	value := endpoint.Announce(peers)
	if i < 0 || endpoint.Announce(f.view[i].Peers) == value {
		return nil
	}
	if changed && f.admitted() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(f.Settle):
		}
	}
	return f.Announce(ctx, value)
}

func (f *Follower) admitted() bool { return !f.State.absent(vip.AdmittedFile) }

// judge starts keepalived when it may run, and stops it when it must not.
func (f *Follower) judge(ctx context.Context, r *Followed) error {
	s := f.State
	r.Verdict, r.Missing = endpoint.Admit(s.Config.NodeName, s.Config.Address, f.view, f.Now())
	r.Runs = f.admitted()
	switch {
	case r.Verdict == endpoint.Expelled && r.Runs:
		s.Log.Warn("follow", "action", "this machine leaves the election", "reason", strings.Join(r.Missing, "; "))
		r.Runs = false
		return errors.Join(s.StopUnit(ctx, vip.Unit), os.Remove(s.path(vip.AdmittedFile)))
	case r.Runs:
		return nil
	case r.Verdict == endpoint.Held && f.quiet(ctx):
		s.Log.Warn("follow", "action", "nobody has the virtual address", "reason", strings.Join(r.Missing, "; "))
	case r.Verdict != endpoint.Admitted:
		return nil
	}
	r.Runs = true
	return s.admit(ctx)
}

// quiet says whether nobody has had the address for long.
func (f *Follower) quiet(ctx context.Context) bool {
	now := f.Now()
	if f.Owned(ctx) {
		f.unowned = time.Time{}
		return false
	}
	if f.unowned.IsZero() {
		f.unowned = now
	}
	return now.Sub(f.unowned) >= silence
}

// admit lets keepalived run until the next boot.
func (s *State) admit(ctx context.Context) error {
	if _, err := kubeadm.WriteFiles(s.Root, kubeadm.File{Path: vip.AdmittedFile, Mode: 0o644}); err != nil {
		return err
	}
	return s.StartUnit(ctx, vip.Unit)
}

// Run looks until there is nothing to wait for: the machine stands for election or need not.
// Failures are waited out for as long as the machine is held, and otherwise for patience.
func (f *Follower) Run(ctx context.Context, patience, pause time.Duration) error {
	deadline, last, wait := f.Now().Add(patience), "", pause
	for {
		once, cancel := context.WithTimeout(ctx, 2*time.Minute) // a unit that does not reload
		r, err := f.Once(once)
		cancel()
		if len(r.Changed) > 0 {
			f.State.Log.Info("follow", "written", strings.Join(r.Changed, " "))
		}
		why := strings.Join(r.Missing, "; ")
		if err != nil {
			why = err.Error()
		}
		held := f.State.Node.VIP.Provider == node.VIPKeepalived && f.State.Config.Role == node.ControlPlane && !f.admitted()
		if !held && (err == nil || f.Now().After(deadline)) {
			return err
		}
		if why != last && why != "" {
			f.State.Log.Info("follow", "waiting", why)
			last = why
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		case <-time.After(wait):
		}
		if wait = min(2*wait, 8*pause); err != nil {
			wait = pause // the cluster may be there the next moment
		}
	}
}
