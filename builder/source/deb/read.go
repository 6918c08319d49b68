// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxControl bounds control.tar, which holds scripts and metadata only.
const maxControl = 64 << 20

// readDeb walks a binary package in the format of deb(5): debian-binary, control.tar and
// data.tar, in that order. It hands each part to its callback as a tar stream.
func readDeb(r io.ReaderAt, size int64, control, data func(*tar.Reader) error) error {
	ar, err := newArReader(r, size)
	if err != nil {
		return err
	}
	m, err := ar.next()
	if err != nil {
		return noEOF(err)
	}
	if m.Name != "debian-binary" {
		return fmt.Errorf("first member is %q, not \"debian-binary\"", m.Name)
	}
	version, err := io.ReadAll(io.LimitReader(m, 64))
	if err != nil {
		return err
	}
	if !strings.HasPrefix(string(version), "2.") {
		return fmt.Errorf("format version %q is not 2.x", strings.TrimSpace(string(version)))
	}
	if err := readPart(ar, "control.tar", control); err != nil {
		return err
	}
	return readPart(ar, "data.tar", data)
}

// readPart finds the next member called base plus a compression suffix. Members whose
// name starts with an underscore are for other tools and skipped, as deb(5) asks.
func readPart(ar *arReader, base string, use func(*tar.Reader) error) error {
	for {
		m, err := ar.next()
		if err == io.EOF {
			return fmt.Errorf("has no %s", base)
		}
		if err != nil {
			return err
		}
		if strings.HasPrefix(m.Name, "_") {
			continue
		}
		suffix, ok := strings.CutPrefix(m.Name, base)
		if !ok {
			return fmt.Errorf("member %q is where %s should be", m.Name, base)
		}
		r, err := decompress(suffix, m.SectionReader)
		if err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
		err = use(tar.NewReader(r))
		if err == nil {
			// Read to the end: the compressed stream's own checksum is there.
			_, err = io.Copy(io.Discard, r)
		}
		if err = errors.Join(err, r.Close()); err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
		return nil
	}
}

// readControl keeps the small files of control.tar by name: "control", "conffiles",
// "md5sums", "postinst" and so on.
func readControl(tr *tar.Reader) (map[string]string, error) {
	out := map[string]string{}
	var total int64
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if total += h.Size; total > maxControl {
			return nil, fmt.Errorf("holds more than %d bytes", maxControl)
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			return nil, err
		}
		out[strings.TrimPrefix(h.Name, "./")] = string(b)
	}
}
