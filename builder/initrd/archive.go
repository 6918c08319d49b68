// SPDX-License-Identifier: Apache-2.0

package initrd

import (
	"fmt"
	"io"
	"time"

	"github.com/cavaliergopher/cpio"
	"github.com/imgbuild/imgbuild/builder/tree"
)

// Write stores t as a newc cpio archive, the form the kernel unpacks
// (Documentation/driver-api/early-userspace/buffer-format.rst). It is not compressed: images
// are compressed as a whole when they travel, where what is compressed already costs more,
// and nothing has to be unpacked at each start. The archive ends where another one may
// begin, since the boot stub appends its own. The same tree gives the same bytes: order is
// the tree's, times are 0, inode numbers count up.
func Write(w io.Writer, t *tree.Tree) error {
	cw := cpio.NewWriter(w)
	inode := int64(0)
	for _, n := range t.Nodes() {
		if n.Path == "/" {
			continue
		}
		inode++
		h := &cpio.Header{
			Name: n.Path[1:], Inode: inode, Links: 1, Uid: int(n.UID), Guid: int(n.GID),
			Mode: cpio.FileMode(n.Mode), ModTime: time.Unix(0, 0),
		}
		if err := writeNode(cw, h, n); err != nil {
			return fmt.Errorf("initrd: %s: %w", n.Path, err)
		}
	}
	return cw.Close()
}

func writeNode(cw *cpio.Writer, h *cpio.Header, n *tree.Node) error {
	switch n.Kind {
	case tree.Directory:
		h.Mode |= cpio.TypeDir
		h.Links = 2
		return cw.WriteHeader(h)
	case tree.Symlink:
		h.Mode |= cpio.TypeSymlink
		h.Size, h.Linkname = int64(len(n.Target)), n.Target
		if err := cw.WriteHeader(h); err != nil {
			return err
		}
		_, err := io.WriteString(cw, n.Target)
		return err
	case tree.Regular:
		h.Mode |= cpio.TypeReg
		h.Size = n.Content.Size
		if err := cw.WriteHeader(h); err != nil {
			return err
		}
		r, err := n.Content.Open()
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = io.Copy(cw, r)
		return err
	}
	return fmt.Errorf("a %s cannot be in the initrd", n.Kind)
}
