// SPDX-License-Identifier: Apache-2.0

// Package ethernet is one Ethernet segment in memory: a learning switch whose ports are Unix
// sockets that QEMU's "-netdev stream" connects to, or functions of this process. No other
// process sees the segment, and a test can cut, delay, thin out and watch every link.
//
// Time, randomness and chance are the caller's: ageing reads Options.Now, and which frames a
// lossy link drops follows from Options.Seed.
package ethernet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
)

// MAC is a hardware address (IEEE 802).
type MAC [6]byte

// Broadcast addresses everyone on a segment.
var Broadcast = MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// ParseMAC reads the forms that net.ParseMAC does, of six bytes.
func ParseMAC(s string) (MAC, error) {
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != len(MAC{}) {
		return MAC{}, fmt.Errorf("%q is not a hardware address of six bytes, such as 52:54:00:12:34:56", s)
	}
	return MAC(hw), nil
}

// String writes an address as 52:54:00:12:34:56.
func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// Group says whether the address stands for several stations: multicast or broadcast.
func (m MAC) Group() bool { return m[0]&1 != 0 }

// linkLocal says whether the address belongs to protocols between neighbours, which a bridge
// does not forward (IEEE 802.1Q, table 8-1).
func (m MAC) linkLocal() bool {
	return m[0] == 0x01 && m[1] == 0x80 && m[2] == 0xc2 && m[3] == 0 && m[4] == 0 && m[5] < 0x10
}

// Frame is an Ethernet frame from destination address to payload, without preamble and
// checksum. Frames are shared between ports and never changed.
type Frame []byte

// The sizes of frames in bytes. MaxFrame is what QEMU keeps room for.
const (
	headerSize = 14
	MaxFrame   = 4096 + 64<<10
	lengthSize = 4
)

// The values of the type field that matter here.
const (
	TypeIPv4 = 0x0800
	TypeARP  = 0x0806
)

// Dst is the address the frame goes to.
func (f Frame) Dst() MAC { return MAC(f[0:6]) }

// Src is the address the frame comes from.
func (f Frame) Src() MAC { return MAC(f[6:12]) }

// Type is what the payload is.
func (f Frame) Type() uint16 { return binary.BigEndian.Uint16(f[12:14]) }

// Payload is what follows the header.
func (f Frame) Payload() []byte { return f[headerSize:] }

// valid says whether the frame has a header.
func (f Frame) valid() bool { return len(f) >= headerSize && len(f) <= MaxFrame }

// ErrFrame reports a stream that does not carry frames.
var ErrFrame = errors.New("not a stream of Ethernet frames")

// ReadFrame reads a frame as QEMU's stream backend sends it: the length as 4 bytes in network
// order, then that many bytes. The error is io.EOF only between frames. Frames shorter than
// a header are returned; a length that no frame has is ErrFrame.
func ReadFrame(r io.Reader) (Frame, error) {
	var length [lengthSize]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > MaxFrame {
		return nil, fmt.Errorf("%w: a frame of %d bytes, at most %d are possible", ErrFrame, n, MaxFrame)
	}
	f := make(Frame, n)
	if _, err := io.ReadFull(r, f); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return f, nil
}

// AppendFrame appends a frame in the form that ReadFrame reads.
func AppendFrame(b []byte, f Frame) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(f))), f...)
}
