// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// space is a network namespace. Nothing names it, so it is gone with the last thing in it.
type space struct{ file *os.File }

func (s *space) close() { s.file.Close() }

// Possible says whether this process may make namespaces; if not, the error is ErrPrivilege.
func Possible() error {
	s, err := newSpace()
	if err == nil {
		s.close()
	}
	return err
}

// RaiseLoopback sets the loopback interface of this process up.
func RaiseLoopback() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// newSpace makes a namespace whose loopback is up.
func newSpace() (*space, error) {
	var made *space
	err := onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("%w: %w", ErrPrivilege, err)
		}
		f, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		if err != nil {
			return err
		}
		made = &space{f}
		return RaiseLoopback()
	})
	return made, err
}

// do runs f with the calling thread in the namespace: sockets and processes that f makes
// belong to it.
func (s *space) do(f func() error) error {
	return onOwnThread(func() error {
		if err := unix.Setns(int(s.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f()
	})
}

// onOwnThread runs f on a thread that goes back to where it came from, and is thrown away
// when it cannot.
func onOwnThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		if err != nil {
			done <- err
			return
		}
		defer home.Close()
		err = f()
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}
