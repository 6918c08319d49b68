// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/rootfs/rootfstest"
	"github.com/imgbuild/imgbuild/builder/tree"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/preflight"
)

// TestImagesHaveTheModulesOfEveryProxyMode holds the modules that firstboot looks for against
// those that the profiles select from the kernel package.
func TestImagesHaveTheModulesOfEveryProxyMode(t *testing.T) {
	for _, name := range []string{"controlplane", "worker"} {
		real := rootfstest.Load(t, name)
		all := tree.New()
		for _, p := range real.Root {
			if err := p.AddTo(all); err != nil {
				t.Fatal(err)
			}
		}
		release, err := Release(all)
		if err != nil {
			t.Fatal(err)
		}
		paths := map[string]string{}
		for _, n := range all.Nodes() {
			rel, ok := strings.CutPrefix(n.Path, path.Join(Root, release)+"/kernel/")
			if stem, module := moduleStem(rel); ok && module {
				paths[stem] = Name(stem)
			}
		}
		builtin, err := builtins(all, path.Join(Root, release))
		if err != nil {
			t.Fatal(err)
		}
		selected, err := match(paths, builtin, real.Profile.Kernel.Modules)
		if err != nil {
			t.Fatal(err)
		}
		for _, mode := range []node.ProxyMode{node.ProxyNFTables, node.ProxyIPTables, node.ProxyIPVS, node.ProxyUpstream} {
			for _, m := range preflight.ProxyModules(mode) {
				if !slices.Contains(selected, m) && !slices.Contains(slices.Collect(maps.Values(builtin)), m) {
					t.Errorf("%s: kube-proxy's mode %s needs %s", name, mode, m)
				}
			}
		}
	}
}
