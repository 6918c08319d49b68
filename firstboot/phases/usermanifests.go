// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/imgbuild/imgbuild/firstboot/addons"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// userObjects reads what network.manifests names, in order, with what others need first.
func (s *State) userObjects() ([]addons.UserObject, error) {
	var first, rest []addons.UserObject
	var errs []error
	for i, file := range s.Node.Network.Manifests {
		text, err := os.ReadFile(s.path(file))
		if errors.Is(err, os.ErrNotExist) {
			err = fmt.Errorf("network.manifests[%d]: %s does not exist; deliver it as a storage file of the Ignition config", i, file)
		}
		var objs []addons.UserObject
		if err == nil {
			objs, err = addons.ParseManifest(file, text)
		}
		errs = append(errs, err)
		for _, o := range objs {
			if o.First() {
				first = append(first, o)
			} else {
				rest = append(rest, o)
			}
		}
	}
	return append(first, rest...), errors.Join(errs...)
}

// userManifests checks the files before anything is started that would wait for their content.
func userManifests(s *State) error {
	if s.Node.Role != node.ControlPlane {
		return nil
	}
	_, err := s.userObjects()
	return err
}

// applyUserObjects writes the user's objects one after the other.
func (s *State) applyUserObjects(ctx context.Context) error {
	objs, err := s.userObjects()
	if err != nil || len(objs) == 0 {
		return err
	}
	c, err := s.client()
	if err != nil {
		return err
	}
	for _, o := range objs {
		if err := c.ApplyAny(ctx, o.Obj); err != nil {
			return fmt.Errorf("%s: %w", o, err)
		}
	}
	return nil
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
	objs, err := s.userObjects()
	if err != nil || len(objs) == 0 {
		return err
	}
	c, err := s.client()
	if err != nil {
		return err
	}
	for _, o := range objs {
		there, err := c.ExistsAny(ctx, o.Obj)
		if err == nil && !there {
			err = errors.New("does not exist")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", o, err)
		}
	}
	return nil
}
