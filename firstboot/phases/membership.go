// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// MembershipFile remembers how this machine's etcd came to its cluster. Without data of etcd the
// machine asks around again, and only a place in a cluster that is there counts still.
const MembershipFile = "/var/lib/imgbuild/firstboot/membership.json"

// Membership is how this machine's etcd comes to its cluster.
type Membership struct {
	// Joined says that the cluster was there before; otherwise this machine is one of
	// those that start it.
	Joined bool `json:"joined"`
	// ID is the etcd member's once a place was made for it in a running cluster.
	ID uint64 `json:"id,omitempty"`
	// Members is etcd's initial cluster; empty is this machine alone.
	Members []node.Peer `json:"members,omitempty"`
}

// LoadMembership reads the file below root; nil without an error means that there is none.
func LoadMembership(root string) (*Membership, error) {
	s := State{Root: root}
	text, err := os.ReadFile(s.path(MembershipFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m := &Membership{}
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("%s: %w; firstboot reset begins again", MembershipFile, err)
	}
	return m, nil
}

// Apply tells the generators.
func (m *Membership) Apply(c *kubeadm.Config) {
	c.EtcdMembers, c.EtcdExisting = m.Members, m.Joined
}

// adopt makes m what this run goes by and remembers it. Phases beside each other go by it from
// then on, so that only discovery calls it, which they all wait for.
func (s *State) adopt(m *Membership) error {
	if err := m.save(s.Root); err != nil {
		return err
	}
	s.Membership = m
	m.Apply(s.Config)
	return nil
}

// takePlace adds to the membership of a machine that joins which place was made for it, and
// remembers it. What phases read that run beside those of etcd stays as it is.
func (s *State) takePlace(id uint64, members []node.Peer) error {
	m := &Membership{Joined: true, ID: id, Members: members}
	if err := m.save(s.Root); err != nil {
		return err
	}
	s.Membership.ID, s.Membership.Members, s.Config.EtcdMembers = id, members, members
	return nil
}

func (m *Membership) save(root string) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	_, err = kubeadm.WriteFiles(root, kubeadm.File{Path: MembershipFile, Mode: 0o644, Data: append(data, '\n')})
	return err
}

// joined says that the machine came to a cluster that was there before.
func (s *State) joined() bool { return s.Membership != nil && s.Membership.Joined }

// shared says that other control planes write the cluster's objects, too.
func (s *State) shared() bool {
	return s.joined() || s.Membership != nil && len(s.Membership.Members) > 1
}

// etcdHasData says whether an etcd member ever ran on this disk.
func (s *State) etcdHasData() bool {
	_, err := os.Stat(s.path(kubeadm.EtcdDataDir + "/member"))
	return err == nil
}

func (s *State) self() node.Peer {
	return node.Peer{Name: s.Config.NodeName, Address: s.Config.Address.String()}
}

// others are the control planes of the document without this machine.
func (s *State) others() []node.Peer {
	return slices.DeleteFunc(slices.Clone(s.Node.Cluster.ControlPlanes), func(p node.Peer) bool { return p.Name == s.Config.NodeName })
}
