// SPDX-License-Identifier: Apache-2.0

package fat

import (
	"encoding/binary"
	"time"
)

func (v *volume) encodeDirectory(n *node) []byte {
	var out []byte
	if n.parent == nil {
		if v.opts.Label != "" {
			out = append(out, v.record(label(v.opts.Label), attrVolume, 0, 0)...)
		}
	} else {
		up := n.parent.first
		if n.parent.parent == nil {
			up = 0 // the root's number is not written here
		}
		out = append(out, v.record([11]byte([]byte(".          ")), attrDirectory, n.first, 0)...)
		out = append(out, v.record([11]byte([]byte("..         ")), attrDirectory, up, 0)...)
	}
	for _, c := range n.children {
		out = append(out, c.long...)
		attr := uint8(attrArchive)
		if c.dir {
			attr = attrDirectory
		}
		out = append(out, v.record(c.short, attr, c.first, c.file.Size())...)
	}
	return out
}

// record returns a short directory record.
func (v *volume) record(name [11]byte, attr uint8, first int64, size int64) []byte {
	b := make([]byte, entrySize)
	le := binary.LittleEndian
	day, second := dosTime(v.opts.Time)
	copy(b, name[:])
	b[11] = attr
	le.PutUint16(b[14:], second) // created
	le.PutUint16(b[16:], day)
	le.PutUint16(b[18:], day) // accessed
	le.PutUint16(b[20:], uint16(first>>16))
	le.PutUint16(b[22:], second) // written
	le.PutUint16(b[24:], day)
	le.PutUint16(b[26:], uint16(first))
	le.PutUint32(b[28:], uint32(size))
	return b
}

// dosTime returns date and time of day; years outside 1980 to 2107 become the nearest.
func dosTime(t time.Time) (day, second uint16) {
	t = t.UTC()
	switch {
	case t.Year() < 1980:
		t = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	case t.Year() > 2107:
		t = time.Date(2107, 12, 31, 23, 59, 58, 0, time.UTC)
	}
	day = uint16((t.Year()-1980)<<9 | int(t.Month())<<5 | t.Day())
	return day, uint16(t.Hour()<<11 | t.Minute()<<5 | t.Second()/2)
}
