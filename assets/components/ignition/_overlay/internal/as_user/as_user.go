// SPDX-License-Identifier: Apache-2.0

// Package as_user makes file system calls with the rights of another user.
package as_user

import (
	"os"
	"os/user"

	"github.com/imgbuild/imgbuild/assets/components/ignition/asuser"
)

// OpenFile opens a file as u.
func OpenFile(u *user.User, name string, flags int, perm uint32) (*os.File, error) {
	return asuser.OpenFile(u, name, flags, perm)
}

// MkdirAll creates a directory and its parents as u.
func MkdirAll(u *user.User, path string, perm uint32) error { return asuser.MkdirAll(u, path, perm) }

// Rename renames a file as u.
func Rename(u *user.User, oldpath, newpath string) error { return asuser.Rename(u, oldpath, newpath) }
