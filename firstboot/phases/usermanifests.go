// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"errors"
	"fmt"

	"github.com/imgbuild/imgbuild/firstboot/addons"
	"github.com/imgbuild/imgbuild/firstboot/cluster"
)

// forUserObjects calls do for every object of the user's manifests, one after the other, until
// one fails.
func (s *State) forUserObjects(do func(*cluster.Client, addons.UserObject) error) error {
	objs, err := addons.ReadManifests(s.Root, s.Node.Network.Manifests)
	if err != nil || len(objs) == 0 {
		return err
	}
	c, err := s.client()
	if err != nil {
		return err
	}
	for _, o := range objs {
		if err := do(c, o); err != nil {
			return fmt.Errorf("%s: %w", o, err)
		}
	}
	return nil
}

func (s *State) applyUserObjects(ctx context.Context) error {
	return s.forUserObjects(func(c *cluster.Client, o addons.UserObject) error { return c.ApplyAny(ctx, o.Obj) })
}

func (s *State) userObjectsThere(ctx context.Context) error {
	return s.forUserObjects(func(c *cluster.Client, o addons.UserObject) error {
		there, err := c.ExistsAny(ctx, o.Obj)
		if err == nil && !there {
			err = errors.New("does not exist")
		}
		return err
	})
}

// writeAddons writes the add-ons and, after them, what the user delivered.
func writeAddons(ctx context.Context, s *State) error {
	if s.joined() {
		return nil // the cluster has its own
	}
	ctx, cancel := context.WithTimeout(ctx, s.Node.Timeouts.KubernetesAPICall.D())
	defer cancel()
	if err := writeObjects(addonObjects...)(ctx, s); err != nil {
		return err
	}
	return s.applyUserObjects(ctx)
}

func addonsThere(ctx context.Context, s *State) error {
	if s.joined() {
		return nil
	}
	if err := objectsThere(addonObjects...)(ctx, s); err != nil {
		return err
	}
	return s.userObjectsThere(ctx)
}
