// SPDX-License-Identifier: Apache-2.0

// Package accounts looks up users and groups in the passwd(5) and group(5) files of another
// root directory. Ignition does this while the real root is mounted below /sysroot, where
// the C library's lookup would read the files of the initial RAM disk.
package accounts

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// User returns the account of that name in root/etc/passwd, or user.UnknownUserError.
func User(root, name string) (*user.User, error) {
	f, err := open(root, "etc/passwd")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, user.UnknownUserError(name)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	u, err := findUser(f, name)
	if err == nil && u == nil {
		err = user.UnknownUserError(name)
	}
	return u, err
}

// Group returns the group of that name in root/etc/group, or user.UnknownGroupError.
func Group(root, name string) (*user.Group, error) {
	f, err := open(root, "etc/group")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, user.UnknownGroupError(name)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	g, err := findGroup(f, name)
	if err == nil && g == nil {
		err = user.UnknownGroupError(name)
	}
	return g, err
}

// open opens a file as if root were "/": absolute links stay inside of it.
func open(root, name string) (*os.File, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("root directory %s cannot be opened: %v", root, err)
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: root + "/" + name, Err: err}
	}
	return os.NewFile(uintptr(fd), root+"/"+name), nil
}

// findUser returns the first usable entry, or nil: passwd(5) has seven fields, name,
// password, uid, gid, comment, home and shell. Lines it cannot read are passed over, as
// the C library does.
func findUser(r io.Reader, name string) (found *user.User, err error) {
	err = lines(r, 7, name, func(f []string) bool {
		if !isID(f[2]) || !isID(f[3]) {
			return false
		}
		found = &user.User{Username: f[0], Name: f[0], Uid: f[2], Gid: f[3], HomeDir: f[5]}
		return true
	})
	return found, err
}

// findGroup is findUser for group(5): name, password, gid, members.
func findGroup(r io.Reader, name string) (found *user.Group, err error) {
	err = lines(r, 4, name, func(f []string) bool {
		if !isID(f[2]) {
			return false
		}
		found = &user.Group{Name: f[0], Gid: f[2]}
		return true
	})
	return found, err
}

func lines(r io.Reader, fields int, name string, use func([]string) bool) error {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20) // a group may have many members
	for s.Scan() {
		f := strings.Split(s.Text(), ":")
		if len(f) == fields && f[0] == name && name != "" && use(f) {
			return nil
		}
	}
	return s.Err()
}

// isID says whether s is a uid_t or gid_t.
func isID(s string) bool {
	_, err := strconv.ParseUint(s, 10, 32)
	return err == nil
}
