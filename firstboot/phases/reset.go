// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/imgbuild/imgbuild/firstboot/etcd"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// starters are the units that run firstboot unasked: first boot itself, which starts again after
// a failure, and what starts the units of started. Firstboot-report.service changes nothing.
var (
	starters = []string{"firstboot.service", "firstboot-renew.timer", "firstboot-follow.timer", "firstboot-cni.path"}
	started  = []string{"firstboot-renew.service", FollowUnit, "firstboot-cni.service"}
)

// StopFirstBoot keeps firstboot from joining again, and from writing files, while it is reset. It
// is for this boot only: all of these units are started by the next one.
func StopFirstBoot(ctx context.Context, s *State) error {
	for _, unit := range slices.Concat(starters, started) {
		if err := s.StopUnit(ctx, unit); err != nil {
			return errors.Join(err, StartFirstBoot(ctx, s))
		}
	}
	return nil
}

// StartFirstBoot takes StopFirstBoot back, even after ctx has ended. Conditions of the units keep
// a first boot that is complete from running.
func StartFirstBoot(ctx context.Context, s *State) error {
	var errs []error
	for _, unit := range starters {
		errs = append(errs, s.StartUnit(context.WithoutCancel(ctx), unit))
	}
	return errors.Join(errs...)
}

// Left is what leaving etcd came to.
type Left struct {
	// Did says it in a sentence.
	Did string
	// Unlisted are the members that stay and are not in the node document, which may begin a
	// second cluster for want of them.
	Unlisted []string
}

// Leave takes this machine's etcd member out of the cluster, if there are others to take over.
// Only etcd knows whether there are: the node document is as old as the machine. An error means
// that the member may still be listed.
func Leave(ctx context.Context, s *State) (*Left, error) {
	none := &Left{Did: "this machine has no etcd member"}
	if s.Config.Role != node.ControlPlane {
		return none, nil
	}
	c, err := s.dialEtcd(ctx, append(s.others(), s.self())...)
	if errors.Is(err, fs.ErrNotExist) && !s.counted() {
		return none, nil // without certificates it never asked for a place
	}
	if err != nil {
		return nil, fmt.Errorf("leaving etcd: %w", err)
	}
	defer c.Close()
	var rest []etcd.Member
	err = s.inTime(ctx, func(ctx context.Context) (err error) {
		rest, err = c.Leave(ctx, s.self())
		return err
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("leaving etcd: %w; where other control planes are left, this machine counts as their member until it is removed or joins again", err)
	case len(rest) == 0:
		return &Left{Did: "etcd has no other member; the cluster ends with this machine"}, nil
	}
	return &Left{Did: "this machine's etcd member was removed", Unlisted: s.unlisted(rest)}, nil
}

// counted says whether etcd may count this machine by what it remembers; a file that cannot be
// read may say so.
func (s *State) counted() bool {
	known, err := LoadMembership(s.Root)
	return err != nil || known != nil && (known.ID != 0 || len(known.Members) > 0)
}

// unlisted names the members that are not among the document's control planes.
func (s *State) unlisted(members []etcd.Member) (names []string) {
	for _, m := range members {
		if !slices.ContainsFunc(s.others(), func(p node.Peer) bool { return slices.Contains(m.PeerURLs, etcd.PeerURL(p.Address)) }) {
			names = append(names, cmp.Or(m.Name, fmt.Sprintf("%x", m.ID)))
		}
	}
	return names
}
