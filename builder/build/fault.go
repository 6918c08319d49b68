// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/tree"
)

// blame gives an error the class of whoever is most likely to have caused it: class, unless
// the error has one already or comes from the machine rather than from the inputs.
func blame(ctx context.Context, class fault.Class, err error, hint string) error {
	switch {
	case err == nil, ctx.Err() != nil, fault.ClassOf(err) != fault.Unclassified:
		return err
	case errors.Is(err, tree.ErrCorrupt), errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EIO):
		return err
	}
	return fault.Wrap(class, err, hint)
}

// correctProfile is what to do about a tree that cannot be composed.
const correctProfile = "correct the profile: it asks for what its packages, components and assets do not hold"
