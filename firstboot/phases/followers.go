// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"

	"github.com/imgbuild/imgbuild/firstboot/balancer"
	"github.com/imgbuild/imgbuild/firstboot/cluster"
	"github.com/imgbuild/imgbuild/firstboot/endpoint"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
)

// Follow is the phase that hands the endpoint over to FollowUnit. kubeadm has none.
const Follow = "follow"

// FollowUnit runs a Follower, every minute and after every boot, once FollowFile exists.
// FollowFile remembers the control planes, those that are gone included.
const (
	FollowUnit = "firstboot-follow.service"
	FollowFile = "/var/lib/imgbuild/firstboot/control-planes.json"
)

func followPhase(needs ...string) phase.Phase[*State] {
	return phase.Phase[*State]{Name: Follow, Purpose: "the endpoint follows the control planes of the cluster",
		Needs: needs, Run: beginToFollow, Timeout: time.Minute, Attempts: 3, Pause: time.Second, OnChange: phase.Redo}
}

// follows says whether anything on this machine depends on who the control planes are.
func (s *State) follows() bool {
	return balancer.Wanted(s.Node) || s.Node.VIP.Provider == node.VIPKeepalived && s.Config.Role == node.ControlPlane
}

// beginToFollow lets FollowUnit run from now on. A machine that came to a running cluster does
// not wait for the timer: the others have to learn of it, and it of them.
func beginToFollow(ctx context.Context, s *State) error {
	if !s.follows() {
		return nil
	}
	if s.absent(FollowFile) {
		if err := s.remember(nil, time.Now()); err != nil {
			return err
		}
	}
	if s.Config.Role == node.ControlPlane && !s.joined() {
		return nil
	}
	return s.StartUnit(ctx, FollowUnit)
}

// members are the control planes of the document and those remembered.
func (s *State) members(seen []endpoint.Member, now time.Time) ([]endpoint.Member, error) {
	listed := s.Node.Cluster.ControlPlanes
	if len(listed) == 0 && s.Config.Role == node.ControlPlane {
		listed = []node.Peer{s.self()}
	}
	text, err := os.ReadFile(s.path(FollowFile))
	var known []endpoint.Member
	if err == nil {
		known, err = endpoint.Decode(text)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w; write [] to it from a privileged pod on this node, and it is made again from the node document and the cluster, or wipe this machine's disk and let it join again", FollowFile, err)
	}
	return endpoint.Merge(endpoint.Document(listed), known, seen, now), nil
}

func (s *State) remember(seen []endpoint.Member, now time.Time) error {
	members, err := s.members(seen, now)
	if err != nil {
		return err
	}
	data, err := endpoint.Encode(members)
	if err != nil {
		return err
	}
	_, err = kubeadm.WriteFiles(s.Root, kubeadm.File{Path: FollowFile, Mode: 0o644, Data: data})
	return err
}

// current is the document with the control planes that are known now.
func (s *State) current() (*node.Node, error) {
	members, err := s.members(nil, time.Now())
	if err != nil {
		return nil, err
	}
	n := *s.Node
	n.Cluster.ControlPlanes = endpoint.Peers(members)
	return &n, nil
}

// NewFollower returns the follower of this machine.
func NewFollower(s *State) *Follower {
	f := &Follower{State: s, Reload: reloadUnit, Now: time.Now, Settle: settle, Owned: s.addressOwned}
	var answered *cluster.Client
	f.Nodes = func(ctx context.Context) (nodes []corev1.Node, err error) {
		answered, nodes, err = s.nodesOfAny(ctx)
		return nodes, err
	}
	f.Announce = func(ctx context.Context, value string) error {
		ctx, cancel := context.WithTimeout(ctx, answer)
		defer cancel()
		return answered.Annotate(ctx, s.Config.NodeName, endpoint.Annotation, value)
	}
	f.APIServers = func(ctx context.Context) ([]netip.Addr, error) {
		c, err := s.client() // a worker's is the kubelet's
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, answer)
		defer cancel()
		return c.APIServers(ctx)
	}
	return f
}

// answer is how long an API server may take.
const answer = 10 * time.Second

// nodesOfAny asks every API server that is known, this machine's own included, and takes the
// first answer: each reads with a quorum of etcd, and none depends on the virtual address.
func (s *State) nodesOfAny(ctx context.Context) (*cluster.Client, []corev1.Node, error) {
	n, err := s.current()
	if err != nil {
		return nil, nil, err
	}
	file := s.path(kubeadm.Dir + "/" + kubeconfig.Admin)
	type result struct {
		c     *cluster.Client
		nodes []corev1.Node
		from  int
		err   error
	}
	ctx, cancel := context.WithTimeout(ctx, answer)
	defer cancel()
	results := make(chan result, len(n.Cluster.ControlPlanes))
	for i, p := range n.Cluster.ControlPlanes {
		go func() {
			r := result{from: i}
			if r.c, r.err = cluster.FromFile(file, s.serverOf(p)); r.err == nil {
				r.nodes, r.err = r.c.Nodes(ctx)
			}
			if r.err != nil {
				r.err = fmt.Errorf("%s: %w", p.Name, r.err)
			}
			results <- r
		}()
	}
	errs := make([]error, len(n.Cluster.ControlPlanes))
	for range errs {
		r := <-results
		if r.err == nil {
			return r.c, r.nodes, nil
		}
		errs[r.from] = r.err
	}
	return nil, nil, fmt.Errorf("no API server lists the nodes: %w", errors.Join(errs...))
}

// addressOwned says whether anybody has the virtual address. An owner need not serve: a refused
// connection is an answer, and so is one to the question for its link-layer address, which the
// attempt to connect makes the kernel ask.
func (s *State) addressOwned(ctx context.Context) bool {
	at := net.JoinHostPort(s.Config.VIP.String(), strconv.Itoa(int(s.Config.EndpointPort)))
	conn, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, "tcp", at)
	if err == nil {
		conn.Close()
	}
	if err == nil || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) {
		return true
	}
	neighbours, err := netlink.NeighList(0, netlink.FAMILY_ALL)
	if err != nil {
		return true // nobody takes what may be somebody's
	}
	return slices.ContainsFunc(neighbours, func(n netlink.Neigh) bool {
		a, ok := netip.AddrFromSlice(n.IP)
		return ok && a.Unmap() == s.Config.VIP.Unmap() && n.State&(netlink.NUD_REACHABLE|netlink.NUD_STALE|netlink.NUD_DELAY|netlink.NUD_PROBE|netlink.NUD_PERMANENT) != 0
	})
}
