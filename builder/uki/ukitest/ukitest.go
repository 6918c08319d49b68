// SPDX-License-Identifier: Apache-2.0

// Package ukitest makes small EFI programs that are valid in form and do nothing, for
// tests that need a boot stub or a kernel without the packages that ship real ones.
package ukitest

import "encoding/binary"

// Program describes an EFI program.
type Program struct {
	Machine         uint16 // 0x8664 is amd64, 0xaa64 arm64
	Characteristics uint16 // DllCharacteristics; 0x0100 is NX_COMPAT
	HeaderSize      int    // room for section headers; default 1536
	Signed          bool   // has an attribute certificate table
	Text            string // the content of its only section
}

// Stub returns a program for an architecture ("amd64", "arm64").
func Stub(arch string) []byte {
	return Program{Machine: map[string]uint16{"amd64": 0x8664, "arm64": 0xaa64}[arch], Characteristics: 0x0160}.Bytes()
}

// Bytes returns the program.
func (p Program) Bytes() []byte {
	const coff, opt, sections = 0x44, 0x58, 0x58 + 240
	if p.HeaderSize == 0 {
		p.HeaderSize = 1536
	}
	if p.Text == "" {
		p.Text = "nothing to do"
	}
	b := make([]byte, p.HeaderSize+512)
	le := binary.LittleEndian
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], 0x40)
	copy(b[0x40:], "PE\x00\x00")
	le.PutUint16(b[coff:], p.Machine)
	le.PutUint16(b[coff+2:], 1)
	le.PutUint16(b[coff+16:], 240)
	le.PutUint16(b[coff+18:], 0x22e)
	le.PutUint16(b[opt:], 0x20b)
	le.PutUint32(b[opt+32:], 4096)
	le.PutUint32(b[opt+36:], 512)
	le.PutUint32(b[opt+56:], 8192)
	le.PutUint32(b[opt+60:], uint32(p.HeaderSize))
	le.PutUint16(b[opt+68:], 10) // EFI application
	le.PutUint16(b[opt+70:], p.Characteristics)
	le.PutUint32(b[opt+108:], 16)
	if p.Signed {
		le.PutUint32(b[opt+112+8*4:], uint32(len(b)))
		le.PutUint32(b[opt+112+8*4+4:], 8)
	}
	copy(b[sections:], ".text")
	le.PutUint32(b[sections+8:], uint32(len(p.Text)))
	le.PutUint32(b[sections+12:], 4096)
	le.PutUint32(b[sections+16:], 512)
	le.PutUint32(b[sections+20:], uint32(p.HeaderSize))
	le.PutUint32(b[sections+36:], 0x60000020)
	copy(b[p.HeaderSize:], p.Text)
	return b
}
