// SPDX-License-Identifier: Apache-2.0

package health

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// changes tells of addresses of this machine that come and go (rtnetlink(7)).
type changes struct{ *os.File }

// Groups of rtnetlink, as bits.
const (
	groupIPv4Address = 0x10
	groupIPv6Address = 0x100
)

func addressChanges() (*changes, error) {
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, syscall.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("watching addresses: %w", err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK, Groups: groupIPv4Address | groupIPv6Address}); err != nil {
		_ = syscall.Close(fd)
		return nil, fmt.Errorf("watching addresses: %w", err)
	}
	return &changes{os.NewFile(uintptr(fd), "rtnetlink")}, nil
}

// each calls look at once and after every change, until the file is closed. What a message says
// is not read: messages get lost when they come too fast, and looking tells the truth.
func (c *changes) each(look func() error) error {
	buffer := make([]byte, 64<<10)
	for {
		if err := look(); err != nil {
			return err
		}
		_, err := c.Read(buffer)
		switch {
		case errors.Is(err, os.ErrClosed):
			return nil
		case err != nil && !errors.Is(err, syscall.ENOBUFS): // some were lost
			return fmt.Errorf("watching addresses: %w", err)
		}
	}
}
