// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"net"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/builder/vm/ethernet"
)

// Announced says which machines announce the virtual address (gratuitous ARP) from the moment
// when something happens until a while later, each once, in their order.
func (l *Lab) Announced(happens func() error, while time.Duration) (names []string, err error) {
	byMAC := map[ethernet.MAC]string{}
	for _, m := range l.Machines {
		if err := m.space.do(func() error {
			link, err := netlink.LinkByName("eth0")
			if err == nil {
				byMAC[ethernet.MAC(link.Attrs().HardwareAddr)] = m.Name
			}
			return err
		}); err != nil {
			return nil, err
		}
	}
	var socket int
	if err := l.wire.do(func() error {
		bridge, err := net.InterfaceByName("wire")
		if err != nil {
			return err
		}
		const arp = unix.ETH_P_ARP&0xff<<8 | unix.ETH_P_ARP>>8 // in the order of the network
		if socket, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, arp); err != nil {
			return err
		}
		return errors.Join(unix.Bind(socket, &unix.SockaddrLinklayer{Protocol: arp, Ifindex: bridge.Index}),
			unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 20_000}))
	}); err != nil {
		return nil, err
	}
	defer unix.Close(socket)
	if err := happens(); err != nil {
		return nil, err
	}
	buffer := make([]byte, ethernet.MaxFrame)
	for end := time.Now().Add(while); time.Now().Before(end); {
		n, _, err := unix.Recvfrom(socket, buffer, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		a, ok := ethernet.ParseARP(ethernet.Frame(buffer[:n]))
		if name := byMAC[a.SenderMAC]; ok && a.Gratuitous() && a.SenderIP == VIP && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}
