// SPDX-License-Identifier: Apache-2.0

package seal_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/seal"
	"github.com/imgbuild/imgbuild/builder/tree"
)

// measure returns how much room a tree takes.
func measure(tr *tree.Tree, opts seal.Options) (seal.Sizes, error) {
	p, err := seal.NewPlan(tr, opts)
	if err != nil {
		return seal.Sizes{}, err
	}
	return p.Sizes(), nil
}

// writeRoot plans and writes a tree.
func writeRoot(ctx context.Context, data, hash io.WriterAt, tr *tree.Tree, opts seal.Options) (seal.Root, error) {
	p, err := seal.NewPlan(tr, opts)
	if err != nil {
		return seal.Root{}, err
	}
	return p.Write(ctx, data, hash)
}

// put adds a node or fails the test.
func put(t testing.TB, tr *tree.Tree, n tree.Node) {
	t.Helper()
	if err := tr.Put(n); err != nil {
		t.Fatal(err)
	}
}

func file(path string, data []byte) tree.Node {
	return tree.Node{Path: path, Kind: tree.Regular, Mode: 0o644, Content: tree.Bytes(data)}
}

// noise returns n bytes that differ for every seed and never compress to holes.
func noise(seed uint64, n int) []byte {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(b) // never fails
	return b
}

// sample returns a tree with one of everything the format distinguishes.
func sample(t testing.TB) *tree.Tree {
	t.Helper()
	tr := tree.New()
	for _, n := range []int{0, 1, 31, 4000, 4031, 4032, 4033, 4095, 4096, 4097, 8191, 8192, 12345, 1<<20 - 1, 1 << 20, 1<<20 + 1, 9<<20 + 17} {
		put(t, tr, file(fmt.Sprintf("/sizes/%d", n), noise(1, n)))
	}
	put(t, tr, file("/twins/a", noise(2, 10000)))
	put(t, tr, file("/twins/b", noise(2, 10000)))
	put(t, tr, file("/twins/c", noise(2, 10000)))
	put(t, tr, tree.Node{Path: "/bin/su", Kind: tree.Regular, Mode: 0o4755, Content: tree.Bytes([]byte("#!"))})
	put(t, tr, tree.Node{Path: "/tmp", Kind: tree.Directory, Mode: 0o1777})
	put(t, tr, tree.Node{Path: "/big/ids", Kind: tree.Regular, Mode: 0o600, UID: 100000, GID: 4000000000, Content: tree.Bytes([]byte("x"))})
	put(t, tr, tree.Node{Path: "/big/dir", Kind: tree.Directory, Mode: 0o2750, UID: 5, GID: 70000})
	put(t, tr, tree.Node{Path: "/bin/ping", Kind: tree.Regular, Mode: 0o755, Content: tree.Bytes(noise(3, 5000)),
		Xattrs: map[string][]byte{"security.capability": {1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, "user.note": []byte("hello"), "trusted.empty": {}}})
	put(t, tr, tree.Node{Path: "/link", Kind: tree.Symlink, Target: "usr/lib"})
	put(t, tr, tree.Node{Path: "/longlink", Kind: tree.Symlink, Target: strings.Repeat("a/", 2047)})
	put(t, tr, tree.Node{Path: "/almost", Kind: tree.Symlink, Target: strings.Repeat("b", 4060)})
	put(t, tr, tree.Node{Path: "/dev/null", Kind: tree.CharDevice, Mode: 0o666, Major: 1, Minor: 3})
	put(t, tr, tree.Node{Path: "/dev/big", Kind: tree.BlockDevice, Mode: 0o660, Major: 259, Minor: 70000})
	put(t, tr, tree.Node{Path: "/dev/pipe", Kind: tree.Fifo, Mode: 0o600})
	for k := range 600 { // several directory blocks
		put(t, tr, file(fmt.Sprintf("/many/%s-%03d", strings.Repeat("n", k%40), k), nil))
	}
	for _, name := range []string{"!", "#x", "-a", "..a", "+", strings.Repeat("z", 255), "ü", "a b"} {
		put(t, tr, file("/odd/"+name, []byte(name)))
	}
	// Content that lies somewhere inside a larger file, as unpacked packages do.
	pack := filepath.Join(t.TempDir(), "pack")
	body := bytes.Join([][]byte{noise(4, 777), noise(5, 70000)}, nil)
	if err := os.WriteFile(pack, body, 0o600); err != nil {
		t.Fatal(err)
	}
	c := tree.Bytes(body[777:])
	c.Data, c.File, c.Offset = nil, pack, 777
	put(t, tr, tree.Node{Path: "/packed", Kind: tree.Regular, Mode: 0o644, Content: c})
	return tr
}
