// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// kernel is a machine with a kernel that has some modules built in, and loads those that are
// listed, a moment after it was asked to, except some.
func kernel(t *testing.T, builtin, refused []string) (*State, *[]string) {
	t.Helper()
	s, units := endpointState(t, func(n *node.Node) { n.Cluster.ProxyMode = node.ProxyIPVS })
	index := "kernel/" + strings.Join(builtin, ".ko\nkernel/") + ".ko\n"
	if _, err := kubeadm.WriteFiles(s.Root, kubeadm.File{Path: "/proc/sys/kernel/osrelease", Mode: 0o644, Data: []byte("6.12.0-test\n")},
		kubeadm.File{Path: "/usr/lib/modules/6.12.0-test/modules.builtin", Mode: 0o644, Data: []byte(index)}); err != nil {
		t.Fatal(err)
	}
	s.Poll = time.Millisecond
	s.RestartUnit = func(_ context.Context, unit string) error {
		*units = append(*units, "restart "+unit)
		wanted := strings.Fields(content(t, s, modulesFile))
		time.AfterFunc(20*time.Millisecond, func() {
			for _, name := range wanted {
				if slices.Contains(builtin, name) || slices.Contains(refused, name) {
					continue
				}
				if err := os.MkdirAll(s.path("/sys/module/"+name), 0o755); err != nil {
					t.Error(err)
				}
			}
		})
		return nil
	}
	return s, units
}

// The modules of ipvs are loaded when it is chosen and stay listed for later boots; no other mode
// leaves a list. The phase ends when they are there. One that is built in is.
func TestModulesAreLoadedWhenChosen(t *testing.T) {
	s, units := kernel(t, []string{"ip_vs", "dummy"}, nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 2 {
		if err := loadModules(ctx, s); err != nil {
			t.Fatal(err)
		}
		if s.absent("/sys/module/xt_set") {
			t.Error("it did not wait")
		}
	}
	if want := []string{"restart " + modulesUnit}; !slices.Equal(*units, want) {
		t.Errorf("%q, want %q", *units, want)
	}
	lines := strings.Fields(content(t, s, modulesFile))
	for _, want := range []string{"ip_vs", "ip_vs_rr", "ip_set_hash_ipport", "xt_set", "dummy"} {
		if !slices.Contains(lines, want) {
			t.Errorf("%s is not loaded", want)
		}
	}
	s.Node.Cluster.ProxyMode = node.ProxyNFTables
	if err := loadModules(t.Context(), s); err != nil || !s.absent(modulesFile) {
		t.Errorf("the list is left: %v", err)
	}
}

// A module that the kernel refuses is named, however often the phase runs.
func TestModulesThatAreNotLoaded(t *testing.T) {
	s, units := kernel(t, []string{"dummy"}, []string{"ip_vs_sh", "xt_set"})
	for try := range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		err := loadModules(ctx, s)
		cancel()
		if err == nil || !strings.Contains(err.Error(), "does not load ip_vs_sh, xt_set;") || len(*units) != try+1 {
			t.Errorf("%v after %q", err, *units)
		}
	}
}
