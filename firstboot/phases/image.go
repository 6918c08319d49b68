// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"errors"
	"fmt"

	"github.com/imgbuild/imgbuild/firstboot/baseimage"
	"github.com/imgbuild/imgbuild/firstboot/containerd"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/manifests/verity"
)

// importBaseImage waits for containerd and gives it the image that every sandbox and every
// pod running from the host's /usr uses.
func importBaseImage(ctx context.Context, s *State) error {
	return withBaseImage(s, func(c *containerd.Client, layout *containerd.Layout) error {
		if err := c.Import(ctx, layout); err != nil {
			return err
		}
		return c.Name(ctx, baseimage.Ref, verity.Everywhere()...)
	})
}

// nameBaseImage gives the base image the name that the static pods of the control plane have it
// by, which says the version of Kubernetes.
func nameBaseImage(ctx context.Context, s *State) error {
	return withContainerd(s, func(c *containerd.Client) error {
		return c.Name(ctx, baseimage.Ref, verity.Ref(kubeadm.APIServer, s.Config.KubernetesVersion))
	})
}

func baseImageThere(ctx context.Context, s *State) error {
	return withBaseImage(s, func(c *containerd.Client, layout *containerd.Layout) error {
		names := verity.Everywhere()
		for _, img := range layout.Images {
			names = append(names, img.Name)
		}
		return imagesThere(ctx, c, names...)
	})
}

func imagesThere(ctx context.Context, c *containerd.Client, names ...string) error {
	for _, name := range names {
		has, err := c.Has(ctx, name)
		if err != nil {
			return err
		}
		if !has {
			return fmt.Errorf("containerd does not hold %s", name)
		}
	}
	return nil
}

// withBaseImage opens the image and a connection to containerd for use.
func withBaseImage(s *State, use func(*containerd.Client, *containerd.Layout) error) error {
	layout, err := containerd.OpenLayout(s.path(containerd.BaseImagePath))
	if err != nil {
		return err
	}
	return withContainerd(s, func(c *containerd.Client) error { return use(c, layout) })
}

func withContainerd(s *State, use func(*containerd.Client) error) (err error) {
	c, err := containerd.Dial(s.Containerd)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	return use(c)
}
