// SPDX-License-Identifier: Apache-2.0

package ethernet

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// ARP is an address resolution message for IPv4 over Ethernet (RFC 826).
type ARP struct {
	Request            bool
	SenderMAC          MAC
	SenderIP, TargetIP netip.Addr
}

const (
	arpSize    = 28
	arpRequest = 1
	arpReply   = 2
	// Where the operation and the target's address stand in a frame.
	arpOperation = headerSize + 6
	arpTarget    = headerSize + 24
)

// ParseARP returns the message a frame carries, if it does.
func ParseARP(f Frame) (ARP, bool) {
	if !f.valid() || f.Type() != TypeARP || len(f.Payload()) < arpSize {
		return ARP{}, false
	}
	b := f.Payload()
	op := binary.BigEndian.Uint16(b[6:])
	// Ethernet, IPv4, and the lengths of their addresses.
	if [6]byte(b[:6]) != [6]byte{0, 1, 8, 0, 6, 4} || op != arpRequest && op != arpReply {
		return ARP{}, false
	}
	return ARP{Request: op == arpRequest, SenderMAC: MAC(b[8:14]), SenderIP: netip.AddrFrom4([4]byte(b[14:18])),
		TargetIP: netip.AddrFrom4([4]byte(b[24:28]))}, true
}

// Announces says whether the message tells everyone where its sender is: asked or not, it
// claims an address. A probe (RFC 5227), which has no sender's address, does not.
func (a ARP) Announces() bool { return a.SenderIP.IsValid() && !a.SenderIP.IsUnspecified() }

// Gratuitous says whether the message only announces its sender's address.
func (a ARP) Gratuitous() bool { return a.Announces() && a.SenderIP == a.TargetIP }

// VRRP is an advertisement (RFC 9568) of the virtual router's current owner.
type VRRP struct {
	Source, Destination netip.Addr
	Version, Router     int
	// Priority is 0 when the owner steps down.
	Priority int
}

const protocolVRRP = 112

// ParseVRRP returns the advertisement a frame carries over IPv4, if it does.
func ParseVRRP(f Frame) (VRRP, bool) {
	if !f.valid() || f.Type() != TypeIPv4 {
		return VRRP{}, false
	}
	b := f.Payload()
	if len(b) < 20 || b[0]>>4 != 4 || b[9] != protocolVRRP {
		return VRRP{}, false
	}
	options := int(b[0]&15) * 4
	if options < 20 || len(b) < options+8 {
		return VRRP{}, false
	}
	v := b[options:]
	if v[0]&15 != 1 { // the only type there is
		return VRRP{}, false
	}
	return VRRP{Source: netip.AddrFrom4([4]byte(b[12:16])), Destination: netip.AddrFrom4([4]byte(b[16:20])),
		Version: int(v[0] >> 4), Router: int(v[1]), Priority: int(v[2])}, true
}

// AsQuestion returns a gratuitous message as the same sender's question to a station, and every
// other frame as it is. Both tell where the sender is; not every stack believes the first form.
func AsQuestion(f Frame, to netip.Addr) Frame {
	if a, ok := ParseARP(f); !ok || !a.Gratuitous() || !to.Is4() {
		return f
	}
	out := slices.Clone(f)
	binary.BigEndian.PutUint16(out[arpOperation:], arpRequest)
	copy(out[arpTarget:], to.AsSlice())
	return out
}
