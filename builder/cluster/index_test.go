// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// instead replaces parts of a cluster file that have to be there.
func instead(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for p := range slices.Chunk(pairs, 2) {
		if !strings.Contains(text, p[0]) {
			t.Fatalf("the cluster file does not say %q", p[0])
		}
		text = strings.Replace(text, p[0], p[1], 1)
	}
	return text
}

// Whoever gives a cluster machines finds in the index what they have to have and who else has
// to be there.
func TestIndexSaysWhatHostsNeed(t *testing.T) {
	const vipAt, linkAt = "  # interface: auto                 # auto: that", "  # interface: auto                 # auto: the one"
	for _, c := range []struct {
		name    string
		instead []string
		want    string
	}{
		{"starter", nil, "keepalived [192.168.100.1] [] []"},
		{"no address", []string{"mode: vip ", "mode: direct ", "  provider: keepalived ", "  provider: none ", "  address: 192.168.100.10\n", ""}, " [192.168.100.1] [] []"},
		{"external", []string{"provider: keepalived ", "provider: external ", "dns: [192.168.100.1]", "dns: [192.0.2.1, 192.0.2.2]"}, "external [192.0.2.1 192.0.2.2] [] []"},
		{"named uplink", []string{linkAt, "  interface: eno1 #"}, "keepalived [192.168.100.1] [{eno1 hostNetwork.interface}] [{eno1 hostNetwork.interface}]"},
		{"named members", []string{linkAt, "  bond: {members: [eno1, eno2]} #"}, "keepalived [192.168.100.1] [{eno1 hostNetwork.bond.members}] [{eno1 hostNetwork.bond.members}]"},
		{"one member by its address", []string{linkAt, "  bond: {members: [eno1, \"52:54:00:64:00:0b\"]} #"}, "keepalived [192.168.100.1] [] []"},
		{"named address", []string{vipAt, "  interface: eno7 #"}, "keepalived [192.168.100.1] [{eno7 vip.interface}] []"},
		{"made by the host", []string{linkAt, "  bond: {members: [\"52:54:00:64:00:0b\"]}\n  vlan: 7 #", vipAt, "  interface: vlan7 #",
			"  # manifests: [network.yaml]", "  interface: bond0"}, "keepalived [192.168.100.1] [] []"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			rendered(t, parse(t, instead(t, starter(t, 1, 1), c.instead...)), dir)
			ix, err := ReadIndex(dir)
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(ix.VIPProvider, " ", ix.DNS, " ", ix.Hosts[0].Interfaces, " ", ix.Hosts[1].Interfaces); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// A proxy that a killed run left in the kubeconfig goes with the next rendering; the user's
// certificate stays.
func TestRenderDropsAStaleProxy(t *testing.T) {
	dir := t.TempDir()
	s := parse(t, starter(t, 1, 1))
	rendered(t, s, dir)
	before := read(t, dir, KubeconfigFile)
	stale := instead(t, before, "    server: ", "    proxy-url: http://127.0.0.1:40001\n    server: ")
	if err := os.WriteFile(filepath.Join(dir, KubeconfigFile), []byte(stale), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := actions(rendered(t, s, dir))[KubeconfigFile]; got != Changed {
		t.Errorf("the kubeconfig is %q", got)
	}
	if after := read(t, dir, KubeconfigFile); after != before {
		t.Errorf("the kubeconfig is not what it was; does it name the proxy: %t", strings.Contains(after, "proxy-url"))
	}
}
