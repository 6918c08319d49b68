// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// The layout of an ar archive as deb(5) and ar(5) describe it: a global header, then
// members, each a 60 byte header followed by its bytes, padded to an even offset.
const (
	arMagic      = "!<arch>\n"
	arHeaderSize = 60
	arHeaderEnd  = "`\n"
)

// arMember is one file of an ar archive.
type arMember struct {
	Name string
	*io.SectionReader
}

// arReader walks the members of an ar archive in order.
type arReader struct {
	r            io.ReaderAt
	offset, size int64
}

// newArReader reads the archive of size bytes in r.
func newArReader(r io.ReaderAt, size int64) (*arReader, error) {
	magic := make([]byte, len(arMagic))
	if size < int64(len(magic)) {
		return nil, fmt.Errorf("ar archive: has only %d bytes", size)
	}
	if _, err := r.ReadAt(magic, 0); err != nil {
		return nil, fmt.Errorf("ar archive: %w", noEOF(err))
	}
	if string(magic) != arMagic {
		return nil, fmt.Errorf("ar archive: starts with %q, not %q", magic, arMagic)
	}
	return &arReader{r: r, offset: int64(len(arMagic)), size: size}, nil
}

// next returns the next member, or io.EOF after the last. The padding byte of the last
// member may be missing, as some writers leave it out.
func (a *arReader) next() (*arMember, error) {
	if a.offset >= a.size {
		return nil, io.EOF
	}
	if a.size-a.offset < arHeaderSize {
		return nil, fmt.Errorf("ar archive: member header at offset %d: %w", a.offset, io.ErrUnexpectedEOF)
	}
	var h [arHeaderSize]byte
	if _, err := a.r.ReadAt(h[:], a.offset); err != nil && err != io.EOF {
		return nil, fmt.Errorf("ar archive: member header at offset %d: %w", a.offset, err)
	}
	if string(h[58:]) != arHeaderEnd {
		return nil, fmt.Errorf("ar archive: member header at offset %d does not end in %q", a.offset, arHeaderEnd)
	}
	name := strings.TrimSuffix(strings.TrimRight(string(h[:16]), " "), "/")
	text := strings.TrimRight(string(h[48:58]), " ")
	size, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return nil, fmt.Errorf("ar archive: member %q at offset %d: size %q is not a decimal number", name, a.offset, text)
	}
	start := a.offset + arHeaderSize
	if int64(size) > a.size-start {
		return nil, fmt.Errorf("ar archive: member %q at offset %d has %d bytes, but only %d follow: %w", name, a.offset, size, a.size-start, io.ErrUnexpectedEOF)
	}
	a.offset = start + int64(size) + int64(size&1)
	return &arMember{Name: name, SectionReader: io.NewSectionReader(a.r, start, int64(size))}, nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
