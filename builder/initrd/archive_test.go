// SPDX-License-Identifier: Apache-2.0

package initrd

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"
	"github.com/imgbuild/imgbuild/builder/tree"
)

func sample(t testing.TB) *tree.Tree {
	t.Helper()
	out := tree.New()
	big := bytes.Repeat([]byte("0123456789abcdef"), 4097)
	for _, n := range []tree.Node{
		{Path: "/usr/bin/tool", Kind: tree.Regular, Mode: 0o755, Content: tree.Bytes([]byte("#!/bin/sh\n"))},
		{Path: "/bin", Kind: tree.Symlink, Mode: 0o777, Target: "usr/bin"},
		{Path: "/usr/lib/big", Kind: tree.Regular, Mode: 0o644, Content: tree.Bytes(big)},
		{Path: "/etc/empty", Kind: tree.Regular, Mode: 0o600, UID: 1, GID: 2, Content: tree.Bytes(nil)},
	} {
		if err := out.Put(n); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestArchiveHoldsTheTree(t *testing.T) {
	want := sample(t)
	var b bytes.Buffer
	if err := Write(&b, want); err != nil {
		t.Fatal(err)
	}
	if b.Len()%4 != 0 {
		t.Errorf("%d bytes: an archive behind this one would not be aligned", b.Len())
	}
	r := cpio.NewReader(&b)
	var order []string
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		order = append(order, "/"+h.Name)
		n := want.Lookup("/" + h.Name)
		if n == nil {
			t.Fatalf("%s is not in the tree", h.Name)
		}
		if uint32(h.Mode)&0o7777 != n.Mode || uint32(h.Uid) != n.UID || uint32(h.Guid) != n.GID || h.ModTime.Unix() != 0 || h.Linkname != n.Target {
			t.Errorf("%s: header %+v, node %+v", h.Name, h, n)
		}
		if n.Kind == tree.Regular {
			data, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(data, n.Content.Data) {
				t.Errorf("%s: %d bytes differ from the tree's %d", h.Name, len(data), n.Content.Size)
			}
		}
	}
	if got, want := strings.Join(order, " "), strings.Join(want.Paths()[1:], " "); got != want {
		t.Errorf("order %s, want %s", got, want)
	}
}

func TestArchiveIsReproducible(t *testing.T) {
	var a, b bytes.Buffer
	if err := errors.Join(Write(&a, sample(t)), Write(&b, sample(t))); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("two archives of equal trees differ")
	}
}

func TestArchiveRefusesDevices(t *testing.T) {
	tr := tree.New()
	if err := tr.Put(tree.Node{Path: "/dev/null", Kind: tree.CharDevice, Mode: 0o666, Major: 1, Minor: 3}); err != nil {
		t.Fatal(err)
	}
	if err := Write(io.Discard, tr); err == nil || !strings.Contains(err.Error(), "/dev/null: a character device cannot be in the initrd") {
		t.Errorf("error %v", err)
	}
}
