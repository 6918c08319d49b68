// SPDX-License-Identifier: Apache-2.0

// Package asuser makes file system calls with the rights of another user, so that a link in
// a home directory cannot make a privileged process write elsewhere. Identity and umask
// are properties of a kernel thread: each call runs on one of its own, which ends with it.
package asuser

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// OpenFile opens a file as u. Flags are those of open(2); perm is used without a umask
// other than 077.
func OpenFile(u *user.User, name string, flags int, perm uint32) (f *os.File, err error) {
	err = as(u, func() error {
		fd, err := retry(func() (int, error) { return unix.Open(name, flags|unix.O_CLOEXEC, perm) })
		if err != nil {
			return &fs.PathError{Op: "open", Path: name, Err: err}
		}
		f = os.NewFile(uintptr(fd), name)
		return nil
	})
	return f, err
}

// MkdirAll creates a directory and its missing parents as u.
func MkdirAll(u *user.User, path string, perm uint32) error {
	return as(u, func() error {
		for i := 1; i <= len(path); i++ {
			if i < len(path) && path[i] != '/' {
				continue
			}
			err := unix.Mkdir(path[:i], perm)
			// A parent may exist and yet not be ours to create: EROFS, EACCES.
			if err != nil && !isDir(path[:i]) {
				return &fs.PathError{Op: "mkdir", Path: path[:i], Err: err}
			}
		}
		return nil
	})
}

// Rename renames a file as u.
func Rename(u *user.User, oldpath, newpath string) error {
	return as(u, func() error {
		if err := unix.Rename(oldpath, newpath); err != nil {
			return &os.LinkError{Op: "rename", Old: oldpath, New: newpath, Err: err}
		}
		return nil
	})
}

func isDir(path string) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// as runs f on a kernel thread with u's file system identity.
func as(u *user.User, f func() error) error {
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("user %s: %s", u.Username, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		done <- func() error {
			if err := become(int(uid), int(gid)); err != nil {
				return fmt.Errorf("become uid %d, gid %d: %w", uid, gid, err)
			}
			return f()
		}()
	}()
	return <-done
}

// become changes the calling thread only. unix.Setfsuid and Setfsgid report no errors by
// themselves; a second call with an impossible id returns what is in force.
func become(uid, gid int) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil { // a umask of its own
		return err
	}
	unix.Umask(0o077)
	if os.Getuid() == uid && os.Getgid() == gid {
		return nil
	}
	for _, id := range []struct {
		set  func(int) (int, error)
		want int
	}{{unix.SetfsgidRetGid, gid}, {unix.SetfsuidRetUid, uid}} {
		if _, err := id.set(id.want); err != nil {
			return err
		}
		if got, _ := id.set(-1); got != id.want {
			return unix.EPERM
		}
	}
	return nil
}

func retry(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return n, err
		}
	}
}
