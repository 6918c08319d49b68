// SPDX-License-Identifier: Apache-2.0

// Package uki assembles and reads unified kernel images: one EFI program that carries
// kernel, initrd, command line and os-release as sections appended to systemd's stub, as
// the UAPI group's Unified Kernel Image specification describes. Since the command line
// holds the root hash, this one file decides which root a machine will accept.
package uki

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Spec is what a unified kernel image is made of.
type Spec struct {
	// Stub is systemd's linuxx64.efi.stub or linuxaa64.efi.stub.
	Stub []byte
	// OSRelease is the text of os-release; boot menus show its name and version.
	OSRelease []byte
	// CommandLine is passed to the kernel. One line, no control characters.
	CommandLine string
	// Uname is the kernel release ("6.12.48+deb13-amd64").
	Uname string
	// Linux is the kernel, itself an EFI program. Initrd is a cpio archive, compressed or not.
	Linux, Initrd []byte
}

// Assemble returns the image in pieces that follow each other. The large ones are those of
// the spec, so that kernel and initrd are not copied. Equal inputs give equal bytes.
func Assemble(s Spec) ([][]byte, error) {
	stub, err := Parse(bytes.NewReader(s.Stub), int64(len(s.Stub)))
	if err != nil {
		return nil, fmt.Errorf("stub: %w", err)
	}
	kernel, err := Parse(bytes.NewReader(s.Linux), int64(len(s.Linux)))
	if err != nil {
		return nil, fmt.Errorf("kernel: %w", err)
	}
	if err := s.check(stub, kernel); err != nil {
		return nil, err
	}
	// The kernel comes last: nothing behind it can be in the way when it is unpacked.
	sections := []added{
		{".osrel", s.OSRelease, flagInitialized},
		{".cmdline", []byte(s.CommandLine), flagInitialized},
		{".uname", []byte(s.Uname), flagInitialized},
		{".initrd", s.Initrd, flagInitialized},
		{".linux", s.Linux, flagCode},
	}
	out, err := stub.append(s.Stub, sections)
	if err != nil {
		return nil, err
	}
	// A program that claims to keep data and code apart must not start one that does not.
	le := binary.LittleEndian
	if le.Uint16(s.Linux[kernel.opt+70:])&nxCompatible == 0 {
		at := out[0][stub.opt+70:]
		le.PutUint16(at, le.Uint16(at)&^nxCompatible)
	}
	return out, nil
}

func (s Spec) check(stub, kernel *Image) error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch {
	case stub.Architecture == "":
		add("stub: unknown machine type, want the stub for amd64 or arm64")
	case stub.Architecture != kernel.Architecture:
		add("the stub is for %s but the kernel for %q", stub.Architecture, kernel.Architecture)
	}
	if stub.signed {
		add("stub: it carries a signature, which adding sections would break; use the unsigned one")
	}
	if i := strings.IndexFunc(s.CommandLine, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfffd }); i >= 0 {
		add("command line: byte %d is a control character or not UTF-8", i)
	}
	for _, part := range []struct {
		name string
		size int
	}{{"os-release", len(s.OSRelease)}, {"command line", len(s.CommandLine)}, {"uname", len(s.Uname)}, {"initrd", len(s.Initrd)}} {
		if part.size == 0 {
			add("%s is empty", part.name)
		}
	}
	return errors.Join(errs...)
}

// added is a section to append.
type added struct {
	name  string
	data  []byte
	flags uint32
}

// append returns the image with sections behind its own, the first piece with all headers.
// Addresses follow the last section and file offsets the end of the file, each at the
// image's own alignment.
func (im *Image) append(image []byte, sections []added) ([][]byte, error) {
	for _, a := range []uint32{im.sectionAlign, im.fileAlign} {
		if a == 0 || a&(a-1) != 0 || a > 1<<20 {
			return nil, fmt.Errorf("%w: alignment %d is not a power of two", ErrFormat, a)
		}
	}
	tableEnd := im.table + int64(len(im.Sections)+len(sections))*sectionSize
	var address uint64
	for _, s := range im.Sections {
		address = max(address, uint64(s.address)+uint64(s.virtualSize))
		if s.Size > 0 && s.Offset < tableEnd {
			return nil, fmt.Errorf("%w: no room for %d more section headers", ErrFormat, len(sections))
		}
		if im.hasName(sections, s.Name) {
			return nil, fmt.Errorf("%w: the stub has a section %s already", ErrFormat, s.Name)
		}
	}
	if room := min(int64(im.headerSize), int64(len(image))); tableEnd > room {
		return nil, fmt.Errorf("%w: no room for %d more section headers in %d bytes", ErrFormat, len(sections), room)
	}
	size := align(uint64(len(image)), im.fileAlign)
	for _, s := range sections {
		size += align(uint64(len(s.data)), im.fileAlign)
	}
	if size > 1<<31 {
		return nil, fmt.Errorf("the unified kernel image would have %d bytes, firmware loads at most 2 GiB", size)
	}
	head := make([]byte, align(uint64(len(image)), im.fileAlign))
	copy(head, image)
	out, offset := [][]byte{head}, uint64(len(head))
	le := binary.LittleEndian
	var initialized uint32
	for k, s := range sections {
		address = align(address, im.sectionAlign)
		h := head[im.table+int64(len(im.Sections)+k)*sectionSize:][:sectionSize]
		clear(h)
		copy(h, s.name)
		le.PutUint32(h[8:], uint32(len(s.data)))
		le.PutUint32(h[12:], uint32(address))
		padded := align(uint64(len(s.data)), im.fileAlign)
		le.PutUint32(h[16:], uint32(padded))
		le.PutUint32(h[20:], uint32(offset))
		le.PutUint32(h[36:], s.flags|flagRead)
		out = append(out, s.data, make([]byte, padded-uint64(len(s.data))))
		address += uint64(len(s.data))
		offset += padded
		initialized += uint32(len(s.data))
	}
	le.PutUint16(head[im.coff+2:], uint16(len(im.Sections)+len(sections)))
	opt := head[im.opt:]
	le.PutUint32(opt[8:], le.Uint32(opt[8:])+initialized)
	le.PutUint32(opt[56:], uint32(align(address, im.sectionAlign))) // SizeOfImage
	le.PutUint32(opt[64:], 0)                                       // CheckSum: firmware does not look at it
	return out, nil
}

func (im *Image) hasName(sections []added, name string) bool {
	for _, s := range sections {
		if s.name == name {
			return true
		}
	}
	return false
}

func align(n uint64, to uint32) uint64 { return (n + uint64(to) - 1) &^ (uint64(to) - 1) }
