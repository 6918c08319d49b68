// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"archive/tar"
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/imgbuild/imgbuild/builder/tree"
)

// The files of an unpacked package in the store. Contents holds the bytes of every
// regular file one after the other, so that composing a tree of many packages opens one
// file per package and stats none.
const (
	contentsFile = "contents"
	indexFile    = "index.json"
	// unpackVersion is part of the store key; raise it when the form changes.
	unpackVersion = 1
)

// Entry is one path of a package.
type Entry struct {
	Path   string    `json:"path"` // absolute and clean, as shipped (not usr-merged)
	Kind   tree.Kind `json:"kind"`
	Mode   uint32    `json:"mode"`
	UID    uint32    `json:"uid,omitempty"`
	GID    uint32    `json:"gid,omitempty"`
	User   string    `json:"user,omitempty"`
	Group  string    `json:"group,omitempty"`
	Target string    `json:"target,omitempty"` // of a symbolic link
	// HardLink is the path this one shares its inode with; the content fields are set.
	HardLink string            `json:"hardLink,omitempty"`
	Size     int64             `json:"size,omitempty"`
	Offset   int64             `json:"offset,omitempty"`
	SHA256   string            `json:"sha256,omitempty"`
	Major    uint32            `json:"major,omitempty"`
	Minor    uint32            `json:"minor,omitempty"`
	Xattrs   map[string][]byte `json:"xattrs,omitempty"`
}

// index is the content of indexFile.
type index struct {
	Package string            `json:"package"`
	Version string            `json:"version"`
	Control map[string]string `json:"control"`
	Entries []Entry           `json:"entries"`
}

// unpack reads the binary package of size bytes in r and writes its unpacked form into dir.
func unpack(r io.ReaderAt, size int64, dir string) error {
	out, err := os.OpenFile(filepath.Join(dir, contentsFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	w := &contentWriter{w: bufio.NewWriterSize(out, 1<<20), byPath: map[string]int{}}
	var ix index
	err = readDeb(r, size,
		func(tr *tar.Reader) (err error) { ix.Control, err = readControl(tr); return err },
		w.readData)
	if err != nil {
		return err
	}
	ix.Entries = w.entries
	fields, err := parseControl(ix.Control["control"])
	if err != nil {
		return err
	}
	ix.Package, ix.Version = fields.Get("Package"), fields.Get("Version")
	if err := errors.Join(w.w.Flush(), out.Close()); err != nil {
		return err
	}
	data, err := json.Marshal(ix)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, indexFile), data, 0o644)
}

// parseControl returns the only paragraph of a package's control file.
func parseControl(text string) (Paragraph, error) {
	var out Paragraph
	n := 0
	err := Paragraphs("control", text, false, func(p Paragraph) error {
		out = append(Paragraph(nil), p...)
		n++
		return nil
	})
	if err == nil && n != 1 {
		err = fmt.Errorf("control: has %d paragraphs, want 1", n)
	}
	return out, err
}

// contentWriter collects the entries of a data.tar and appends their bytes to one file.
type contentWriter struct {
	w       *bufio.Writer
	offset  int64
	entries []Entry
	byPath  map[string]int
}

func (c *contentWriter) readData(tr *tar.Reader) error {
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := c.add(h, tr); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

func (c *contentWriter) add(h *tar.Header, r io.Reader) error {
	p, err := entryPath(h.Name)
	if err != nil {
		return err
	}
	if _, dup := c.byPath[p]; dup {
		return fmt.Errorf("is in the archive twice")
	}
	e := Entry{Path: p, Mode: uint32(h.Mode) & 0o7777, UID: uint32(h.Uid), GID: uint32(h.Gid), User: h.Uname, Group: h.Gname, Xattrs: xattrs(h)}
	switch h.Typeflag {
	case tar.TypeDir:
		e.Kind = tree.Directory
	case tar.TypeSymlink:
		e.Kind, e.Target, e.Mode = tree.Symlink, h.Linkname, 0o777
	case tar.TypeReg:
		e.Kind = tree.Regular
		if err := c.copy(&e, r); err != nil {
			return err
		}
	case tar.TypeLink:
		target, err := entryPath(h.Linkname)
		if err != nil {
			return err
		}
		i, ok := c.byPath[target]
		if !ok || c.entries[i].Kind != tree.Regular {
			return fmt.Errorf("is a hard link to %s, which is not a file earlier in the archive", target)
		}
		e = c.entries[i] // same inode: mode, owner and content are shared
		e.Path, e.HardLink = p, target
	case tar.TypeChar, tar.TypeBlock:
		e.Kind, e.Major, e.Minor = tree.CharDevice, uint32(h.Devmajor), uint32(h.Devminor)
		if h.Typeflag == tar.TypeBlock {
			e.Kind = tree.BlockDevice
		}
	case tar.TypeFifo:
		e.Kind = tree.Fifo
	default:
		return fmt.Errorf("tar entry type %q is not supported", h.Typeflag)
	}
	c.byPath[p] = len(c.entries)
	c.entries = append(c.entries, e)
	return nil
}

func (c *contentWriter) copy(e *Entry, r io.Reader) error {
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(c.w, sum), r)
	if err != nil {
		return err
	}
	e.Offset, e.Size, e.SHA256 = c.offset, n, hex.EncodeToString(sum.Sum(nil))
	c.offset += n
	return nil
}

// entryPath turns a name such as "./usr/bin/ls" into "/usr/bin/ls" and refuses names
// that would leave the root.
func entryPath(name string) (string, error) {
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", fmt.Errorf("path %q leaves the package's root", name)
		}
	}
	if strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("path %q holds a zero byte", name)
	}
	return path.Clean("/" + name), nil
}

// xattrs returns the extended attributes that a PAX header carries.
func xattrs(h *tar.Header) map[string][]byte {
	var out map[string][]byte
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			if out == nil {
				out = map[string][]byte{}
			}
			out[name] = []byte(value)
		}
	}
	return out
}
