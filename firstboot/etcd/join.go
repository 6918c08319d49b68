// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/imgbuild/imgbuild/firstboot/node"
)

var (
	errMemberNotFound   = rpctypes.ErrMemberNotFound
	errMemberNotLearner = rpctypes.ErrMemberNotLearner
)

// Joining is the place of this machine in a cluster that it joins.
type Joining struct {
	// ID is the member's.
	ID uint64
	// Initial is what --initial-cluster has to say: every member, this one included.
	Initial []node.Peer
}

// AddLearner makes room for this machine's etcd: what is left of an earlier member of the same
// name or address is removed, then a learner is added. A learner added by an earlier attempt
// that never ran is used. It tries until ctx ends; the cluster admits one learner at a time and
// wants its members connected for five seconds.
//
// HasData says whether etcd has data on this machine. A kubelet that starts with the machine
// may bring the etcd of an earlier attempt to life at any moment. Its data is that of the
// member with this machine's address, and of no use to another: that member is then used.
func (c *Client) AddLearner(ctx context.Context, self node.Peer, hasData func() bool) (*Joining, error) {
	members, err := c.Members(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		if !m.is(self) {
			continue
		}
		unused := m.Learner && !m.Started() && slices.Equal(m.PeerURLs, []string{PeerURL(self.Address)})
		// Data comes before a member makes itself known, so it is there if m runs here.
		if unused || m.at(self) && hasData() {
			initial, err := initialCluster(members, m.ID, self)
			return &Joining{ID: m.ID, Initial: initial}, err
		}
		if err := c.refuseNamesake(ctx, m, self); err != nil {
			return nil, err
		}
		if err := c.Remove(ctx, m.ID); err != nil {
			return nil, err
		}
	}
	if hasData() {
		return nil, &FinalError{Reason: "etcd has data on this machine, and the cluster no member with its address: somebody removed it; firstboot reset begins again"}
	}
	var j Joining
	err = c.retry(ctx, "adding this machine to etcd as a learner", func(ctx context.Context) error {
		resp, err := c.etcd.MemberAddAsLearner(ctx, []string{PeerURL(self.Address)})
		if err != nil {
			return c.explain(ctx, err, self)
		}
		members := make([]Member, 0, len(resp.Members))
		for _, m := range resp.Members {
			members = append(members, memberOf(m))
		}
		j.ID = resp.Member.ID
		j.Initial, err = initialCluster(members, j.ID, self)
		return err
	})
	if errors.Is(err, errAdded) { // an answer got lost; the member is there
		return c.AddLearner(ctx, self, hasData)
	}
	return &j, err
}

var errAdded = &FinalError{Reason: "the member exists already"}

// explain turns the refusals of MemberAdd into what can be done about them.
func (c *Client) explain(ctx context.Context, err error, self node.Peer) error {
	switch {
	case errors.Is(err, rpctypes.ErrPeerURLExist), errors.Is(err, rpctypes.ErrMemberExist):
		return errAdded
	case errors.Is(err, rpctypes.ErrTooManyLearners):
		resp, lerr := c.etcd.MemberList(ctx)
		if lerr != nil {
			return err
		}
		for _, m := range resp.Members {
			if m.IsLearner && !memberOf(m).is(self) {
				return fmt.Errorf("member %x at %v is still becoming a member; if that machine is gone, remove it with etcdctl member remove %x", m.ID, m.PeerURLs, m.ID)
			}
		}
	}
	return err
}

// refuseNamesake protects a live member: another machine that was given the same name.
func (c *Client) refuseNamesake(ctx context.Context, m Member, self node.Peer) error {
	if m.at(self) {
		return nil // at our own address nobody else can be
	}
	for _, u := range m.ClientURLs {
		call, cancel := context.WithTimeout(ctx, 3*time.Second)
		resp, err := c.etcd.Status(call, u)
		cancel()
		if err == nil && resp.Header.MemberId == m.ID {
			return &FinalError{Reason: fmt.Sprintf("another machine, at %s, runs the etcd member %s; give one of the two another name", u, m.Name)}
		}
	}
	return nil
}

