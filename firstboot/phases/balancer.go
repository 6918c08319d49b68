// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/balancer"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
)

// The phases of the load balancer on the node. kubeadm has none.
const (
	Balancer   = "balancer"
	BalancerCA = "balancer-ca"
)

// balancerPhase starts haproxy. A machine that joins reaches the cluster through it, so it
// may have to begin without the cluster's authority and believes any server that says it is
// ready; whoever connects verifies the server himself.
func balancerPhase() phase.Phase[*State] {
	return phase.Phase[*State]{Name: Balancer, Purpose: "the machine balances over the API servers",
		Needs: []string{Identity}, Run: startBalancer, Timeout: time.Minute, Attempts: 3, Pause: time.Second, OnChange: phase.Redo}
}

// balancerCAPhase makes haproxy's health checks verify the servers, once the authority is on
// disk. needs are the phases that put it there, for whatever role.
func balancerCAPhase(needs ...string) phase.Phase[*State] {
	return phase.Phase[*State]{Name: BalancerCA, Purpose: "the balancer believes only the cluster's own API servers",
		Needs: append([]string{Balancer}, needs...), Run: startBalancer, Timeout: time.Minute, Attempts: 3, Pause: time.Second, OnChange: phase.Redo}
}

func startBalancer(ctx context.Context, s *State) error {
	if !balancer.Wanted(s.Node) {
		return nil
	}
	file, err := s.balancerFile()
	if err != nil {
		return err
	}
	if err := s.startWith(ctx, balancer.Unit, file); err != nil {
		return err
	}
	if s.Node.Cluster.EndpointMode != node.EndpointLocal {
		return nil
	}
	// Last, because from here on the name leads to haproxy.
	hosts, err := os.ReadFile(s.path(balancer.HostsFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, err = kubeadm.WriteFiles(s.Root, balancer.Hosts(hosts, s.Config.EndpointHost, s.Config.Loopback()))
	return err
}

// balancerFile is haproxy's configuration with the control planes that are known now.
func (s *State) balancerFile() (kubeadm.File, error) {
	ca := balancer.CAFile
	if _, err := os.Stat(s.path(ca)); errors.Is(err, fs.ErrNotExist) {
		ca = ""
	} else if err != nil {
		return kubeadm.File{}, err
	}
	n, err := s.current()
	if err != nil {
		return kubeadm.File{}, err
	}
	return balancer.New(n, s.Config, ca).Config(), nil
}
