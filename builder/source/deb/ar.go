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

// arMember is one file of an ar archive. Reader is valid until the next call of next.
type arMember struct {
	Name string
	Size int64
	io.Reader
}

// arReader reads the members of an ar archive in order.
type arReader struct {
	r       io.Reader
	current *io.LimitedReader
	pad     bool
	offset  int64
}

func newArReader(r io.Reader) (*arReader, error) {
	magic := make([]byte, len(arMagic))
	if _, err := io.ReadFull(r, magic); err != nil {
		return nil, fmt.Errorf("ar archive: reading the header: %w", noEOF(err))
	}
	if string(magic) != arMagic {
		return nil, fmt.Errorf("ar archive: starts with %q, not %q", magic, arMagic)
	}
	return &arReader{r: r, offset: int64(len(arMagic))}, nil
}

// next returns the next member, or io.EOF after the last.
func (a *arReader) next() (*arMember, error) {
	if err := a.skip(); err != nil {
		return nil, err
	}
	var h [arHeaderSize]byte
	if _, err := io.ReadFull(a.r, h[:]); err != nil {
		if err == io.EOF {
			return nil, io.EOF
		}
		return nil, fmt.Errorf("ar archive: member header at offset %d: %w", a.offset, noEOF(err))
	}
	if string(h[58:]) != arHeaderEnd {
		return nil, fmt.Errorf("ar archive: member header at offset %d does not end in %q", a.offset, arHeaderEnd)
	}
	name := strings.TrimSuffix(strings.TrimRight(string(h[:16]), " "), "/")
	text := strings.TrimRight(string(h[48:58]), " ")
	size, err := strconv.ParseInt(text, 10, 64)
	if err != nil || size < 0 || text[0] == '+' {
		return nil, fmt.Errorf("ar archive: member %q at offset %d: size %q is not a decimal number", name, a.offset, text)
	}
	a.offset += arHeaderSize + size + size&1
	a.current = &io.LimitedReader{R: a.r, N: size}
	a.pad = size&1 == 1
	return &arMember{Name: name, Size: size, Reader: &fullReader{a.current}}, nil
}

// skip consumes what is left of the current member and its padding byte.
func (a *arReader) skip() error {
	if a.current == nil {
		return nil
	}
	if _, err := io.Copy(io.Discard, a.current); err != nil {
		return err
	}
	if a.current.N > 0 {
		return fmt.Errorf("ar archive: ends %d bytes before its last member does: %w", a.current.N, io.ErrUnexpectedEOF)
	}
	if a.pad {
		var b [1]byte
		if _, err := io.ReadFull(a.r, b[:]); err != nil && err != io.EOF {
			return err
		}
	}
	a.current = nil
	return nil
}

// fullReader turns a premature end of the underlying file into an error.
type fullReader struct{ l *io.LimitedReader }

func (f *fullReader) Read(p []byte) (int, error) {
	n, err := f.l.Read(p)
	if err == io.EOF && f.l.N > 0 {
		return n, io.ErrUnexpectedEOF
	}
	return n, err
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