// initialCluster lists members by name, the one with this id as self. etcd lists them by id, which
// comes from the moment they were added: a machine that joins again would have another manifest.
func initialCluster(members []Member, id uint64, self node.Peer) ([]node.Peer, error) {
	var out []node.Peer
	for _, m := range members {
		name := m.Name
		switch {
		case m.ID == id:
			name = self.Name
		case name == "": // added and not started yet; kubeadm names it so, too
			name = strconv.FormatUint(m.ID, 16)
		}
		for _, u := range m.PeerURLs {
			address, err := peerAddress(u)
			if err != nil {
				return nil, &FinalError{Reason: err.Error()}
			}
			out = append(out, node.Peer{Name: name, Address: address})
		}
	}
	slices.SortFunc(out, func(a, b node.Peer) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Address, b.Address))
	})
	return out, nil
}

// AwaitStart waits until the member has made itself known. As long as it has not, initial is
// called whenever the list of members is another than before, because etcd refuses to start
// with a list that is not the cluster's.
func (c *Client) AwaitStart(ctx context.Context, id uint64, self node.Peer, initial func([]node.Peer) error) error {
	var last []node.Peer
	return c.retry(ctx, "waiting for this machine's etcd to start", func(ctx context.Context) error {
		resp, err := c.etcd.MemberList(ctx)
		if err != nil {
			return err
		}
		members := make([]Member, 0, len(resp.Members))
		there := false
		for _, r := range resp.Members {
			m := memberOf(r)
			members = append(members, m)
			if m.ID != id {
				continue
			}
			if there = true; m.Started() {
				return nil
			}
		}
		if !there {
			return &FinalError{Reason: fmt.Sprintf("somebody removed member %x before it started", id)}
		}
		now, err := initialCluster(members, id, self)
		if err != nil {
			return err
		}
		if !slices.Equal(now, last) {
			if err := initial(now); err != nil {
				return &FinalError{Reason: err.Error()}
			}
			last = now
		}
		return errors.New("it has not made itself known yet")
	})
}

// Promote makes a learner a voting member as soon as it has caught up. A member that votes
// already is no error.
func (c *Client) Promote(ctx context.Context, id uint64) error {
	return c.retry(ctx, "making this machine's etcd a voting member", func(ctx context.Context) error {
		_, err := c.etcd.MemberPromote(ctx, id)
		if errors.Is(err, errMemberNotLearner) {
			return nil
		}
		return err
	})
}

// AwaitServing waits until a read through the client's endpoints succeeds, which takes a quorum.
func (c *Client) AwaitServing(ctx context.Context) error {
	return c.retry(ctx, "waiting for etcd to answer", func(ctx context.Context) error {
		_, err := c.etcd.Get(ctx, "health")
		if errors.Is(err, rpctypes.ErrPermissionDenied) {
			return nil
		}
		return err
	})
}

// Leave removes the member of a machine and returns the members that stay. One that has no
// others is not removed. The cluster needs a quorum without it.
func (c *Client) Leave(ctx context.Context, self node.Peer) (rest []Member, err error) {
	members, err := c.Members(ctx)
	if err != nil {
		return nil, err
	}
	rest = slices.DeleteFunc(slices.Clone(members), func(m Member) bool { return m.at(self) })
	// A member that was removed ends, maybe with its answer: the others have to be known by then.
	endpoints := c.etcd.Endpoints()
	for _, m := range rest {
		endpoints = append(endpoints, m.ClientURLs...)
	}
	c.etcd.SetEndpoints(endpoints...)
	for _, m := range members {
		if m.at(self) && len(rest) > 0 {
			return rest, c.Remove(ctx, m.ID)
		}
	}
	return rest, nil
}
