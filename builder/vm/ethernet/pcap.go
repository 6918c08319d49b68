// SPDX-License-Identifier: Apache-2.0

package ethernet

import (
	"encoding/binary"
	"io"
	"sync"
)

// Capture writes frames as a pcap file, version 2.4 with nanoseconds (draft-ietf-opsawg-pcap),
// for Wireshark and its kin. Its See is a tap.
type Capture struct {
	mu  sync.Mutex
	w   io.Writer
	buf []byte
	err error
}

// The fields of a pcap file.
const (
	pcapNanoseconds = 0xa1b23c4d
	pcapEthernet    = 1
)

// NewCapture writes the file's header. Each frame is one write.
func NewCapture(w io.Writer) *Capture {
	c := &Capture{w: w}
	h := binary.LittleEndian.AppendUint32(nil, pcapNanoseconds)
	h = binary.LittleEndian.AppendUint16(h, 2)
	h = binary.LittleEndian.AppendUint16(h, 4)
	h = binary.LittleEndian.AppendUint64(h, 0) // time zone and accuracy, both unused
	h = binary.LittleEndian.AppendUint32(h, MaxFrame)
	h = binary.LittleEndian.AppendUint32(h, pcapEthernet)
	_, c.err = w.Write(h)
	return c
}

// See adds a frame.
func (c *Capture) See(s Seen) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	b := binary.LittleEndian.AppendUint32(c.buf[:0], uint32(s.At.Unix()))
	b = binary.LittleEndian.AppendUint32(b, uint32(s.At.Nanosecond()))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(s.Frame)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(s.Frame)))
	c.buf = append(b, s.Frame...)
	_, c.err = c.w.Write(c.buf)
}

// Err is the first error of writing.
func (c *Capture) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}
