// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"slices"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/firstboot/node"
)

// The modules of ipvs are loaded when it is chosen and stay listed for later boots; no other mode
// leaves a list.
func TestModulesAreLoadedWhenChosen(t *testing.T) {
	s, units := endpointState(t, func(n *node.Node) { n.Cluster.ProxyMode = node.ProxyIPVS })
	for range 2 {
		if err := loadModules(t.Context(), s); err != nil {
			t.Fatal(err)
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
