// SPDX-License-Identifier: Apache-2.0

package uki

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Offsets are those of the PE/COFF specification, revision 11. "Optional header" is its
// name for a header that every image has.
const (
	peOffsetAt   = 0x3c // in the DOS header
	coffSize     = 20
	sectionSize  = 40
	optMagic64   = 0x20b
	optMinSize   = 112 // up to the data directories
	maxSections  = 96  // the loader's limit
	maxHeader    = 64 << 10
	nxCompatible = 0x0100 // DllCharacteristics

	flagCode        = 0x00000020
	flagInitialized = 0x00000040
	flagRead        = 0x40000000

	securityDirectory = 4
)

// ErrFormat reports bytes that are not a PE32+ image that we can work with.
var ErrFormat = errors.New("not a valid EFI program")

// machines maps the COFF machine to the architecture's name.
var machines = map[uint16]string{0x8664: "amd64", 0xaa64: "arm64"}

// Section is one section of an image.
type Section struct {
	Name string
	// Offset and Size locate the section's bytes in the file.
	Offset, Size int64
	address      uint32 // where the firmware puts it
	virtualSize  uint32
}

// Image is the parsed header of an EFI program.
type Image struct {
	// Architecture is "amd64", "arm64" or "" for another machine.
	Architecture string
	Sections     []Section

	r                io.ReaderAt
	coff, opt, table int64 // offsets of COFF header, optional header, section table
	sectionAlign     uint32
	fileAlign        uint32
	headerSize       uint32
	signed           bool
}

// Parse reads the headers of an EFI program of size bytes. Every section it returns lies
// inside the file.
func Parse(r io.ReaderAt, size int64) (*Image, error) {
	head := make([]byte, min(size, maxHeader))
	if n, err := r.ReadAt(head, 0); n < len(head) {
		return nil, fmt.Errorf("reading the header: %w", err)
	}
	le := binary.LittleEndian
	if len(head) < 64 || head[0] != 'M' || head[1] != 'Z' {
		return nil, fmt.Errorf("%w: it does not begin with MZ", ErrFormat)
	}
	pe := int64(le.Uint32(head[peOffsetAt:]))
	if pe+4+coffSize+optMinSize > int64(len(head)) || string(head[pe:pe+4]) != "PE\x00\x00" {
		return nil, fmt.Errorf("%w: no PE header at offset %d", ErrFormat, pe)
	}
	im := &Image{r: r, coff: pe + 4, opt: pe + 4 + coffSize}
	coff, opt := head[im.coff:], head[im.opt:]
	im.Architecture = machines[le.Uint16(coff)]
	count, optSize := int64(le.Uint16(coff[2:])), int64(le.Uint16(coff[16:]))
	im.table = im.opt + optSize
	if optSize < optMinSize || le.Uint16(opt) != optMagic64 {
		return nil, fmt.Errorf("%w: it is not PE32+", ErrFormat)
	}
	if count > maxSections || im.table+count*sectionSize > int64(len(head)) {
		return nil, fmt.Errorf("%w: the table of %d sections does not fit the header", ErrFormat, count)
	}
	im.sectionAlign, im.fileAlign = le.Uint32(opt[32:]), le.Uint32(opt[36:])
	im.headerSize = le.Uint32(opt[60:])
	if dirs := int64(le.Uint32(opt[108:])); dirs > securityDirectory && optSize >= optMinSize+8*(securityDirectory+1) {
		im.signed = le.Uint32(opt[optMinSize+8*securityDirectory:]) != 0
	}
	for k := range count {
		s, err := parseSection(head[im.table+k*sectionSize:], size)
		if err != nil {
			return nil, err
		}
		im.Sections = append(im.Sections, s)
	}
	return im, nil
}

func parseSection(b []byte, size int64) (Section, error) {
	le := binary.LittleEndian
	s := Section{
		Name:        strings.TrimRight(string(b[:8]), "\x00"),
		virtualSize: le.Uint32(b[8:]),
		address:     le.Uint32(b[12:]),
		Size:        int64(le.Uint32(b[16:])),
		Offset:      int64(le.Uint32(b[20:])),
	}
	if s.Size > 0 && s.Offset+s.Size > size {
		return s, fmt.Errorf("%w: section %q ends at %d, the file at %d", ErrFormat, s.Name, s.Offset+s.Size, size)
	}
	// The file holds whole alignment units; the virtual size is the content's own.
	s.Size = min(s.Size, int64(s.virtualSize))
	return s, nil
}

// Section returns the section of that name, or nil.
func (im *Image) Section(name string) *Section {
	for k := range im.Sections {
		if im.Sections[k].Name == name {
			return &im.Sections[k]
		}
	}
	return nil
}

// Open returns a reader over the named section, or an error when there is none.
func (im *Image) Open(name string) (*io.SectionReader, error) {
	s := im.Section(name)
	if s == nil {
		return nil, fmt.Errorf("%w: it has no section %s", ErrFormat, name)
	}
	return io.NewSectionReader(im.r, s.Offset, s.Size), nil
}

// Text returns a section of at most 64 KiB as text.
func (im *Image) Text(name string) (string, error) {
	r, err := im.Open(name)
	if err != nil {
		return "", err
	}
	if r.Size() > 64<<10 {
		return "", fmt.Errorf("%w: section %s has %d bytes, more than any text of an image", ErrFormat, name, r.Size())
	}
	b, err := io.ReadAll(r)
	return strings.TrimRight(string(b), "\x00\n"), err
}
