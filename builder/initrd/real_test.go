// SPDX-License-Identifier: Apache-2.0

package initrd_test

import (
	"path"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/initrd"
	"github.com/imgbuild/imgbuild/builder/profile"
	"github.com/imgbuild/imgbuild/builder/rootfs/rootfstest"
	"github.com/imgbuild/imgbuild/builder/tree"
)

func composeReal(t testing.TB) *tree.Tree {
	t.Helper()
	r := rootfstest.Load(t, "controlplane")
	out, err := initrd.Compose(initrd.Inputs{Profile: r.Profile, Architecture: rootfstest.Arch, Packages: r.Initrd, Assets: r.Assets})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestEveryProgramFindsItsLibraries(t *testing.T) {
	out := composeReal(t)
	for _, problem := range initrd.MissingLibraries(out) {
		t.Error(problem)
	}
	for _, p := range []string{"/init", "/usr/lib/systemd/systemd", "/usr/bin/systemd-repart", "/usr/sbin/mkfs.ext4", "/usr/lib/imgbuild/ignition"} {
		final, err := out.Resolve(p)
		if err != nil || out.Lookup(final) == nil {
			t.Errorf("%s is missing (%v)", p, err)
		}
	}
	// The kernel would start it for every optional algorithm while it starts itself.
	if out.Lookup("/usr/sbin/modprobe") != nil {
		t.Error("/usr/sbin/modprobe is in the initrd")
	}
	if size := out.Size(); size > 40<<20 {
		t.Errorf("%d MiB without modules: every byte is unpacked at every start", size>>20)
	}
}

func TestUnitsAreThereWithTheirPrograms(t *testing.T) {
	out := composeReal(t)
	checked := 0
	for _, n := range out.Nodes() {
		dir := path.Dir(n.Path)
		if n.Kind == tree.Symlink && (strings.HasSuffix(dir, ".wants") || strings.HasSuffix(dir, ".requires")) {
			if final, err := out.Resolve(n.Path); err != nil || out.Lookup(final) == nil {
				t.Errorf("%s -> %s leads nowhere", n.Path, n.Target)
			}
		}
		if dir != "/usr/lib/systemd/system" || path.Ext(n.Path) != ".service" || n.Kind != tree.Regular {
			continue
		}
		data, err := n.Content.ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			command, ok := strings.CutPrefix(strings.TrimSpace(line), "ExecStart=")
			if !ok || command == "" {
				continue
			}
			checked++
			program := strings.TrimLeft(strings.Fields(command)[0], "-@:+!")
			if !programExists(out, program) {
				t.Errorf("%s runs %s, which is not in the initrd", n.Path, program)
			}
		}
	}
	if checked < 15 {
		t.Errorf("checked only %d commands", checked)
	}
}

func programExists(t *tree.Tree, program string) bool {
	dirs := []string{""}
	if !path.IsAbs(program) {
		dirs = []string{"/usr/sbin", "/usr/bin"}
	}
	for _, dir := range dirs {
		if final, err := t.Resolve(path.Join("/", dir, program)); err == nil && t.Lookup(final) != nil {
			return true
		}
	}
	return false
}

func TestComposeReportsWhatIsMissing(t *testing.T) {
	r := rootfstest.Load(t, "controlplane")
	p := *r.Profile
	p.Initrd = profile.Initrd{Files: []string{"/usr/bin/no-such-file", "/usr/bin/also-not"}}
	_, err := initrd.Compose(initrd.Inputs{Profile: &p, Architecture: rootfstest.Arch, Packages: r.Initrd, Assets: r.Assets})
	for _, want := range []string{"initrd, step files", `"/usr/bin/no-such-file" matches nothing`, `"/usr/bin/also-not" matches nothing`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q: %v", want, err)
		}
	}
}
