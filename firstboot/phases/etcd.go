// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/etcd"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
)

// placeEtcd writes etcd's manifest, in a cluster that was there before after a place was
// made for the member. A member whose data is here and whose ID is not known has its place.
func placeEtcd(ctx context.Context, s *State) error {
	if err := kubeadm.MakeDir(s.Root, kubeadm.EtcdDataDir); err != nil {
		return err
	}
	// A file system of its own begins with a directory that everybody may read.
	if err := os.Chmod(s.path(kubeadm.EtcdDataDir), 0o700); err != nil {
		return err
	}
	if s.joined() && (!s.etcdHasData() || s.Membership.ID == 0) {
		if err := s.addLearner(ctx); err != nil {
			return err
		}
	}
	return place(s, isEtcd)
}

// etcdPlaced checks the manifest. A machine that joins and has no data asks for a place again.
func etcdPlaced(_ context.Context, s *State) error {
	if s.joined() && !s.etcdHasData() {
		return errors.New("etcd has no data yet")
	}
	if s.joined() && s.Membership.ID == 0 {
		return errors.New("it is not known which member of etcd this machine is")
	}
	return placed(s, isEtcd)
}

// withdrawEtcd takes the manifest of an attempt that was cut off away from the kubelet. That one
// starts with the machine, and would bring etcd to life while it is being found out what to
// start it with. The manifest gets the name that the next one has while it is written, which
// the kubelet ignores: data in a directory of manifests that is empty is somebody else's to preflight.
func (s *State) withdrawEtcd() error {
	path := s.path(kubeadm.ManifestsDir + "/" + kubeadm.Etcd + ".yaml")
	err := os.Rename(path, kubeadm.Unfinished(path))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return kubeadm.SyncDir(filepath.Dir(path))
}

func (s *State) addLearner(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.Node.Timeouts.EtcdAPICall.D())
	defer cancel()
	c, err := s.etcdOfOthers(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	j, err := c.AddLearner(ctx, s.self(), s.etcdHasData)
	if err != nil {
		return s.final(err)
	}
	s.Log.Info("etcd", "action", "has a place", "id", fmt.Sprintf("%x", j.ID), "members", len(j.Initial))
	return s.takePlace(j.ID, j.Initial)
}

// joinEtcd waits until this machine's etcd is a voting member that answers. Where several
// control planes start a cluster that takes a quorum of them; alone there is nothing to wait
// for, as the API is waited for anyway.
func joinEtcd(ctx context.Context, s *State) error {
	if !s.joined() {
		return nil
	}
	others, err := s.etcdOfOthers(ctx)
	if err != nil {
		return err
	}
	defer others.Close()
	id := s.Membership.ID
	if err := s.inTime(ctx, func(ctx context.Context) error {
		return others.AwaitStart(ctx, id, s.self(), func(now []node.Peer) error {
			if err := s.takePlace(id, now); err != nil {
				return err
			}
			return place(s, isEtcd)
		})
	}); err != nil {
		return s.final(err)
	}
	s.Mark("etcd-started")
	if err := s.inTime(ctx, func(ctx context.Context) error { return others.Promote(ctx, id) }); err != nil {
		return s.final(err)
	}
	s.Mark("etcd-votes")
	return s.awaitEtcd(ctx)
}

// awaitQuorum waits for etcd where several control planes start a cluster.
func awaitQuorum(ctx context.Context, s *State) error {
	if s.joined() || !s.shared() {
		return nil
	}
	return s.awaitEtcd(ctx)
}

// awaitEtcd waits until this machine's own etcd answers with a quorum behind it.
func (s *State) awaitEtcd(ctx context.Context) error {
	c, err := s.dialEtcd(ctx, s.self())
	if err != nil {
		return err
	}
	defer c.Close()
	return s.inTime(ctx, c.AwaitServing)
}

func (s *State) inTime(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.Node.Timeouts.EtcdAPICall.D())
	defer cancel()
	return do(ctx)
}

func (s *State) final(err error) error {
	var final *etcd.FinalError
	if errors.As(err, &final) {
		return phase.Permanent(err)
	}
	return err
}

// etcdOfOthers is a client of the other control planes' members.
func (s *State) etcdOfOthers(ctx context.Context) (*etcd.Client, error) {
	others := s.others()
	if len(others) == 0 && s.Config.EndpointSet {
		others = []node.Peer{{Address: s.Config.EndpointHost}}
	}
	if len(others) == 0 {
		return nil, phase.Permanent(errors.New("cluster.controlPlanes lists no other control plane whose etcd could be joined"))
	}
	return s.dialEtcd(ctx, others...)
}

func (s *State) dialEtcd(ctx context.Context, peers ...node.Peer) (*etcd.Client, error) {
	base := s.path(kubeadm.PKIDir + "/etcd/")
	cfg, err := etcd.LoadTLS(base+"/healthcheck-client.crt", base+"/healthcheck-client.key", base+"/ca.crt")
	if err != nil {
		return nil, err
	}
	var urls []string
	for _, p := range peers {
		urls = append(urls, etcd.ClientURL(p.Address))
	}
	c, err := etcd.Dial(urls, cfg)
	if err != nil {
		return nil, err
	}
	c.Report = func(err error) { phase.Report(ctx, err) }
	c.MaxPause = max(c.MaxPause, 5*time.Second)
	return c, nil
}
