// SPDX-License-Identifier: Apache-2.0

package ethernet

import (
	"encoding/binary"
	"slices"
)

// VLAN is the identifier of a virtual LAN, 1 to 4094 (IEEE 802.1Q, 9.6).
type VLAN uint16

const (
	typeVLAN = 0x8100
	tagSize  = 4
	// idMask leaves priority and drop eligibility out.
	idMask = 0x0fff
)

// tag returns the frame as it crosses a link that carries several VLANs.
func (f Frame) tag(id VLAN) Frame {
	if !f.valid() {
		return f
	}
	out := slices.Grow(Frame(nil), len(f)+tagSize)
	out = binary.BigEndian.AppendUint16(append(out, f[:12]...), typeVLAN)
	return append(binary.BigEndian.AppendUint16(out, uint16(id)), f[12:]...)
}

// tagged is what a tagged frame holds.
type tagged struct {
	id    VLAN
	frame Frame
}

// untag takes the tag off; ok says whether there was one.
func (f Frame) untag() (t tagged, ok bool) {
	if len(f) < headerSize+tagSize || f.Type() != typeVLAN {
		return t, false
	}
	t.id = VLAN(binary.BigEndian.Uint16(f[14:16]) & idMask)
	t.frame = append(slices.Clone(f[:12]), f[16:]...)
	return t, true
}
