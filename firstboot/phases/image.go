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
func importBaseImage(ctx context.Context, s *State) (err error) {
	layout, err := containerd.OpenLayout(s.path(containerd.BaseImagePath))
	if err != nil {
		return err
	}
	c, err := containerd.Dial(s.Containerd)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	return c.Import(ctx, layout)
}

func baseImageThere(ctx context.Context, s *State) (err error) {
	layout, err := containerd.OpenLayout(s.path(containerd.BaseImagePath))
	if err != nil {
		return err
	}
	c, err := containerd.Dial(s.Containerd)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
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
}
