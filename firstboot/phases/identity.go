// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/phase"
)

// identity resolves the node document against the machine.
func identity(ctx context.Context, s *State) error {
	h, err := s.Host(ctx, s.Root, s.Node)
	if err != nil {
		return err
	}
	h.Now = s.Start
	c, err := kubeadm.New(s.Node, h)
	if err != nil {
		return phase.Permanent(err)
	}
	s.Config = c
	s.Log.Info("identity", "node", c.NodeName, "role", string(c.Role), "address", c.Address.String(), "endpoint", c.Endpoint(), "kubernetes", c.KubernetesVersion)
	return nil
}
