// SPDX-License-Identifier: Apache-2.0

package util

import (
	"os/user"

	"github.com/imgbuild/imgbuild/assets/components/ignition/accounts"
)

func (u Util) userLookup(name string) (*user.User, error) { return accounts.User(u.DestDir, name) }

func (u Util) groupLookup(name string) (*user.Group, error) { return accounts.Group(u.DestDir, name) }
