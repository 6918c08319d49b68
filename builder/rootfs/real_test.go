// SPDX-License-Identifier: Apache-2.0

package rootfs_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/initrd"
	"github.com/imgbuild/imgbuild/builder/rootfs"
	"github.com/imgbuild/imgbuild/builder/rootfs/rootfstest"
	"github.com/imgbuild/imgbuild/builder/tree"
	"github.com/imgbuild/imgbuild/firstboot/preflight"
)

// composed keeps what tests only read.
var composed = map[string]struct {
	real *rootfstest.Real
	root *tree.Tree
}{}

func compose(t testing.TB, name string) (*rootfstest.Real, *tree.Tree) {
	t.Helper()
	if c, ok := composed[name]; ok {
		return c.real, c.root
	}
	r := rootfstest.Load(t, name)
	root := composeFrom(t, r)
	composed[name] = struct {
		real *rootfstest.Real
		root *tree.Tree
	}{r, root}
	return r, root
}

func composeFrom(t testing.TB, r *rootfstest.Real) *tree.Tree {
	t.Helper()
	// The kernel's modules have tests of their own; extracting them takes a while.
	modules := tree.New()
	if err := modules.Put(tree.Node{Path: "/usr/lib/modules/test/modules.dep", Kind: tree.Regular, Mode: 0o644, Content: tree.Bytes(nil), Origin: "kernel:test"}); err != nil {
		t.Fatal(err)
	}
	root, _, err := rootfs.Compose(rootfs.Inputs{
		Profile: r.Profile, Architecture: rootfstest.Arch, Packages: r.Root, Modules: modules, Assets: r.Assets,
	})
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func TestEveryFileIsAsShippedOrExplained(t *testing.T) {
	for _, name := range []string{"controlplane", "worker"} {
		t.Run(name, func(t *testing.T) {
			r, root := compose(t, name)
			shipped := tree.New()
			for _, p := range r.Root {
				if err := p.AddTo(shipped); err != nil {
					t.Fatal(err)
				}
			}
			unexplained, unused, err := rootfs.Compare(root, shipped, rootfs.Explain(r.Profile))
			if err != nil {
				t.Fatal(err)
			}
			for _, u := range unexplained {
				t.Errorf("not explained: %s", u)
			}
			for _, d := range unused {
				if d.Aspect == rootfs.Missing {
					t.Errorf("explains nothing, delete it: %s %s (%s)", d.Aspect, d.Path, d.Reason)
				}
			}
			if shipped.Len() < 5000 {
				t.Errorf("compared only %d paths", shipped.Len())
			}
		})
	}
}

func TestComposingTwiceGivesEqualTrees(t *testing.T) {
	r, a := compose(t, "controlplane")
	b := composeFrom(t, r)
	if !slices.EqualFunc(a.Nodes(), b.Nodes(), func(x, y *tree.Node) bool {
		return x.Path == y.Path && x.Kind == y.Kind && x.Mode == y.Mode && x.UID == y.UID && x.GID == y.GID &&
			x.Target == y.Target && x.Content.SHA256 == y.Content.SHA256 && x.Origin == y.Origin
	}) {
		t.Error("two compositions of the same inputs differ")
	}
}

// firstboot accepts any role where the file is missing.
func TestImagesListTheirRoles(t *testing.T) {
	if rootfs.RolesFile != preflight.RolesFile {
		t.Errorf("images have %s, firstboot reads %s", rootfs.RolesFile, preflight.RolesFile)
	}
	for name, want := range map[string][]string{"controlplane": {"control-plane"}, "worker": {"worker"}} {
		if _, root := compose(t, name); !slices.Equal(lines(t, root, rootfs.RolesFile), want) {
			t.Errorf("%s lists %q, want %q", name, lines(t, root, rootfs.RolesFile), want)
		}
	}
}

func TestNobodyCanLogIn(t *testing.T) {
	_, root := compose(t, "controlplane")
	for _, line := range lines(t, root, "/etc/shadow") {
		if f := strings.Split(line, ":"); len(f) != 9 || f[1] != "!*" {
			t.Errorf("shadow: %q: want nine fields and a locked password", line)
		}
	}
	for _, line := range lines(t, root, "/etc/passwd") {
		if !strings.HasSuffix(line, ":/usr/sbin/nologin") {
			t.Errorf("passwd: %q: want the shell nologin", line)
		}
	}
	for _, p := range []string{"/usr/bin/login", "/usr/sbin/agetty", "/usr/bin/su", "/usr/bin/apt", "/usr/bin/dpkg", "/usr/bin/perl",
		"/usr/lib/systemd/system/getty@.service", "/usr/lib/systemd/system/debug-shell.service", "/usr/share/doc", "/usr/share/man"} {
		if root.Lookup(p) != nil {
			t.Errorf("%s is in the image", p)
		}
	}
	for _, n := range root.Nodes() {
		if n.Kind == tree.Regular && n.Mode&0o6000 != 0 {
			t.Errorf("%s has mode %04o", n.Path, n.Mode)
		}
	}
}

func TestLinksLeadSomewhere(t *testing.T) {
	_, root := compose(t, "controlplane")
	// Programs and the files that exist only at run time.
	atRunTime := []string{"/run/", "/proc/", "/dev/", "/var/", "/usr/bin/kube", "/usr/lib/ssl/"}
	for _, n := range root.Nodes() {
		if n.Kind != tree.Symlink {
			continue
		}
		final, err := root.Resolve(n.Path)
		if err != nil {
			t.Errorf("%s: %v", n.Path, err)
			continue
		}
		if root.Lookup(final) == nil && !slices.ContainsFunc(atRunTime, func(p string) bool { return strings.HasPrefix(final+"/", p) || strings.HasPrefix(final, p) }) {
			t.Errorf("%s -> %s: nothing is at %s (%s)", n.Path, n.Target, final, n.Origin)
		}
	}
}

func TestProgramsFindTheirLibraries(t *testing.T) {
	_, root := compose(t, "controlplane")
	for _, problem := range initrd.MissingLibraries(root) {
		t.Error(problem)
	}
}

func lines(t *testing.T, root *tree.Tree, p string) []string {
	t.Helper()
	n := root.Lookup(p)
	if n == nil {
		t.Fatalf("%s is missing", p)
	}
	data, err := n.Content.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, line := range bytes.Split(bytes.TrimSpace(data), []byte("\n")) {
		out = append(out, string(line))
	}
	return out
}

func BenchmarkCompose(b *testing.B) {
	r := rootfstest.Load(b, "controlplane")
	in := rootfs.Inputs{Profile: r.Profile, Architecture: rootfstest.Arch, Packages: r.Root, Assets: r.Assets}
	for b.Loop() {
		if _, _, err := rootfs.Compose(in); err != nil {
			b.Fatal(err)
		}
	}
}
