// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"errors"
	"fmt"

	"github.com/imgbuild/imgbuild/firstboot/containerd"
)

// importBaseImage waits for containerd and gives it the image that every sandbox and every
// pod running from the host's /usr uses.
func importBaseImage(ctx context.Context, s *State) error {
	return withBaseImage(s, func(c *containerd.Client, layout *containerd.Layout) error {
		return c.Import(ctx, layout)
	})
}

func baseImageThere(ctx context.Context, s *State) error {
	return withBaseImage(s, func(c *containerd.Client, layout *containerd.Layout) error {
		for _, img := range layout.Images {
			has, err := c.Has(ctx, img.Name)
			if err != nil {
				return err
			}
			if !has {
				return fmt.Errorf("containerd does not hold %s", img.Name)
			}
		}
		return nil
	})
}

// withBaseImage opens the image and a connection to containerd for use.
func withBaseImage(s *State, use func(*containerd.Client, *containerd.Layout) error) (err error) {
	layout, err := containerd.OpenLayout(s.path(containerd.BaseImagePath))
	if err != nil {
		return err
	}
	c, err := containerd.Dial(s.Containerd)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	return use(c, layout)
}
