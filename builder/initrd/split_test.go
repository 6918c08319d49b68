// SPDX-License-Identifier: Apache-2.0

package initrd

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"slices"
	"testing"

	"github.com/cavaliergopher/cpio"
	"github.com/imgbuild/imgbuild/builder/tree"
)

// mixed returns a tree with nodes of every origin.
func mixed(t testing.TB) *tree.Tree {
	t.Helper()
	out := tree.New()
	for _, n := range []tree.Node{
		{Path: "/etc", Kind: tree.Directory, Mode: 0o700, Origin: "step:skeleton"},
		{Path: "/bin", Kind: tree.Symlink, Mode: 0o777, Target: "usr/bin", Origin: "step:skeleton"},
		{Path: "/usr/bin/tool", Kind: tree.Regular, Mode: 0o755, Content: tree.Bytes([]byte("tool")), Origin: "deb:tools"},
		{Path: "/etc/tool.conf", Kind: tree.Regular, Mode: 0o644, Content: tree.Bytes([]byte("of the package")), Origin: "deb:tools"},
		{Path: "/usr/bin/agent", Kind: tree.Regular, Mode: 0o755, Content: tree.Bytes([]byte("agent")), Origin: "component:agent"},
		{Path: "/usr/lib/units/a.service", Kind: tree.Regular, Mode: 0o644, Content: tree.Bytes([]byte("[Unit]")), Origin: "initrd:node"},
	} {
		if err := out.Put(n); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestSplitLosesNothing(t *testing.T) {
	whole := mixed(t)
	large, small, err := Split(whole)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"/", "/etc", "/etc/tool.conf", "/usr", "/usr/bin", "/usr/bin/agent", "/usr/bin/tool"}; !slices.Equal(large.Paths(), want) {
		t.Errorf("large: %q, want %q", large.Paths(), want)
	}
	if want := []string{"/", "/bin", "/etc", "/usr", "/usr/lib", "/usr/lib/units", "/usr/lib/units/a.service"}; !slices.Equal(small.Paths(), want) {
		t.Errorf("small: %q, want %q", small.Paths(), want)
	}
	for _, part := range []*tree.Tree{large, small} {
		for _, n := range part.Nodes() {
			if !reflect.DeepEqual(n, whole.Lookup(n.Path)) {
				t.Errorf("%s: %+v, want %+v", n.Path, n, whole.Lookup(n.Path))
			}
		}
	}
}

// What follows the compressed archive is read by the kernel when it begins at a multiple of
// four, with the magic number of cpio; so does what the boot stub appends behind that.
func TestSmallPartFollowsTheLarge(t *testing.T) {
	large, small, err := Split(mixed(t))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := Write(&b, large); err != nil {
		t.Fatal(err)
	}
	begin := b.Len()
	if err := WriteCPIO(&b, small); err != nil {
		t.Fatal(err)
	}
	if begin%4 != 0 || b.Len()%4 != 0 {
		t.Errorf("the small part is at %d and ends at %d", begin, b.Len())
	}
	rest := b.Bytes()[begin:]
	if !bytes.HasPrefix(rest, []byte("070701")) {
		t.Errorf("the small part begins with %q", rest[:6])
	}
	var got []string
	for r := cpio.NewReader(bytes.NewReader(rest)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, "/"+h.Name)
	}
	if !slices.Equal(got, small.Paths()[1:]) {
		t.Errorf("members %q, want %q", got, small.Paths()[1:])
	}
}

func TestCompressedKeyIsOfTheBytes(t *testing.T) {
	key := func(change func(*tree.Node)) string {
		out := tree.New()
		n := tree.Node{Path: "/a", Kind: tree.Regular, Mode: 0o644, Content: tree.Bytes([]byte("a")), Origin: "deb:a"}
		change(&n)
		if err := out.Put(n); err != nil {
			t.Fatal(err)
		}
		return string(CompressedKey(out))
	}
	same := key(func(*tree.Node) {})
	if key(func(n *tree.Node) { n.Origin = "deb:b" }) != same {
		t.Error("the origin of a file changes the key of its bytes")
	}
	for name, change := range map[string]func(*tree.Node){
		"path":    func(n *tree.Node) { n.Path = "/b" },
		"mode":    func(n *tree.Node) { n.Mode = 0o600 },
		"owner":   func(n *tree.Node) { n.UID = 1 },
		"group":   func(n *tree.Node) { n.GID = 1 },
		"content": func(n *tree.Node) { n.Content = tree.Bytes([]byte("b")) },
		"kind":    func(n *tree.Node) { n.Kind, n.Content = tree.Directory, tree.Content{} },
		"target":  func(n *tree.Node) { n.Target = "x" },
	} {
		if key(change) == same {
			t.Errorf("another %s has the same key", name)
		}
	}
}
