// SPDX-License-Identifier: Apache-2.0

// Package layout checks the shape of the repository: who may import whom, and what may
// stand at the top level.
package layout

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/imgbuild/imgbuild/"

// layers lists the packages from the top down. A package may import only packages of
// layers below its own. Prefixes stand for everything under them.
var layers = [][]string{
	{"builder/cmd/imgbuild", "firstboot/cmd/firstboot", "firstboot/cmd/vip-health", "test", "scripts"},
	{"builder/cli", "firstboot/cmd/verbs"},
	{"builder/build"},
	{"builder/plan", "builder/lock/resolve", "builder/initrd", "builder/inspect", "builder/vm"},
	{"builder/rootfs", "builder/disk", "builder/timeline", "builder/cluster", "builder/vm/ethernet"},
	{"builder/seal", "builder/uki"},
	{"builder/source/deb", "builder/source/gomod", "builder/source/release"},
	{"builder/source/fetch", "builder/lock"},
	{"builder/tool", "builder/profile", "builder/manifest"},
	{"builder/store"},
	{"builder/tree"},
	{"builder/progress", "builder/fault"},
	{"firstboot/phases"},
	{"firstboot/check", "firstboot/status", "firstboot/preflight"},
	{"firstboot/host"},
	{"firstboot/cluster", "firstboot/containerd", "firstboot/discovery", "firstboot/etcd", "firstboot/phase"},
	{"firstboot/addons"},
	{"firstboot/vip", "firstboot/balancer", "firstboot/endpoint"},
	{"firstboot/manifests"},
	{"firstboot/kubeconfig"},
	{"firstboot/pki"},
	{"firstboot/kubeadm", "firstboot/baseimage"},
	{"firstboot/node"},
	{"firstboot/strict", "firstboot/ignition"},
	{"assets"},
}

// layerOf returns the layer with the longest name that holds pkg.
func layerOf(pkg string) int {
	found, length := -1, 0
	for layer, names := range layers {
		for _, name := range names {
			if (pkg == name || strings.HasPrefix(pkg, name+"/")) && len(name) > length {
				found, length = layer, len(name)
			}
		}
	}
	return found
}

func TestImportsPointDownwards(t *testing.T) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd, err)
	}
	seen := 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; seen++ {
		var pkg struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&pkg); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		from := strings.TrimPrefix(pkg.ImportPath, module)
		layer := layerOf(from)
		if layer < 0 {
			t.Errorf("%s is in no layer: add it to the list in this file and to docs/architecture.md", from)
			continue
		}
		for _, imported := range pkg.Imports {
			to, ours := strings.CutPrefix(imported, module)
			if !ours || sameGroup(from, to) {
				continue
			}
			if below := layerOf(to); below <= layer {
				t.Errorf("%s (layer %d) imports %s (layer %d): imports point downwards only", from, layer, to, below)
			}
			if strings.HasPrefix(from, "firstboot/") && strings.HasPrefix(to, "builder/") {
				t.Errorf("%s imports %s: what runs in the image does not depend on what builds it", from, to)
			}
		}
	}
	if seen < 10 {
		t.Fatalf("only %d packages listed: the check looked in the wrong place", seen)
	}
}

// sameGroup allows a package and its own sub-packages to know each other.
func sameGroup(a, b string) bool {
	return strings.HasPrefix(a, b+"/") || strings.HasPrefix(b, a+"/") ||
		strings.HasPrefix(a, "test/") && strings.HasPrefix(b, "test/")
}

func TestTopLevel(t *testing.T) {
	allowed := []string{".ci", ".gitignore", ".gitattributes", "LICENSE", "Makefile", "README.md", "assets", "builder",
		"docs", "firstboot", "go.mod", "go.sum", "profiles", "scripts", "test"}
	cmd := exec.Command("git", "ls-files")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		if _, statErr := os.Stat("../../.git"); statErr != nil {
			t.Skip("not a git checkout")
		}
		t.Fatal(err)
	}
	for _, file := range strings.Fields(string(out)) {
		top, _, _ := strings.Cut(file, "/")
		if !slices.Contains(allowed, top) {
			t.Errorf("%s: %q is not part of the fixed top level %v", file, top, allowed)
		}
	}
}
