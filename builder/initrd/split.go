// SPDX-License-Identifier: Apache-2.0

package initrd

import (
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/imgbuild/imgbuild/builder/store"
	"github.com/imgbuild/imgbuild/builder/tree"
)

// compressFormat goes up when the same tree is compressed to other bytes: by another level,
// block size or version of the LZ4 library.
const compressFormat = 1

// Split cuts an initial RAM disk in two. Large holds what comes out of packages, components
// and the kernel: nearly all bytes, compressed once and kept. Small holds what the profile,
// the assets and this package add, which is what people edit. The kernel unpacks archives
// that stand one after the other into the same place, so both together are t. Directories
// above a node are in the part of the node.
func Split(t *tree.Tree) (large, small *tree.Tree, err error) {
	large, small = tree.New(), tree.New()
	var problems []error
	for _, n := range t.Nodes() {
		to := large
		if ours(n.Origin) {
			to = small
		}
		problems = append(problems, putBelow(to, t, n))
	}
	return large, small, errors.Join(problems...)
}

// putBelow puts a node of t into another tree, after the directories above it.
func putBelow(to, t *tree.Tree, n *tree.Node) error {
	if dir := path.Dir(n.Path); to.Lookup(dir) == nil {
		if err := putBelow(to, t, t.Lookup(dir)); err != nil {
			return err
		}
	}
	return to.Put(*n)
}

// ours tells nodes that Compose made itself from those it copied.
func ours(origin string) bool {
	return strings.HasPrefix(origin, originSteps) || strings.HasPrefix(origin, originProfile)
}

// CompressedKey names what Write makes of t. It depends on nothing but the bytes that go
// into the archive, so changed code or another profile with the same files finds it too.
func CompressedKey(t *tree.Tree) store.Key {
	var values []string
	for _, n := range t.Nodes() {
		values = append(values, n.Path, fmt.Sprintf("%s %o %d:%d %d", n.Kind, n.Mode, n.UID, n.GID, n.Content.Size), n.Target, hex.EncodeToString(n.Content.SHA256[:]))
	}
	return store.NewKey("initrd-archive", compressFormat, values...)
}
