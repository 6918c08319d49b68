// SPDX-License-Identifier: Apache-2.0

package rootfs_test

import (
	"context"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/initrd"
	"github.com/imgbuild/imgbuild/builder/rootfs/rootfstest"
	"github.com/imgbuild/imgbuild/builder/tool"
	"github.com/imgbuild/imgbuild/builder/tree"
)

// stub stands for a component's program: systemd-analyze wants commands to exist.
func stub(p string) tree.Node {
	return tree.Node{Path: p, Kind: tree.Regular, Mode: 0o755, Content: tree.Bytes([]byte("#!/bin/sh\n")), Origin: "component:stub"}
}

// TestSystemdAcceptsTheUnits lets systemd's own checker read the units of both trees, as
// they are in the image, with the image's program and libraries.
func TestSystemdAcceptsTheUnits(t *testing.T) {
	r, root := compose(t, "controlplane")
	for _, p := range []string{"/usr/bin/containerd", "/usr/bin/kubelet", "/usr/bin/firstboot", "/usr/lib/imgbuild/vip-health"} {
		if err := root.Put(stub(p)); err != nil {
			t.Fatal(err)
		}
	}
	ramdisk, err := initrd.Compose(initrd.Inputs{Profile: r.Profile, Architecture: rootfstest.Arch, Packages: r.Initrd, Assets: r.Assets})
	if err != nil {
		t.Fatal(err)
	}
	rootDir := materialize(t, root)
	analyze := tool.New(rootDir)
	for _, c := range []struct {
		name, dir string
		units     []string
	}{
		{"root", rootDir, append([]string{"multi-user.target", "imgbuild-late.target", "imgbuild-late.timer", "firstboot-cni.service"}, r.Profile.Units.Enable...)},
		{"initrd", materialize(t, ramdisk), []string{"initrd.target", "initrd-switch-root.target", "emergency.service", "ignition.service", "ignition-network.service"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd, err := analyze.Command(context.Background(), "systemd-analyze", append([]string{
				"verify", "--root=" + c.dir, "--man=no", "--generators=no", "--recursive-errors=yes",
			}, c.units...)...)
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.CombinedOutput()
			for line := range strings.Lines(string(out)) {
				if !harmless(line) {
					t.Error(strings.TrimSpace(line))
				}
			}
			if err != nil && t.Failed() {
				t.Errorf("%v", err)
			}
		})
	}
}

// harmless tells what systemd-analyze says about running outside of the image.
func harmless(line string) bool {
	for _, part := range []string{
		"SO_PASSSEC failed",
	} {
		if strings.Contains(line, part) {
			return true
		}
	}
	return strings.TrimSpace(line) == ""
}

func materialize(t *testing.T, tr *tree.Tree) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), path.Base(t.Name()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := tool.Materialize(context.Background(), tr, dir); err != nil {
		t.Fatal(err)
	}
	return dir
}
